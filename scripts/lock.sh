#!/usr/bin/env bash
# Write the lock files from pyproject.toml: the exact versions of every image and of the tests.
#
# One resolution serves Python 3.11 (the oldest allowed) and later. What is locked already
# stays as it is; `lock.sh --upgrade` moves everything to the newest version.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "$0")/../deploy/lib.sh"

uv_version=0.13.9
cd "$root_dir"
tool=build/lock-venv
[ -x "$tool/bin/uv" ] || { python3 -m venv "$tool" && "$tool/bin/pip" install -q "uv==$uv_version"; }
# uv brings certificates of its own; the machine's are the ones that work on its network.
export UV_NATIVE_TLS=1
lock() {
    local name=$1
    shift
    say "Locking deploy/images/locks/$name.txt"
    "$tool/bin/uv" pip compile --quiet --universal --python-version 3.11 --no-header --no-emit-package tmpnb-cluster \
        --generate-hashes --extra "$name" "$@" pyproject.toml -o "deploy/images/locks/$name.txt"
}
lock dev "$@"
# The images hold what the tests ran with.
for name in frontend agent proxy; do
    lock "$name" --constraint deploy/images/locks/dev.txt "$@"
done
say "Locking deploy/images/jupyter/requirements.txt"
"$tool/bin/uv" pip compile --quiet --universal --python-version 3.13 --no-header --generate-hashes "$@" \
    deploy/images/jupyter/requirements.in -o deploy/images/jupyter/requirements.txt

#!/usr/bin/env bash
# Make .venv for the tests and linters from deploy/images/locks/dev.txt; remade only when the lock or
# the interpreter changes.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "$0")/../deploy/lib.sh"

venv=$root_dir/.venv
lock=$deploy_dir/images/locks/dev.txt

# Debian's python3 comes without ensurepip.
python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3 python3-venv
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "Python 3.11 or later is needed."

stamp=$(python3 -VV | sha256sum - "$lock" | sha256sum)
[ "$(cat "$venv/.stamp" 2>/dev/null)" != "$stamp" ] || exit 0
say "Making .venv from deploy/images/locks/dev.txt"
rm -rf "$venv"
python3 -m venv "$venv"
[ -z "${TMPNB_CA_BUNDLE:-}" ] || export PIP_CERT=$TMPNB_CA_BUNDLE
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$lock"
echo "$stamp" >"$venv/.stamp"

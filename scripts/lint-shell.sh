#!/usr/bin/env bash
# Check our shell scripts.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "$0")/../deploy/lib.sh"

if ! command -v shellcheck >/dev/null 2>&1; then
    is_root_on_debian || { say "shellcheck is not installed: the shell scripts are not checked" && exit 0; }
    apt_install shellcheck
fi
cd "$root_dir"
find deploy proxy scripts .ci -name '*.sh' -print0 | xargs -0 shellcheck -x .ci/run deploy/tmpnb

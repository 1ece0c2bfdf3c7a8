#!/usr/bin/env bash
# Make a command present that tests or benchmarks need: have.sh COMMAND PACKAGE...
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "$0")/../deploy/lib.sh"

command -v "$1" >/dev/null 2>&1 || apt_install "${@:2}"

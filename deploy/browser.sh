#!/usr/bin/env bash
# Make the distribution's Chromium present for the end-to-end tests.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "$0")/lib.sh"

command -v chromium >/dev/null 2>&1 || apt_install chromium fonts-dejavu-core

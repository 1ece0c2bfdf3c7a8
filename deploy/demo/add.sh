#!/usr/bin/env bash
# Add one host to the running demo: the next number.
set -euo pipefail
# shellcheck source=deploy/demo/lib.sh
. "$(dirname "$0")/lib.sh"
load_env
find_control_ip

last=$(hosts | tail -n 1)
[ -n "$last" ] || die "The demo does not run: 'make demo' first."
"$deploy_dir/demo/host.sh" $((last + 1))
wait_for_servers $((last + 1))

#!/usr/bin/env bash
# Remove the demo: every host with all that runs in it, then the control plane.
set -euo pipefail
# shellcheck source=deploy/demo/lib.sh
. "$(dirname "$0")/lib.sh"

docker info >/dev/null 2>&1 || die "No Docker Engine answers, so nothing of ours runs on it."
containers=$(docker ps --all --quiet --filter "label=$label")
if [ -n "$containers" ]; then
    say "Removing $(wc -l <<<"$containers") hosts"
    xargs docker rm --force --volumes <<<"$containers" >/dev/null
fi
"$deploy_dir/machine/down.sh"

#!/usr/bin/env bash
# Show where the demo answers, and (without "urls") its services and hosts.
set -euo pipefail
# shellcheck source=deploy/demo/lib.sh
. "$(dirname "$0")/lib.sh"

"$deploy_dir/machine/status.sh" urls
if [ "${1:-}" != urls ]; then
    echo
    docker ps --all --filter "label=$label" --format 'table {{.Names}}\t{{.Status}}'
    echo
    "$deploy_dir/tmpnb" hosts
fi
cat <<END
    Command line  COMPOSE_PROJECT_NAME=$COMPOSE_PROJECT_NAME deploy/tmpnb hosts
    One more host make demo-add
END

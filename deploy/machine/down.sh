#!/usr/bin/env bash
# Remove every container, network and volume of this cluster on this machine, user servers
# included. Images, .env and everything of others stay.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "$0")/../lib.sh"

docker info >/dev/null 2>&1 || die "No Docker Engine answers, so nothing of ours runs on it."
[ ! -f "$root_dir/.env" ] || load_env
# Compose refuses to read its file without these, although it only removes things now.
export TMPNB_RABBITMQ_PASSWORD=${TMPNB_RABBITMQ_PASSWORD:-none} TMPNB_SECRET_KEY=${TMPNB_SECRET_KEY:-none} \
    ADMIN_AUTH_TOKEN=${ADMIN_AUTH_TOKEN:-none} TMPNB_ERLANG_COOKIE=${TMPNB_ERLANG_COOKIE:-none} \
    TMPNB_GOSSIP_KEY=${TMPNB_GOSSIP_KEY:-none}
# All that there may be, whatever is set now.
export TMPNB_HA=1 TMPNB_MONITORING=1 TMPNB_DOMAIN=${TMPNB_DOMAIN:-none} TMPNB_TLS=acme TMPNB_ACME_ENV_FILE=/dev/null
label=label=tmpnb.cluster=${TMPNB_CLUSTER:-main}

say "Removing the cluster's services"
# The agent goes with them; only then is it certain that no server is started any more.
compose down --volumes --remove-orphans --timeout 10 2>&1 | grep -v -E '(ing|Stopped)$' || [ "${PIPESTATUS[0]}" = 0 ]

# A start that was under way at Docker when its agent went can still bring one to light.
for _ in 1 2; do
    servers=$(docker ps --all --quiet --filter "$label")
    [ -n "$servers" ] || break
    say "Removing $(wc -l <<<"$servers") server containers"
    xargs --max-procs 4 --max-args 5 docker rm --force --volumes <<<"$servers" >/dev/null
done
# On a busy machine a start comes to light still later, and the Engine takes its time to let go of the network.
remove_network() {
    docker ps --all --quiet --filter "$label" | xargs --no-run-if-empty docker rm --force --volumes >/dev/null &&
        docker network ls --quiet --filter "$label" | xargs --no-run-if-empty docker network rm >/dev/null 2>&1
}
for _ in 1 2 3 4 5 6; do
    ! remove_network || break
    sleep 0.5
done
# Engine 20.10 now and then counts an endpoint too many when a container is renamed (a claim) while others come and go,
# and keeps the network until it is restarted.
[ -z "$(docker network ls --quiet --filter "$label")" ] ||
    say "The Docker Engine does not let go of the servers' network; the next 'make up' uses it again"
docker volume ls --quiet --filter "$label" | xargs --no-run-if-empty docker volume rm >/dev/null
"$deploy_dir/machine/firewall.sh" off

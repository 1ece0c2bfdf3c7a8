#!/usr/bin/env bash
# Show where the cluster answers, and (without "urls") what runs.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "$0")/../lib.sh"
load_env

public=http://$(public_host):${TMPNB_PORT:-8000}/
[ -n "${TMPNB_BIND:-}" ] || public="$public (and every address of this machine)"
if [ "${1:-}" != urls ]; then
    compose ps --all --format 'table {{.Service}}\t{{.Status}}\t{{.Ports}}'
    servers=$(docker ps --quiet --filter "label=tmpnb.cluster=${TMPNB_CLUSTER:-main}" | wc -l)
    printf '\n%s server containers on this machine\n' "$servers"
fi
cat <<END

    Servers       $public
    Consul's UI   http://127.0.0.1:${TMPNB_CONSUL_PORT:-8500}/ui/
    RabbitMQ's UI http://127.0.0.1:${TMPNB_RABBITMQ_UI_PORT:-15672}/ (user tmpnb, password: TMPNB_RABBITMQ_PASSWORD in .env)
    Admin API     http://127.0.0.1:${TMPNB_ADMIN_PORT:-10000}/ (token: ADMIN_AUTH_TOKEN in .env)
END

#!/usr/bin/env bash
# Show where the cluster answers, and (without "urls") what runs.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "$0")/../lib.sh"
load_env

port=${TMPNB_PORT:-8000}
admin="http://127.0.0.1:${TMPNB_ADMIN_PORT:-10000}/"
servers=http://$(public_host):$port/
[ -n "${TMPNB_BIND:-}" ] || servers="$servers (and every address of this machine)"
if is_encrypted; then
    suffix=
    [ "${TMPNB_HTTPS_PORT:-443}" = 443 ] || suffix=:$TMPNB_HTTPS_PORT
    servers="https://$TMPNB_DOMAIN$suffix/ (port $port leads there)"
    admin="$admin and https://${TMPNB_ADMIN_DOMAIN:-${TMPNB_ADMIN_BIND:-127.0.0.1}}:${TMPNB_ADMIN_TLS_PORT:-10443}/"
fi
if [ "${1:-}" != urls ]; then
    compose ps --all --format 'table {{.Service}}\t{{.Status}}\t{{.Ports}}'
    count=$(docker ps --quiet --filter "label=tmpnb.cluster=${TMPNB_CLUSTER:-main}" | wc -l)
    printf '\n%s server containers on this machine\n' "$count"
fi
cat <<END

    Servers       $servers
    Consul's UI   http://127.0.0.1:${TMPNB_CONSUL_PORT:-8500}/ui/
    RabbitMQ's UI http://127.0.0.1:${TMPNB_RABBITMQ_UI_PORT:-15672}/ (user tmpnb, password: TMPNB_RABBITMQ_PASSWORD in .env)
    Admin API     $admin (token: ADMIN_AUTH_TOKEN in .env)
END
if is_encrypted; then
    printf '\n    Certificates (those with ! need you: docs/operations.md, "TLS")\n'
    compose exec -T sync cat /run/tmpnb/certificates.txt 2>/dev/null | sed 's/^/    /' ||
        echo "    not known: the sync does not run"
fi

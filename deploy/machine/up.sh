#!/usr/bin/env bash
# Bring the cluster up on this machine and wait until a server is ready. A second run finds
# everything in place and changes nothing.
#
#   up.sh [control]     (control: without an agent, and without waiting for servers)
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "$0")/../lib.sh"

# From images in place to the first ready server; a pull of the notebook image comes before.
ready_timeout_s=${TMPNB_READY_TIMEOUT:-240}

"$deploy_dir/machine/engine.sh"
"$deploy_dir/machine/env.sh"
load_env
host=$(public_host)
! uses_acme || "$deploy_dir/machine/certificate.sh" check
"$deploy_dir/images/build.sh"

if is_encrypted && [ "${TMPNB_TLS:-acme}" = files ]; then
    [ -n "${TMPNB_CERTS:-}" ] || die "TMPNB_TLS=files, but TMPNB_CERTS is not set: the folder (an absolute path) with your certificates."
    case $TMPNB_CERTS in /*) ;; *) die "TMPNB_CERTS: '$TMPNB_CERTS'; accepted: an absolute path of a folder with *.pem" ;; esac
    [ -d "$TMPNB_CERTS" ] || die "TMPNB_CERTS: '$TMPNB_CERTS' is no folder on this machine."
fi

# Containers read these as users of their own; a strict umask at checkout must not matter.
chmod -R a+rX "$deploy_dir/config/rabbitmq" "$deploy_dir/config/consul" "$deploy_dir/ha" "$deploy_dir/config/monitoring" "$deploy_dir/config/pools.toml" "$root_dir/proxy/haproxy"

"$deploy_dir/machine/firewall.sh" on

scale=()
[ "${1:-}" != control ] || scale=(--scale agent=0)
say "Starting RabbitMQ, Consul, HAProxy, frontend, admin, culler$([ ${#scale[@]} -gt 0 ] || echo ', agent')"
# Compose leaves alone what it is not told of any more.
uses_acme || COMPOSE_PROFILES=acme compose rm --stop --force acme >/dev/null 2>&1 || true
compose up "${scale[@]}" --detach --remove-orphans --quiet-pull 2>&1 |
    grep -v -E ' (Creating|Created|Starting|Waiting|Healthy|Running|Recreate|Recreated)$' || [ "${PIPESTATUS[0]}" = 0 ]

# Compose does not see that a mounted file has changed since its container started.
restart_if_older() {
    local service=$1 folder=$2 started
    started=$(compose ps --quiet "$service" | xargs docker inspect --format '{{.State.StartedAt}}')
    if [ -n "$(find "$folder" -type f -newermt "$started")" ]; then
        say "Restarting $service: its configuration has changed"
        compose restart "$service" 2>/dev/null
    fi
}
if [ -z "${TMPNB_HA:-}" ]; then
    restart_if_older rabbitmq "$deploy_dir/config/rabbitmq"
    restart_if_older consul "$deploy_dir/config/consul"
fi
restart_if_older haproxy "$root_dir/proxy/haproxy"
[ -z "${TMPNB_MONITORING:-}" ] || restart_if_older prometheus "$deploy_dir/config/monitoring"

! uses_acme || "$deploy_dir/machine/certificate.sh" wait
[ "${1:-}" != control ] || exit 0
say "Waiting for a ready server (at most $ready_timeout_s s)"
command -v python3 >/dev/null 2>&1 || apt_install python3
url=http://$host:${TMPNB_PORT:-8000}
! is_encrypted || url=https://$host:${TMPNB_HTTPS_PORT:-443}
if ! "$deploy_dir/machine/wait_ready.py" "$url" "$ready_timeout_s" "${COMPOSE_PROJECT_NAME:-tmpnb}"; then
    compose ps --all >&2
    # Without our own questions, and without the escape that some versions of Compose put before lines.
    compose logs --no-color --tail 15 frontend admin culler agent sync haproxy |
        grep -v '"view": "/api/stats"' | sed 's/\x1b\[2K//' >&2 || true
    die "No server became ready. The whole logs: make logs. Everything away: make down."
fi
"$deploy_dir/machine/status.sh" urls

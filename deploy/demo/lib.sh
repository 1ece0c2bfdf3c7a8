# shellcheck shell=bash
# What the scripts of the demo share: its names, its ports, its hosts. Sourced, never run.
#
# The demo is the control plane of docker-compose.cluster.yml without an agent, and hosts 1..N
# beside it: containers in the same network, each with a Docker Engine and an agent of its own.

# shellcheck source=deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

# Beside a cluster of `make up`, whose .env may name its ports: the demo's are set before that is
# read. Any of them can be given in the environment.
export COMPOSE_PROJECT_NAME=${COMPOSE_PROJECT_NAME:-tmpnb-demo}
export TMPNB_CLUSTER=${TMPNB_CLUSTER:-demo}
export TMPNB_PORT=${TMPNB_PORT:-8100}
export TMPNB_CONSUL_PORT=${TMPNB_CONSUL_PORT:-8510}
export TMPNB_RABBITMQ_UI_PORT=${TMPNB_RABBITMQ_UI_PORT:-15682}
export TMPNB_ADMIN_PORT=${TMPNB_ADMIN_PORT:-10010}
export TMPNB_AMQP_PORT=${TMPNB_AMQP_PORT:-5682}

# shellcheck disable=SC2034  # read by the scripts that source this file
network=${COMPOSE_PROJECT_NAME}_control
label=tmpnb.demo=$COMPOSE_PROJECT_NAME

# As on machines of their own, agents reach the stores at an address of the control machine. This
# one is there on every machine with an Engine, and open to its containers only: the machine's own
# address in the Engine's first network, asked of a container in it.
find_control_ip() {
    [ -z "${TMPNB_CONTROL_IP:-}" ] || return 0
    TMPNB_CONTROL_IP=$(docker run --rm --network bridge "$TMPNB_HOST_IMAGE" ip -4 route show default | awk '{print $3}')
    [ -n "$TMPNB_CONTROL_IP" ] || die "The Engine's network 'bridge' has no gateway: give TMPNB_CONTROL_IP, an address of this machine that containers reach."
    export TMPNB_CONTROL_IP
}

# The hosts' numbers, in order.
hosts() {
    docker ps --all --filter "label=$label" --format '{{.Label "tmpnb.demo.host"}}' | sort -n
}

container_of() {
    echo "$COMPOSE_PROJECT_NAME-host-$1"
}

# wait_for_servers NUMBER...: until each of these hosts has a server.
wait_for_servers() {
    local limit_s=${TMPNB_READY_TIMEOUT:-240} first
    first=$(container_of "$1")
    say "Waiting for a server on ${*/#/host-} (at most $limit_s s)"
    command -v python3 >/dev/null 2>&1 || apt_install python3
    "$deploy_dir/machine/wait_ready.py" "http://127.0.0.1:$TMPNB_PORT" "$limit_s" "$COMPOSE_PROJECT_NAME" "${@/#/host-}" ||
        die "There is none. What an agent says: docker exec $first docker logs tmpnb-agent"
}

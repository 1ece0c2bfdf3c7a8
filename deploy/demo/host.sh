#!/usr/bin/env bash
# Make host NUMBER of the demo be there: its container, its images, its agent. What is there
# already stays as it is.
#
#   host.sh NUMBER
set -euo pipefail
# shellcheck source=deploy/demo/lib.sh
. "$(dirname "$0")/lib.sh"
load_env
find_control_ip

number=$1
container=$(container_of "$number")
# Servers' images, besides the agent's own.
images=("$TMPNB_AGENT_IMAGE")
read -r -a servers <<<"${TMPNB_DEMO_IMAGES:-$TMPNB_NOTEBOOK_IMAGE}"
images+=("${servers[@]}")

in_host() {
    docker exec -i "$container" "$@"
}

start_host() {
    local subnet
    subnet=$(docker network inspect --format '{{(index .IPAM.Config 0).Subnet}}' "$network")
    # What an Engine in a container needs beyond a container's rights; not --privileged, which asks
    # for every right of the machine, and fails where the machine itself lacks one.
    docker run --detach --init --name "$container" --hostname "host-$number" --network "$network" \
        --label "$label" --label "tmpnb.demo.host=$number" --restart always --stop-timeout 30 \
        --cap-add SYS_ADMIN --cap-add NET_ADMIN --cap-add SYS_PTRACE --device-cgroup-rule 'a *:* rwm' \
        --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined \
        --volume /sys/fs/cgroup:/sys/fs/cgroup \
        --env "TMPNB_PROTECTED=$subnet $TMPNB_CONTROL_IP" "$TMPNB_HOST_IMAGE" >/dev/null
}

engine_answers() {
    in_host docker info >/dev/null 2>&1
}

# One stream, so that layers that images share go once.
load_images() {
    local image missing=()
    for image in "${images[@]}"; do
        [ "$(in_host docker image inspect --format '{{.Id}}' "$image" 2>/dev/null)" = \
            "$(docker image inspect --format '{{.Id}}' "$image")" ] || missing+=("$image")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    docker save "${missing[@]}" | in_host docker load --quiet >/dev/null
}

# With the very text that an operator would send to a machine.
start_agent() {
    [ -z "$(in_host docker ps --all --quiet --filter name=^tmpnb-agent$)" ] || return 0
    "$deploy_dir/tmpnb" join --metrics-port 9465 2>/dev/null | in_host sh >/dev/null
}

case $(docker inspect --format '{{.State.Status}}' "$container" 2>/dev/null) in
    running) ;;
    '') say "Adding host-$number" && start_host ;;
    *) say "Starting host-$number" && docker start "$container" >/dev/null ;;
esac
wait_for 60 "the Engine of host-$number (docker logs $container)" engine_answers
load_images
start_agent

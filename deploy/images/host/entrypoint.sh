#!/usr/bin/env bash
# Keeps a Docker Engine running, as systemd does on a machine: one that dies is started again.
# While /run/engine.hold exists it stays away (tests take an Engine from a host with it).
#
# The container needs an init (docker run --init) that reaps what the Engine leaves behind.
set -euo pipefail

# A network that is nobody's (RFC 2544): the Engine's own choice would often be one that the
# machine around this container uses, and hide it from the containers in here.
bridge=198.18.0.1/24
networks=base=198.19.0.0/16,size=24
restart_pause_s=1

options=(--bip "$bridge" --default-address-pool "$networks")
# Containers of this host count as its own, and go with it. (With cgroup v2 a group that holds
# processes may have no groups below it.)
group=$(sed -n 's/^[0-9]*:memory://p' /proc/self/cgroup)
[ -z "$group" ] || options+=(--cgroup-parent "$group/engine")

engine=
trap '[ -z "$engine" ] || { kill "$engine" 2>/dev/null; wait "$engine"; }; exit 0' TERM INT

# Networks and addresses that servers must not open connections to.
# shellcheck disable=SC2086  # a list
/opt/tmpnb/machine/firewall.sh on ${TMPNB_PROTECTED:-}

while true; do
    # Left behind by one that was killed: the numbers may be other processes' by now.
    rm -f /var/run/docker.pid /var/run/docker/containerd/containerd.pid
    dockerd "${options[@]}" &
    engine=$!
    wait "$engine" || true
    engine=
    sleep "$restart_pause_s"
    while [ -e /run/engine.hold ]; do sleep 0.2; done
done

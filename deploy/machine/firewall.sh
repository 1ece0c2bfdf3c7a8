#!/usr/bin/env bash
# Keep servers from opening connections to the machine they run on: to the published ports of other
# servers above all, which traffic between containers being off does not cover.
#
#   firewall.sh on|off [NETWORK...]
#
# On a host apart from the control plane, NETWORKs (or addresses) are what servers must not open connections
# to either: the control plane and the other hosts.
#
# One rule for every cluster on this machine: the bridges of servers are named tmpnb... by the
# agent. Only new connections are dropped, so answers to the proxy still pass. Without root it
# says what is left open.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "$0")/../lib.sh"

switch=$1
shift
new_from_servers=(-i tmpnb+ -m conntrack --ctstate NEW -m comment --comment tmpnb-servers)
rule=(INPUT "${new_from_servers[@]}" -j DROP)

if [ "$(id -u)" != 0 ] || ! command -v iptables >/dev/null 2>&1; then
    [ "$switch" = off ] || say "No firewall rule without root: servers can open other servers' ports on this machine, where they meet their token"
    exit 0
fi

is_on() {
    iptables -w 10 -C "${rule[@]}" 2>/dev/null
}

case $switch in
    on)
        is_on || iptables -w 10 -I "${rule[@]}"
        # The Engine leaves this chain to others, and comes to it before its own rules.
        [ $# = 0 ] || iptables -w 10 -N DOCKER-USER 2>/dev/null || true
        for network in "$@"; do
            passed=(DOCKER-USER -d "$network" "${new_from_servers[@]}" -j DROP)
            iptables -w 10 -C "${passed[@]}" 2>/dev/null || iptables -w 10 -I "${passed[@]}"
        done
        ;;
    off)
        # Another cluster of this machine may still need it.
        if is_on && ! compgen -G '/sys/class/net/tmpnb*' >/dev/null; then
            iptables -w 10 -D "${rule[@]}"
        fi
        for network in "$@"; do
            iptables -w 10 -D DOCKER-USER -d "$network" "${new_from_servers[@]}" -j DROP 2>/dev/null || true
        done
        ;;
    *) die "firewall.sh takes 'on' or 'off', not '$switch'." ;;
esac

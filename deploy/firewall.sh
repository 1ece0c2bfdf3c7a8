#!/usr/bin/env bash
# Keep servers from opening connections to the machine they run on: to the published ports of other
# servers above all, which traffic between containers being off does not cover.
#
#   firewall.sh on|off
#
# One rule for every cluster on this machine: the bridges of servers are named tmpnb... by the
# agent. Only new connections are dropped, so answers to the proxy still pass. Without root it
# says what is left open.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "$0")/lib.sh"

rule=(INPUT -i tmpnb+ -m conntrack --ctstate NEW -m comment --comment tmpnb-servers -j DROP)

if [ "$(id -u)" != 0 ] || ! command -v iptables >/dev/null 2>&1; then
    [ "$1" = off ] || say "No firewall rule without root: servers can open other servers' ports on this machine, where they meet their token"
    exit 0
fi

is_on() {
    iptables -w 10 -C "${rule[@]}" 2>/dev/null
}

case $1 in
    on)
        is_on || iptables -w 10 -I "${rule[@]}"
        ;;
    off)
        # Another cluster of this machine may still need it.
        if is_on && ! compgen -G '/sys/class/net/tmpnb*' >/dev/null; then
            iptables -w 10 -D "${rule[@]}"
        fi
        ;;
    *) die "firewall.sh takes 'on' or 'off', not '$1'." ;;
esac

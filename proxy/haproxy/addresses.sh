# shellcheck shell=sh
# Read by start.sh: addresses and networks as people write them, in the form that HAProxy reads. HAProxy itself would look
# up what is none in DNS.

# is_ipv4 TEXT: four numbers from 0 to 255.
is_ipv4() {
    case $1 in *[!0-9.]* | .* | *. | *..* | *.*.*.*.*) return 1 ;; *.*.*.*) ;; *) return 1 ;; esac
    octets=$1.
    while [ -n "$octets" ]; do
        number=${octets%%.*}
        octets=${octets#*.}
        # "010" is 8 to some, and 10 to others.
        case $number in 0 | [1-9] | [1-9][0-9] | [1-9][0-9][0-9]) ;; *) return 1 ;; esac
        [ "$number" -le 255 ] || return 1
    done
}

# is_ipv6 TEXT: eight groups, or fewer and one "::"; the last two may be written as an IPv4 address.
is_ipv6() {
    groups=0
    left=$1
    case $left in
        *.*)
            is_ipv4 "${left##*:}" || return 1
            left=${left%:*}:0:0
            ;;
    esac
    case $left in
        *[!0-9A-Fa-f:]* | *:::* | *::*::* | :[!:]* | *[!:]:) return 1 ;;
        *:*) ;;
        *) return 1 ;;
    esac
    short=no
    case $left in *::*) short=yes ;; esac
    left=$left:
    while [ -n "$left" ]; do
        group=${left%%:*}
        left=${left#*:}
        case $group in
            '') continue ;;
            ?????*) return 1 ;;
        esac
        groups=$((groups + 1))
    done
    if [ "$short" = yes ]; then [ "$groups" -lt 8 ]; else [ "$groups" -eq 8 ]; fi
}

# is_network TEXT: an address, with "/<length of its prefix>" or without.
is_network() {
    address=${1%%/*}
    case $1 in
        */*)
            prefix=${1#*/}
            case $prefix in [0-9] | [1-9][0-9] | 1[0-9][0-9]) ;; *) return 1 ;; esac
            ;;
        *) prefix=0 ;;
    esac
    if is_ipv4 "$address"; then [ "$prefix" -le 32 ]; else is_ipv6 "$address" && [ "$prefix" -le 128 ]; fi
}

# gateway: this container's way out, which is the machine itself: what comes from there to a published port has this address.
gateway() {
    while read -r _ destination way _; do
        [ "$destination" = 00000000 ] || continue
        # Little-endian, in hexadecimal.
        # shellcheck disable=SC2046 # four words
        set -- $(printf %s "$way" | sed 's/\(..\)\(..\)\(..\)\(..\)/0x\4 0x\3 0x\2 0x\1/')
        printf '%d.%d.%d.%d\n' "$1" "$2" "$3" "$4"
        return
    done </proc/net/route
    return 1
}

# networks NAME VALUE: one a line, of a list with commas between; an error that names the variable otherwise. (Needs "set -f".)
networks() {
    for entry in $(printf %s "$2" | tr , ' '); do
        if [ "$entry" = gateway ]; then
            gateway && continue
            printf "settings: %s: 'gateway': there is no way out of this container's network\n" "$1" >&2
            return 2
        fi
        if ! is_network "$entry"; then
            printf "settings: %s: '%s'; accepted: addresses and networks, IPv4 or IPv6, comma-separated (10.0.0.5,192.0.2.0/24,2001:db8::/32), or gateway for this machine itself\n" "$1" "$entry" >&2
            return 2
        fi
        printf '%s\n' "$entry"
    done
}

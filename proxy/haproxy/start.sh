#!/bin/sh
# Starts HAProxy with the whole table of routes, so that the first connection it accepts is routed right.
#
# The sync process writes the table: we create "map-request", it writes routes.map (atomically) and removes it. Both live
# in the volume that the two containers share. The wait is bounded: running servers must be reachable without the
# control plane, so after it HAProxy starts with the table that is there, or with an empty one.
set -euf
# shellcheck source=proxy/haproxy/addresses.sh
. "$(dirname "$0")/addresses.sh"

run=${TMPNB_RUN_DIR:-/run/tmpnb}
wait_s=${TMPNB_TABLE_WAIT_S:-30}
config=${TMPNB_HAPROXY_CFG:-/usr/local/etc/haproxy/haproxy.cfg}

# The configuration reads these; HAProxy itself has no defaults for variables.
export TMPNB_RUN_DIR="$run"
export TMPNB_FRONTEND="${TMPNB_FRONTEND:-frontend:9999}"
export TMPNB_PROXY_PROTOCOL="${TMPNB_PROXY_PROTOCOL:-0}"
export TMPNB_STATICS_CACHE_MB="${TMPNB_STATICS_CACHE_MB:-64}"
export TMPNB_BASIC_TO_SERVERS="${TMPNB_BASIC_TO_SERVERS:-0}"

# A host name for each server, below this domain: as common/settings.py has it. Where the frontends are, they say themselves
# (TMPNB_DOMAIN); else they are at the domain.
export TMPNB_USER_DOMAIN="${TMPNB_USER_DOMAIN:-}"
label='[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?'
if [ "${#TMPNB_USER_DOMAIN}" -gt 200 ] || ! printf '%s\n' "$TMPNB_USER_DOMAIN" | grep -Eqx "($label([.]$label){0,9})?"; then
    printf "settings: TMPNB_USER_DOMAIN: '%s'; accepted: a domain in lower case, such as users.example.org\n" "$TMPNB_USER_DOMAIN" >&2
    exit 2
fi
TMPNB_USER_DOMAIN_RE=$(printf %s "$TMPNB_USER_DOMAIN" | sed 's/\./[.]/g')
export TMPNB_USER_DOMAIN_RE
export TMPNB_FRONT_NAME="${TMPNB_DOMAIN:-$TMPNB_USER_DOMAIN}"

# Names of cookies, comma-separated, "*" for any rest; as an expression for the configuration.
gates=${TMPNB_GATE_COOKIES:-_oauth2_proxy*,_shibsession_*,mod_auth_openidc_session*,AWSELBAuthSessionCookie*,CF_Authorization,authelia_session,authentik_proxy*}
case $gates in
    *[!A-Za-z0-9_.,*-]*)
        printf 'settings: TMPNB_GATE_COOKIES: %s; accepted: names of cookies, comma-separated, * for any rest\n' "'$gates'" >&2
        exit 2
        ;;
esac
TMPNB_GATE_COOKIES=$(printf %s "$gates" | sed 's/\./[.]/g; s/\*/[^=;]*/g; s/,/|/g')
export TMPNB_GATE_COOKIES
export TMPNB_ADDRESS_MAX="${TMPNB_ADDRESS_MAX:-8000}"
export TMPNB_SERVER_MAX="${TMPNB_SERVER_MAX:-300}"
export TMPNB_REQUEST_S="${TMPNB_REQUEST_S:-10}"
export TMPNB_SILENCE_S="${TMPNB_SILENCE_S:-600}"
export TMPNB_KEEPALIVE_S="${TMPNB_KEEPALIVE_S:-75}"
export TMPNB_SEAT_S="${TMPNB_SEAT_S:-604800}"

export TMPNB_ADMIN="${TMPNB_ADMIN:-admin:10000}"
export TMPNB_ACME="${TMPNB_ACME:-acme:5002}"

say() {
    printf '{"service": "haproxy", "level": "%s", "event": "%s"}\n' "$1" "$2"
}

# whole NAME LOW HIGH: the variable is a whole number between them.
whole() {
    value=$(printenv "$1")
    case $value in
        '' | *[!0-9]* | ??????????*) ;;
        *) [ "$value" -ge "$2" ] && [ "$value" -le "$3" ] && return ;;
    esac
    printf "settings: %s: '%s'; accepted: a whole number from %s to %s\n" "$1" "$value" "$2" "$3" >&2
    exit 2
}
whole TMPNB_PROXY_PROTOCOL 0 1
whole TMPNB_STATICS_CACHE_MB 32 4095
whole TMPNB_ADDRESS_MAX 10 1000000
whole TMPNB_SERVER_MAX 10 1000000
whole TMPNB_REQUEST_S 1 300
whole TMPNB_SILENCE_S 30 86400
whole TMPNB_KEEPALIVE_S 1 3600
whole TMPNB_SEAT_S 60 31536000

# refuse NAME ACCEPTED: ends with a line about the variable's value.
refuse() {
    printf "settings: %s: '%s'; accepted: %s\n" "$1" "$(printenv "$1")" "$2" >&2
    exit 2
}

# host_name NAME: the variable is a host name, an address (IPv4), or empty.
host_name() {
    printenv "$1" | grep -Eqx '([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?){0,20})?' ||
        refuse "$1" "a host name in lower case, without scheme, port and path (xn--… for other letters than a to z)"
}

# TLS: on when the cluster has a name, unless somebody in front of us has it.
export TMPNB_DOMAIN="${TMPNB_DOMAIN:-}" TMPNB_TLS="${TMPNB_TLS:-acme}"
export TMPNB_HTTPS_PORT="${TMPNB_HTTPS_PORT:-443}" TMPNB_HSTS_S="${TMPNB_HSTS_S:-31536000}"
host_name TMPNB_DOMAIN
whole TMPNB_HTTPS_PORT 1 65535
whole TMPNB_HSTS_S 0 100000000
case $TMPNB_TLS in
    acme | files | self-signed | off) ;;
    *) refuse TMPNB_TLS "acme, files, self-signed, or off (somebody in front of us speaks TLS)" ;;
esac
TMPNB_ENCRYPTED=0
[ -z "$TMPNB_DOMAIN" ] || [ "$TMPNB_TLS" = off ] || TMPNB_ENCRYPTED=1
TMPNB_HTTPS_SUFFIX=
[ "$TMPNB_HTTPS_PORT" = 443 ] || TMPNB_HTTPS_SUFFIX=:$TMPNB_HTTPS_PORT
TMPNB_FRONT=$TMPNB_DOMAIN$TMPNB_HTTPS_SUFFIX
# Not with a certificate that nobody can check: the browser of whoever tries it would refuse the name for a year.
TMPNB_HSTS=
[ "$TMPNB_ENCRYPTED$TMPNB_TLS" = 1self-signed ] || [ "$TMPNB_ENCRYPTED" = 0 ] || TMPNB_HSTS="max-age=$TMPNB_HSTS_S"
export TMPNB_ENCRYPTED TMPNB_HTTPS_SUFFIX TMPNB_FRONT TMPNB_HSTS

# HAProxy takes a connection for every two descriptors (fd-hard-limit in the configuration): a quarter of them is always
# left for others than one address.
# shellcheck disable=SC3045 # dash and busybox, which the images have, know it
descriptors=$(ulimit -n)
case $descriptors in *[!0-9]*) descriptors=100000 ;; esac
[ "$descriptors" -le 100000 ] || descriptors=100000
if [ "$TMPNB_ADDRESS_MAX" -gt $((descriptors * 3 / 8)) ]; then
    say INFO "one address may have $((descriptors * 3 / 8)) connections: three quarters of what $descriptors file descriptors allow"
    TMPNB_ADDRESS_MAX=$((descriptors * 3 / 8))
fi

# Buffers at hand, 64 MB for all threads together (one per processor); each has 2 MB at least, and no use for more than 16.
hot=$((64 / $(nproc)))
[ "$hot" -ge 2 ] || hot=2
[ "$hot" -le 16 ] || hot=16
export TMPNB_HOT_BYTES=$((hot * 1048576))

# Told by the container's sysctls, the kernel gives up by itself what nobody acknowledges (see "defaults users").
TMPNB_UNACKED_S=0
retries=$(cat /proc/sys/net/ipv4/tcp_retries2 2>/dev/null || echo 15)
if [ "$retries" -gt 6 ]; then
    TMPNB_UNACKED_S=60
    say WARNING "net.ipv4.tcp_retries2 is $retries here and should be 5: a host that is lost in the middle of a request is found after a minute"
fi
export TMPNB_UNACKED_S

# Who is believed what it says about the browser: "nobody", "some" (those in the file) or "everybody".
TMPNB_BELIEVED=nobody
trusted=$(networks TMPNB_TRUSTED_PROXIES "${TMPNB_TRUSTED_PROXIES:-}") || exit 2
if [ -n "$trusted" ]; then
    TMPNB_BELIEVED=some
    printf '%s\n' "$trusted" >"$run/trusted.lst"
elif [ "$TMPNB_PROXY_PROTOCOL" = 1 ]; then
    printf "settings: TMPNB_PROXY_PROTOCOL: '1'; accepted: 1 together with TMPNB_TRUSTED_PROXIES, from where it is expected\n" >&2
    exit 2
fi
case ${TMPNB_TRUST_FORWARDED:-0}$TMPNB_BELIEVED in
    1nobody)
        TMPNB_BELIEVED=everybody
        say WARNING "TMPNB_TRUST_FORWARDED=1 believes whoever reaches this port; name the terminators in TMPNB_TRUSTED_PROXIES"
        ;;
    1some) say WARNING "TMPNB_TRUST_FORWARDED=1 is not needed: TMPNB_TRUSTED_PROXIES says who is believed" ;;
esac
export TMPNB_BELIEVED

# As process 1 the shell would ignore the signals of "docker stop" while it waits.
trap 'rm -f "$run/map-request"; exit 0' INT TERM USR1

: >"$run/map-request"
waits=$((wait_s * 20))
while [ -e "$run/map-request" ] && [ "$waits" -gt 0 ]; do
    sleep 0.05
    waits=$((waits - 1))
done

if [ -e "$run/map-request" ]; then
    rm -f "$run/map-request"
    if [ -e "$run/routes.map" ]; then
        say WARNING "the sync did not answer: starting with the table it wrote last"
    else
        say WARNING "the sync did not answer: starting without routes"
    fi
else
    say INFO "table of routes received"
fi
[ -e "$run/routes.map" ] || : >"$run/routes.map"
# Without any certificate there is nothing to answer with. The sync makes one itself if it has none.
if [ "$TMPNB_ENCRYPTED" = 1 ] && [ ! -e "$run/certs/list" ]; then
    say WARNING "no certificate is here, not even one of the sync's own making: waiting for it"
    while [ ! -e "$run/certs/list" ]; do
        sleep 0.2
    done
fi
# The sync fills these within seconds; until then everything is asked of servers, and every request counts as use.
: >"$run/statics.map"
: >"$run/background.map"
# Whoever was let in by somebody stays so while the sync is away.
[ -e "$run/shares.map" ] || : >"$run/shares.map"

exec haproxy -W -db -f "$config"

#!/bin/sh
# Starts HAProxy with the whole table of routes, so that the first connection it accepts is routed right.
#
# The sync process writes the table: we create "want", it writes routes.map (atomically) and removes "want". Both live
# in the volume that the two containers share. The wait is bounded: running servers must be reachable without the
# control plane, so after it HAProxy starts with the table that is there, or with an empty one.
set -eu

run=${TMPNB_RUN_DIR:-/run/tmpnb}
wait_s=${TMPNB_TABLE_WAIT_S:-30}
config=${TMPNB_HAPROXY_CFG:-/usr/local/etc/haproxy/haproxy.cfg}

# The configuration reads these; HAProxy itself has no defaults for variables.
export TMPNB_RUN_DIR="$run"
export TMPNB_FRONTEND="${TMPNB_FRONTEND:-frontend:9999}"
export TMPNB_TRUST_FORWARDED="${TMPNB_TRUST_FORWARDED:-0}"
export TMPNB_STATICS_CACHE_MB="${TMPNB_STATICS_CACHE_MB:-64}"
export TMPNB_BASIC_TO_SERVERS="${TMPNB_BASIC_TO_SERVERS:-0}"

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

say() {
    printf '{"service": "haproxy", "level": "%s", "event": "%s"}\n' "$1" "$2"
}

# As process 1 the shell would ignore the signals of "docker stop" while it waits.
trap 'rm -f "$run/want"; exit 0' INT TERM USR1

: >"$run/want"
waits=$((wait_s * 20))
while [ -e "$run/want" ] && [ "$waits" -gt 0 ]; do
    sleep 0.05
    waits=$((waits - 1))
done

if [ -e "$run/want" ]; then
    rm -f "$run/want"
    if [ -e "$run/routes.map" ]; then
        say WARNING "the sync did not answer: starting with the table it wrote last"
    else
        say WARNING "the sync did not answer: starting without routes"
    fi
else
    say INFO "table of routes received"
fi
[ -e "$run/routes.map" ] || : >"$run/routes.map"
# The sync fills these within seconds; until then everything is asked of servers, and every request counts as use.
: >"$run/statics.map"
: >"$run/background.map"

exec haproxy -W -db -f "$config"

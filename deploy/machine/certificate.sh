#!/usr/bin/env bash
# Certificates by ACME, as far as "make up" has to do with them.
#
#   certificate.sh check    before anything is started: end with a sentence if they could never be obtained
#   certificate.sh wait     wait a while for the first one, and say what becomes of it
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "$0")/../lib.sh"
load_env

# lego asks every few seconds whether it is done, some providers of DNS take a minute or two.
wait_s=${TMPNB_ACME_WAIT_S:-60}

check() {
    if [ -n "${TMPNB_USER_DOMAIN:-}" ] && [ -z "${TMPNB_ACME_DNS:-}" ]; then
        die "TMPNB_ACME_DNS is not set: a certificate for *.$TMPNB_USER_DOMAIN (TMPNB_USER_DOMAIN) needs DNS-01." \
            "Accepted: the code of one of lego's providers, its variables in a file that TMPNB_ACME_ENV_FILE names" \
            '(docs/operations.md, "Certificates by ACME").'
    fi
    local name
    for name in TMPNB_ACME_ENV_FILE TMPNB_ACME_CA; do
        [ -z "${!name:-}" ] || [ -f "${!name}" ] || die "$name is '${!name}': there is no such file."
    done
}

# The last reason that its log gives.
reason() {
    compose logs --no-color --no-log-prefix acme | sed -n 's/.*"event": "certificate \(still \)\?not obtained".*"error": "\(.*\)", "certificate".*/\2/p' | tail -n 1
}

obtained() {
    compose exec -T acme test -e "/certs/$TMPNB_DOMAIN.pem" 2>/dev/null
}

wait_for_first() {
    ! obtained || return 0
    local deadline=$((SECONDS + wait_s)) why=
    say "Obtaining a certificate for $TMPNB_DOMAIN (at most $wait_s s)"
    until obtained; do
        why=$(reason)
        if [ -n "$why" ] || [ "$SECONDS" -ge "$deadline" ]; then
            printf '    Not yet%s\n    It is tried again by itself (make logs S=acme); until then browsers warn of a self-signed one.\n' "${why:+: $why}"
            return 0
        fi
        sleep 1
    done
}

case ${1:-} in
    check) check ;;
    wait) wait_for_first ;;
    *) die "certificate.sh takes 'check' or 'wait', not '${1:-}'." ;;
esac

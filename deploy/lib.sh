# shellcheck shell=bash
# Small helpers that the scripts of this folder share. Sourced, never run.

deploy_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck disable=SC2034  # read by the scripts that source this file
root_dir=$(dirname "$deploy_dir")

say() {
    printf '==> %s\n' "$*"
}

# die SENTENCE [SENTENCE...]: each on a line of its own, on stderr.
die() {
    printf 'tmpnb: %s\n' "$@" >&2
    exit 1
}

# check_secret NAME VALUE: dies if somebody could try it out. As common/settings.py does at every start; here
# because a container that refuses to start says so where nobody looks first.
check_secret() {
    local name=$1 value=$2 symbols
    symbols=$(printf '%s' "$value" | fold -w 1 | sort -u | wc -l)
    if [ "${#value}" -lt 16 ] || [ "$symbols" -lt 6 ]; then
        die "$name in .env is too easy to guess: at least 16 characters are accepted, 6 of them different." \
            "'openssl rand -hex 24' makes a good one (docs/operations.md, \"Secrets\")."
    fi
}

is_root_on_debian() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1
}

# Package lists of a fresh machine are missing or old; once per script is enough.
apt_update_once() {
    [ -n "${apt_updated:-}" ] || apt-get update -qq
    apt_updated=1
}

# apt_install PACKAGE...: only what is missing, quietly, without services asking questions.
apt_install() {
    local package missing=()
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    is_root_on_debian || die "These packages are missing and this is not root on Debian or Ubuntu: ${missing[*]}"
    say "Installing ${missing[*]}"
    apt_update_once
    DEBCONF_NOWARNINGS=yes DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
}

# apt_mirrors ORIGIN LABEL: the archive addresses that this machine's own apt uses.
apt_mirrors() {
    # shellcheck disable=SC2016  # apt's own placeholder
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Origin: $1" "Label: $2" | sort -u
}

# wait_for SECONDS PURPOSE COMMAND...: until the command succeeds; dies when the time is up.
wait_for() {
    local limit_s=$1 purpose=$2 deadline
    shift 2
    deadline=$((SECONDS + limit_s))
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || die "Waited ${limit_s} s for $purpose, in vain."
        sleep 0.5
    done
}

# uplink_mtu [ROUTES INTERFACES]: of the interface with the default route, if it is less than the usual 1500. Docker asks
# nobody for it, and in a network with larger packets than the way out of the machine downloads hang.
uplink_mtu() {
    local routes=${1:-/proc/net/route} interfaces=${2:-/sys/class/net} name mtu
    name=$(awk '$2 == "00000000" { print $1; exit }' "$routes" 2>/dev/null) || return 0
    mtu=$(cat "$interfaces/${name:-none}/mtu" 2>/dev/null) || return 0
    [ "$mtu" -ge 1500 ] || echo "$mtu"
}

# env_file: the settings that env.sh decided once. Variables of the shell win over the file,
# as in Compose itself, so that a second copy can run beside the first.
load_env() {
    local line name
    [ -f "$root_dir/.env" ] || die "There is no .env yet: run 'make up' first."
    while IFS= read -r line; do
        case $line in '' | '#'*) continue ;; esac
        name=${line%%=*}
        [ -n "${!name+set}" ] || export "$name=${line#*=}"
    done <"$root_dir/.env"
    ! is_encrypted || export TMPNB_PORT=${TMPNB_PORT:-80}
}

# is_encrypted: HAProxy speaks TLS itself.
is_encrypted() {
    [ -n "${TMPNB_DOMAIN:-}" ] && [ "${TMPNB_TLS:-acme}" != off ]
}

# public_host: where this machine itself finds the public port (TMPNB_BIND, or the loopback), as it stands in a URL.
public_host() (
    # shellcheck source=proxy/haproxy/addresses.sh
    . "$root_dir/proxy/haproxy/addresses.sh"
    case ${TMPNB_BIND:-} in
        '' | 0.0.0.0 | '[::]') echo 127.0.0.1 ;;
        '['*']')
            address=${TMPNB_BIND#[}
            is_ipv6 "${address%]}" || die "TMPNB_BIND: '$TMPNB_BIND'; accepted: an IPv4 address, or an IPv6 address in brackets"
            echo "$TMPNB_BIND"
            ;;
        *)
            is_ipv4 "$TMPNB_BIND" || die "TMPNB_BIND: '$TMPNB_BIND'; accepted: an IPv4 address, or an IPv6 address in brackets"
            echo "$TMPNB_BIND"
            ;;
    esac
)

# What pools may mount of this machine: its agent looks at it, and does not write there.
directories_file() {
    local file=$root_dir/build/directories-${COMPOSE_PROJECT_NAME:-tmpnb}.yml path paths
    mkdir -p "$root_dir/build"
    IFS=, read -r -a paths <<<"$TMPNB_ALLOWED_HOST_DIRECTORIES"
    {
        printf 'services:\n  agent:\n    volumes:\n'
        for path in "${paths[@]}"; do
            path=$(sed -E "s/^ +//; s/ +\$//; s/'/''/g; s/[$]/\$\$/g" <<<"$path")
            [ -z "$path" ] || printf "      - {type: bind, source: '%s', target: '%s', read_only: true}\n" "$path" "$path"
        done
    } >"$file.$$"
    mv "$file.$$" "$file" # at once: others may be reading it
    echo "$file"
}

# Whether certificates are obtained by ACME, and so by a container of ours.
uses_acme() {
    [ -n "${TMPNB_DOMAIN:-}" ] && [ "${TMPNB_TLS:-acme}" = acme ]
}

# compose ARGUMENT...: with TMPNB_DOMAIN it publishes the ports of TLS, and runs a client for certificates where they come by
# ACME; with TMPNB_HA=1 there are three nodes of each store (deploy/ha/), with TMPNB_MONITORING=1 a Prometheus
# (deploy/config/monitoring/).
compose() {
    local files=(-f "$root_dir/docker-compose.cluster.yml")
    ! is_encrypted || files+=(-f "$deploy_dir/machine/tls.yml")
    [ -z "${TMPNB_CONTROL_IP:-}" ] || files+=(-f "$deploy_dir/machine/control.yml")
    [ -z "${TMPNB_HA:-}" ] || files+=(-f "$root_dir/deploy/ha/docker-compose.ha.yml")
    [ -z "${TMPNB_MONITORING:-}" ] || files+=(-f "$deploy_dir/config/monitoring/docker-compose.monitoring.yml")
    [ -z "${TMPNB_ALLOWED_HOST_DIRECTORIES:-}" ] || files+=(-f "$(directories_file)")
    local profiles=${COMPOSE_PROFILES:-}
    ! uses_acme || profiles+=,acme
    COMPOSE_PROFILES=$profiles docker compose --project-directory "$root_dir" "${files[@]}" "$@"
}

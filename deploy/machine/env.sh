#!/usr/bin/env bash
# Write what is decided once on this machine into .env (mode 600): secrets, where images come
# from and their names, the group of Docker's socket, the uplink's MTU, the CA bundle for install steps.
#
# Only what is missing is added; a value that is there is never changed, so that an operator
# may edit the file. A value in the shell's environment is taken over when first written.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "$0")/../lib.sh"

env_file=$root_dir/.env
# How long a registry may take to answer. A pull of the smallest image is the honest test: it
# goes the way that the Engine goes, with its proxy and certificates.
registry_timeout_s=60

umask 077
touch "$env_file"
chmod 600 "$env_file"
exec 9<"$env_file"
flock 9

has() {
    grep -q "^$1=" "$env_file"
}

value_of() {
    sed -n "s/^$1=//p" "$env_file" | tail -n 1
}

# ensure NAME COMMAND...: adds NAME with the command's output, unless the file has it.
ensure() {
    local name=$1
    shift
    has "$name" || printf '%s=%s\n' "$name" "${!name-$("$@")}" >>"$env_file"
}

secret() {
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

# Consul takes keys of 32 bytes in base64.
gossip_key() {
    head -c 32 /dev/urandom | base64
}

find_ca_bundle() {
    local bundle=/etc/ssl/certs/ca-certificates.crt
    [ ! -r "$bundle" ] || echo "$bundle"
}

docker_gid() {
    stat -c %g /var/run/docker.sock 2>/dev/null || getent group docker | cut -d : -f 3
}

# The official images, by the names that a registry knows them by.
registry_image() {
    case $1 in
        PYTHON_IMAGE) echo python:3.13-slim ;;
        RABBITMQ_IMAGE) echo rabbitmq:4-management ;;
        CONSUL_IMAGE) echo hashicorp/consul:1.20 ;;
        HAPROXY_IMAGE) echo haproxy:3.0 ;;
        PROMETHEUS_IMAGE) echo prom/prometheus:v2.53.4 ;;
        LEGO_IMAGE) echo goacme/lego:v4.25.2 ;;
        TMPNB_NOTEBOOK_IMAGE) echo jupyter/minimal-notebook:latest ;;
    esac
}

# What deploy/images/ builds in their place.
local_image() {
    case $1 in
        PYTHON_IMAGE) echo tmpnb-local/base:trixie ;;
        RABBITMQ_IMAGE) echo tmpnb-local/rabbitmq:4.0 ;;
        CONSUL_IMAGE) echo tmpnb-local/consul:1.8 ;;
        HAPROXY_IMAGE) echo tmpnb-local/haproxy:3.0 ;;
        PROMETHEUS_IMAGE) echo tmpnb-local/prometheus:2.53 ;;
        LEGO_IMAGE) echo tmpnb-local/lego:4.9 ;;
        TMPNB_NOTEBOOK_IMAGE) echo tmpnb-local/jupyter:4 ;;
    esac
}

image_source() {
    local image
    image=$(registry_image HAPROXY_IMAGE)
    if docker image inspect "$image" >/dev/null 2>&1 ||
        timeout "$registry_timeout_s" docker pull --quiet "$image" >/dev/null 2>&1; then
        echo registry
    else
        echo local
    fi
}

if ! has TMPNB_IMAGE_SOURCE && [ -z "${TMPNB_IMAGE_SOURCE:-}" ]; then
    say "Asking the image registry for $(registry_image HAPROXY_IMAGE)"
fi
ensure TMPNB_IMAGE_SOURCE image_source
source=$(value_of TMPNB_IMAGE_SOURCE)
case $source in
    registry) say "Images: official ones from the registry (TMPNB_IMAGE_SOURCE=registry in .env)" ;;
    local) say "Images: equivalents built here, no registry answered (TMPNB_IMAGE_SOURCE=local in .env)" ;;
    *) die "TMPNB_IMAGE_SOURCE in .env is '$source': it must be 'registry' or 'local'." ;;
esac
for name in PYTHON_IMAGE RABBITMQ_IMAGE CONSUL_IMAGE HAPROXY_IMAGE PROMETHEUS_IMAGE LEGO_IMAGE TMPNB_NOTEBOOK_IMAGE; do
    ensure "$name" "${source}_image" "$name"
done
ensure TMPNB_FRONTEND_IMAGE echo tmpnb/frontend:dev
ensure TMPNB_AGENT_IMAGE echo tmpnb/agent:dev
ensure TMPNB_PROXY_IMAGE echo tmpnb/proxy:dev
ensure TMPNB_ACME_IMAGE echo tmpnb/acme:dev
ensure TMPNB_HOST_IMAGE echo tmpnb/host:dev

volume=${COMPOSE_PROJECT_NAME:-tmpnb}_rabbitmq-data
if ! has TMPNB_RABBITMQ_PASSWORD && [ -z "${TMPNB_RABBITMQ_PASSWORD:-}" ] && docker volume inspect "$volume" >/dev/null 2>&1; then
    # RabbitMQ sets a user's password on its first start only.
    die "RabbitMQ's data of an earlier installation is here (volume $volume), but not its password." \
        "Bring that .env back, or let the data go with 'make down'."
fi
ensure TMPNB_RABBITMQ_PASSWORD secret
ensure TMPNB_SECRET_KEY secret
ensure ADMIN_AUTH_TOKEN secret
# Of three nodes each (deploy/ha/): what RabbitMQ's nodes, and Consul's servers, know each other by.
ensure TMPNB_ERLANG_COOKIE secret
ensure TMPNB_GOSSIP_KEY gossip_key
# Empty: the public pages and API are open. A token closes both the API and all pages to others.
ensure API_AUTH_TOKEN true
for name in TMPNB_RABBITMQ_PASSWORD TMPNB_SECRET_KEY ADMIN_AUTH_TOKEN API_AUTH_TOKEN; do
    value=${!name-$(value_of "$name")}
    [ -z "$value" ] || check_secret "$name" "$value"
done
# How strangers reach it: given in the shell once, it holds for whatever comes later. (A second copy beside the first, with
# a name of its own, has its settings in the shell alone.)
if [ -z "${COMPOSE_PROJECT_NAME:-}" ]; then
    for name in TMPNB_DOMAIN TMPNB_USER_DOMAIN TMPNB_TLS TMPNB_CERTS TMPNB_HTTPS_PORT \
        TMPNB_ACME_EMAIL TMPNB_ACME_SERVER TMPNB_ACME_CA TMPNB_ACME_DNS TMPNB_ACME_ENV_FILE; do
        [ -z "${!name:-}" ] || has "$name" || say "$name=${!name} is written into .env"
        [ -z "${!name:-}" ] || ensure "$name" true
    done
fi
ensure DOCKER_GID docker_gid
# Empty: the usual 1500, or what the Engine was told.
ensure TMPNB_NETWORK_MTU uplink_mtu
ensure TMPNB_CA_BUNDLE find_ca_bundle

bundle=${TMPNB_CA_BUNDLE-$(value_of TMPNB_CA_BUNDLE)}
[ -z "$bundle" ] || [ -r "$bundle" ] || die "TMPNB_CA_BUNDLE is '$bundle', which cannot be read."

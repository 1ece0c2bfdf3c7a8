#!/usr/bin/env bash
# Make every image present that the compose file names: pull or build the foreign ones as .env
# says, then build our own three.
#
#   build.sh [foreign|own|host|monitoring|acme]
#
# Default: the first two, with TMPNB_MONITORING set "monitoring", and "acme" where certificates come from there ("host":
# the one of deploy/demo/).
#
# An image built here carries a digest of what it was built from; one that is up to date is
# skipped without asking the builder. Logs of the builds are kept in build/logs/.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "$0")/../lib.sh"
load_env

label=tmpnb.sources
base_suite=trixie
logs=$root_dir/build/logs
cd "$root_dir"
mkdir -p "$logs"

# digest_of PARENTS FILE...: of the parent images (one argument) and of the names and contents of the files.
digest_of() {
    local parent parents=$1
    shift
    {
        for parent in $parents; do
            docker image inspect --format '{{.Id}}' "$parent" 2>/dev/null || echo "$parent"
        done
        find "$@" -type f ! -name '*.pyc' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
    } | sha256sum | cut -d ' ' -f 1
}

up_to_date() {
    [ "$(docker image inspect --format "{{index .Config.Labels \"$label\"}}" "$1" 2>/dev/null)" = "$2" ]
}

# The local base: a minimal Debian from the machine's own mirrors (or, on a machine that has
# none, from where mmdebstrap takes Debian by itself).
build_base() {
    local digest sources=() from_stdin=() mirror packages
    digest=$(digest_of "$base_suite" deploy/images/base)
    ! up_to_date "$PYTHON_IMAGE" "$digest" || return 0
    apt_install mmdebstrap debian-archive-keyring
    say "Building $PYTHON_IMAGE (Debian $base_suite with Python)"
    apt_update_once
    for mirror in $(apt_mirrors Debian Debian | head -n 1); do
        sources+=("deb $mirror $base_suite main" "deb $mirror $base_suite-updates main")
    done
    for mirror in $(apt_mirrors Debian Debian-Security | head -n 1); do
        sources+=("deb $mirror $base_suite-security main")
    done
    [ ${#sources[@]} = 0 ] || from_stdin=(-)
    packages=$(grep -v '^#' deploy/images/base/packages | paste -s -d ,)
    printf '%s\n' "${sources[@]}" | mmdebstrap --quiet --variant=minbase --include="$packages" \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        "$base_suite" - "${from_stdin[@]}" 2>"$logs/base.log" |
        docker import --change "LABEL $label=$digest" --change 'ENV LANG=C.UTF-8' \
            --change 'CMD ["python3"]' - "$PYTHON_IMAGE" >/dev/null ||
        { tail -n 20 "$logs/base.log" >&2 && die "The base image could not be built."; }
}

# build TAG DOCKERFILE CONTEXT SOURCE...: the sources are what the image depends on, and in $parents images, if it is not
# made from the base.
build() {
    local tag=$1 dockerfile=$2 context=$3 digest name before secret=() arguments=(--build-arg "PYTHON_IMAGE=$PYTHON_IMAGE")
    shift 3
    [ -z "${parents:-}" ] || arguments=(--build-arg "PROXY_IMAGE=$TMPNB_PROXY_IMAGE" --build-arg "LEGO_IMAGE=$LEGO_IMAGE")
    digest=$(digest_of "${parents:-$PYTHON_IMAGE}" "$dockerfile" "$@")
    ! up_to_date "$tag" "$digest" || return 0
    say "Building $tag"
    before=$(docker image inspect --format '{{.Id}}' "$tag" 2>/dev/null || true)
    name=${tag##*/}
    [ -z "${TMPNB_CA_BUNDLE:-}" ] || secret=(--secret "id=ca,src=$TMPNB_CA_BUNDLE")
    if ! docker buildx build --progress plain --load "${secret[@]}" \
        "${arguments[@]}" --label "$label=$digest" \
        --tag "$tag" --file "$dockerfile" "$context" >"$logs/${name%%:*}.log" 2>&1; then
        tail -n 25 "$logs/${name%%:*}.log" >&2
        die "$tag could not be built; the whole log: $logs/${name%%:*}.log"
    fi
    # What it replaces would stay for ever as an image without a name; one in use stays.
    [ -z "$before" ] || docker image rm "$before" >/dev/null 2>&1 || true
}

# in_parallel FUNCTION...: all at once (they mostly wait for downloads); fails if one fails.
in_parallel() {
    local job pids=() failed=0
    for job in "$@"; do
        "$job" &
        pids+=($!)
    done
    for job in "${pids[@]}"; do
        wait "$job" || failed=1
    done
    return "$failed"
}

foreign_rabbitmq() { build "$RABBITMQ_IMAGE" deploy/images/rabbitmq/Dockerfile deploy/images/rabbitmq deploy/images/rabbitmq; }
foreign_consul() { build "$CONSUL_IMAGE" deploy/images/consul/Dockerfile deploy/images/consul deploy/images/consul; }
foreign_haproxy() { build "$HAPROXY_IMAGE" deploy/images/haproxy/Dockerfile deploy/images/haproxy deploy/images/haproxy; }
foreign_jupyter() { build "$TMPNB_NOTEBOOK_IMAGE" deploy/images/jupyter/Dockerfile deploy/images/jupyter deploy/images/jupyter; }
foreign_prometheus() { build "$PROMETHEUS_IMAGE" deploy/images/prometheus/Dockerfile deploy/images/prometheus deploy/images/prometheus; }
foreign_lego() { build "$LEGO_IMAGE" deploy/images/lego/Dockerfile deploy/images/lego deploy/images/lego; }
own_frontend() { build "$TMPNB_FRONTEND_IMAGE" Dockerfile.frontend . .dockerignore common frontend deploy/images/locks/frontend.txt; }
own_agent() { build "$TMPNB_AGENT_IMAGE" Dockerfile.agent . .dockerignore common agent deploy/images/locks/agent.txt; }
own_host() { build "$TMPNB_HOST_IMAGE" deploy/images/host/Dockerfile deploy deploy/images/host deploy/machine/firewall.sh deploy/lib.sh; }
own_proxy() { build "$TMPNB_PROXY_IMAGE" Dockerfile.proxy . .dockerignore common proxy deploy/images/locks/proxy.txt; }
own_acme() { parents="$TMPNB_PROXY_IMAGE $LEGO_IMAGE" build "$TMPNB_ACME_IMAGE" deploy/images/acme/Dockerfile deploy/images/acme deploy/images/acme; }

pull_missing() {
    local image
    for image in "$@"; do
        docker image inspect "$image" >/dev/null 2>&1 || { say "Pulling $image" && docker pull "$image"; }
    done
}

foreign() {
    if [ "$TMPNB_IMAGE_SOURCE" = registry ]; then
        pull_missing "$PYTHON_IMAGE" "$RABBITMQ_IMAGE" "$CONSUL_IMAGE" "$HAPROXY_IMAGE" "$TMPNB_NOTEBOOK_IMAGE"
    else
        build_base
        in_parallel foreign_rabbitmq foreign_consul foreign_haproxy foreign_jupyter
    fi
}

monitoring() {
    if [ "$TMPNB_IMAGE_SOURCE" = registry ]; then
        pull_missing "$PROMETHEUS_IMAGE"
    else
        build_base
        foreign_prometheus
    fi
}

own() {
    in_parallel own_frontend own_agent own_proxy
}

acme() {
    if [ "$TMPNB_IMAGE_SOURCE" = registry ]; then
        pull_missing "$PYTHON_IMAGE" "$LEGO_IMAGE"
    else
        build_base
        foreign_lego
    fi
    own_proxy
    own_acme
}

case ${1:-all} in
    foreign) foreign ;;
    own) own ;;
    host) own_host ;;
    monitoring) monitoring ;;
    acme) acme ;;
    all)
        foreign
        [ -z "${TMPNB_MONITORING:-}" ] || monitoring
        own
        ! uses_acme || acme
        ;;
    *) die "build.sh takes 'foreign', 'own', 'host', 'monitoring', 'acme' or nothing, not '$1'." ;;
esac

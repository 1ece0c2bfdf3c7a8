#!/usr/bin/env bash
# Make sure that this machine has a running Docker Engine with Compose v2 and buildx.
#
# An Engine that answers is used as it is. On Debian and Ubuntu, as root, what is missing is
# installed from the distribution and started (no systemd needed). Otherwise say what to do.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "$0")/../lib.sh"

engine_log=/var/log/tmpnb-dockerd.log
plugin_dir=/usr/local/lib/docker/cli-plugins

engine_answers() {
    docker info >/dev/null 2>&1
}

# Installing another Engine would not help somebody who may not open the socket of the first.
refuse_without_permission() {
    if [ -S /var/run/docker.sock ] && [ ! -w /var/run/docker.sock ]; then
        die "A Docker Engine is there, but its socket is closed to you." \
            "Join its group (sudo usermod -aG docker \"\$USER\", then log in again) or run this as root."
    fi
}

install_engine() {
    if ! command -v dockerd >/dev/null 2>&1; then
        is_root_on_debian || die "No Docker Engine answers here, and this is not root on Debian or Ubuntu." \
            "Install Docker Engine 20.10 or later with the Compose v2 and buildx plugins, start it, and run this again."
        apt_install docker.io iptables
    fi
    # Newer releases package the client apart from the Engine.
    command -v docker >/dev/null 2>&1 || apt_install docker-cli
}

start_engine() {
    [ "$(id -u)" = 0 ] || die "A Docker Engine is installed but does not run: start it as root (systemctl start docker)."
    say "Starting the Docker Engine"
    if [ -d /run/systemd/system ]; then
        systemctl start docker
    else
        # After a crash of the machine the numbers in these files may be other processes' by now,
        # and the Engine would take those for itself.
        pgrep -x dockerd >/dev/null 2>&1 || rm -f /var/run/docker.pid
        pgrep -x containerd >/dev/null 2>&1 || rm -f /var/run/docker/containerd/containerd.pid
        # A session of its own: the Engine must outlive this script and its terminal.
        setsid -f dockerd >>"$engine_log" 2>&1 </dev/null
    fi
    wait_for 60 "the Docker Engine to answer (its log: $engine_log)" engine_answers
}

# install_plugin NAME PACKAGE: Ubuntu packages both plugins; Debian 12 has neither (its
# docker-compose is the old Python one), but the programs in the packages of the next release
# run on it: they need libc only.
install_plugin() {
    local name=$1 package work program
    shift
    is_root_on_debian || die "The Docker plugin '$name' is missing: install docker-$name-plugin from the archive that your Engine came from."
    say "Installing the Docker plugin '$name'"
    apt_update_once
    for package in "$@"; do
        if [ "$package" != docker-compose ] && apt-cache show "$package" >/dev/null 2>&1; then
            apt_install "$package"
            ! docker "$name" version >/dev/null 2>&1 || return 0
        fi
    done
    work=$(mktemp -d)
    "$deploy_dir/machine/debian-package.sh" trixie "docker-$name" "$work"
    program=$(find "$work" -path "*cli-plugins/docker-$name" -type f | head -n 1)
    [ -n "$program" ] || die "The package docker-$name holds no plugin."
    install -D -m 755 "$program" "$plugin_dir/docker-$name"
    rm -rf "$work"
    docker "$name" version >/dev/null || die "The Docker plugin '$name' does not run here."
}

if ! engine_answers; then
    refuse_without_permission
    install_engine
    engine_answers || start_engine
fi
docker compose version >/dev/null 2>&1 || install_plugin compose docker-compose-v2 docker-compose-plugin
docker buildx version >/dev/null 2>&1 || install_plugin buildx docker-buildx docker-buildx-plugin

#!/usr/bin/env bash
# Make sure that this machine has a running Docker Engine with Compose v2 and buildx.
#
# An Engine that answers is used as it is. On Debian and Ubuntu, as root, what is missing is
# installed from the distribution and started (no systemd needed). Otherwise say what to do.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "$0")/lib.sh"

engine_log=/var/log/tmpnb-dockerd.log

engine_answers() {
    docker info >/dev/null 2>&1
}

# The Engine refuses somebody who may not open its socket; installing another would not help.
refuse_without_permission() {
    if [ -S /var/run/docker.sock ] && [ ! -w /var/run/docker.sock ]; then
        die "A Docker Engine is there, but its socket is closed to you." \
            "Join its group (sudo usermod -aG docker \"\$USER\", then log in again) or run this as root."
    fi
}

install_engine() {
    if ! command -v dockerd >/dev/null 2>&1; then
        is_root_on_debian || die "No Docker Engine answers here, and this is not root on Debian or Ubuntu." \
            "Install Docker Engine 20.10 or later with the Compose v2 and buildx plugins and start it, then run this again."
        say "Installing a Docker Engine from the distribution"
        apt_install docker.io iptables
    fi
    # Newer releases package the client apart from the Engine.
    command -v docker >/dev/null 2>&1 || apt_install docker-cli
}

start_engine() {
    [ "$(id -u)" = 0 ] || die "A Docker Engine is installed but not running: start it as root (sudo systemctl start docker)."
    say "Starting the Docker Engine"
    if [ -d /run/systemd/system ]; then
        systemctl start docker
    else
        # A daemon of its own: it must outlive this script and the terminal.
        setsid -f dockerd >>"$engine_log" 2>&1 </dev/null
    fi
    wait_for 60 "the Docker Engine to answer (its log: $engine_log)" engine_answers
}

# Debian 12 has neither plugin (its docker-compose is the old Python one). The packages of the
# next release hold static enough programs, so they are taken out of the .deb files.
install_plugin() {
    local plugin=$1 package=$2 work
    is_root_on_debian || die "The Docker plugin '$plugin' is missing: install it (package docker-$plugin-plugin or $package)."
    say "Installing the Docker plugin '$plugin'"
    work=$(mktemp -d)
    "$deploy_dir/plugin.py" "$plugin" "$package" "$work" "$plugin_dir"
    rm -rf "$work"
}

if ! engine_answers; then
    refuse_without_permission
    install_engine
    engine_answers || start_engine
fi
docker compose version >/dev/null 2>&1 || install_plugin compose docker-compose
docker buildx version >/dev/null 2>&1 || install_plugin buildx docker-buildx

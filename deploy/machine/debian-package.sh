#!/usr/bin/env bash
# Unpack a package of another Debian release into a folder, without installing it.
#
#   debian-package.sh SUITE PACKAGE FOLDER
#
# It comes from the mirror that this machine uses, checked with the machine's archive keys, and
# leaves the machine's own package lists alone.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "$0")/../lib.sh"

suite=$1 package=$2 folder=$3
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

apt_install debian-archive-keyring
apt_update_once
mirror=$(apt_mirrors Debian Debian | head -n 1)
[ -n "$mirror" ] || die "This machine's apt knows no Debian mirror to take '$package' from: install it by hand."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/archives/partial"
echo "deb [signed-by=$keyring] $mirror $suite main" >"$work/sources.list"
# The download is done as root: apt's unprivileged user could not write to our folder.
private_apt=(apt-get -qq
    -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
    -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work" -o APT::Sandbox::User=root)
"${private_apt[@]}" update
(cd "$work" && "${private_apt[@]}" download "$package")
dpkg-deb -x "$work/$package"_*.deb "$folder"

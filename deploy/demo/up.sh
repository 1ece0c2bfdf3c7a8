#!/usr/bin/env bash
# A cluster of HOSTS hosts on this machine (3 unless told). A second run changes nothing; one
# with a larger number adds hosts.
set -euo pipefail
# shellcheck source=deploy/demo/lib.sh
. "$(dirname "$0")/lib.sh"

count=${HOSTS:-3}
[[ $count =~ ^[1-9][0-9]?$ ]] || die "HOSTS is '$count': a number from 1 to 99 is accepted."

"$deploy_dir/machine/engine.sh"
"$deploy_dir/machine/env.sh"
"$deploy_dir/images/build.sh" foreign
"$deploy_dir/images/build.sh" host
load_env
find_control_ip
"$deploy_dir/machine/up.sh" control

# Together: they mostly wait for the disk and for their Engines.
pids=()
for number in $(seq "$count"); do
    "$deploy_dir/demo/host.sh" "$number" &
    pids+=($!)
done
for pid in "${pids[@]}"; do
    wait "$pid" || die "A host could not be brought up."
done
mapfile -t numbers < <(seq "$count")
wait_for_servers "${numbers[@]}"
"$deploy_dir/demo/status.sh" urls

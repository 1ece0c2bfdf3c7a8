#!/bin/sh
# The part of the official image's entry point that the compose file relies on.
set -e
if [ "$1" = agent ]; then
    shift
    set -- consul agent -data-dir=/consul/data -config-dir=/consul/config "$@"
fi
exec "$@"

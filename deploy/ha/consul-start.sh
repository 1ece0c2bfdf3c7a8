#!/bin/sh
# Start a Consul server of three. The gossip key must be in no command line, which everybody on the machine can read.
#
#   TMPNB_GOSSIP_KEY      shared by the three (consul keygen)
#   TMPNB_CONSUL_SERVERS  names of the three, with spaces between
#   arguments             further flags of "consul agent"
set -eu
umask 077
mkdir -p /tmp/consul
{
    printf 'encrypt = "%s"\n' "$TMPNB_GOSSIP_KEY"
    for server in $TMPNB_CONSUL_SERVERS; do
        printf 'retry_join = ["%s"]\n' "$server"
    done
    echo 'retry_interval = "2s"'
} >/tmp/consul/start.hcl
exec docker-entrypoint.sh agent -ui -config-dir=/tmp/consul "$@"

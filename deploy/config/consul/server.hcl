# One Consul server. Only its HTTP interface is reachable from other containers; gossip and
# server traffic stay inside its container, so they need no key of their own.
server           = true
bootstrap_expect = 1
node_name        = "consul"
bind_addr        = "127.0.0.1"
client_addr      = "0.0.0.0"

# Agents, frontends and proxies of one machine share an address behind its bridge, and each
# keeps several blocking queries open; the default is 200.
limits {
  http_max_conns_per_client = 2000
}

# Nobody asks it by DNS.
ports {
  dns = -1
}

performance {
  raft_multiplier = 1
}

# What Prometheus reads at /v1/agent/metrics?format=prometheus; kept four scrapes long.
telemetry {
  prometheus_retention_time = "60s"
  disable_hostname          = true
}

log_level            = "WARN"
disable_update_check = true

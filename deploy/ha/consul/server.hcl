# One of three Consul servers. What is secret, or differs from machine to machine, consul-start.sh adds.
server           = true
bootstrap_expect = 3
client_addr      = "0.0.0.0"

# Agents, frontends and proxies of one machine share an address behind its bridge, and each
# keeps several blocking queries open; the default is 200.
limits {
  http_max_conns_per_client = 2000
}

# Nobody asks it by DNS, and there is no second datacentre.
ports {
  dns      = -1
  serf_wan = -1
}

# The tightest timing: a new leader within 1 to 3 s. (5, the default, is for very small machines.)
performance {
  raft_multiplier = 1
}

# A server that is away stays one of the three. Otherwise the two others take it off their list, and when it comes back it
# has no vote for 10 s: the loss of one more within this time would leave Consul without a leader for good.
autopilot {
  cleanup_dead_servers = false
}
leave_on_terminate = false

# What Prometheus reads at /v1/agent/metrics?format=prometheus; kept four scrapes long.
telemetry {
  prometheus_retention_time = "60s"
  disable_hostname          = true
}

log_level            = "WARN"
disable_update_check = true

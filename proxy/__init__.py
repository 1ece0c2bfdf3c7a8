"""The proxy tier: HAProxy's configuration (``haproxy/``) and the process that keeps its table of routes."""

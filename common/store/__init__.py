"""Consul: the port, its adapters, the names of keys."""

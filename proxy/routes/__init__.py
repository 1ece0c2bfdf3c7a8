"""HAProxy's table of routes: read from Consul, kept equal to it, and written to a file for HAProxy's start."""

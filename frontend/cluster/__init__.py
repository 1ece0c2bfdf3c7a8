"""What is read of the cluster, and kept for a moment or watched, so that requests do not wait for Consul."""

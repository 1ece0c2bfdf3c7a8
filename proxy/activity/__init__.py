"""Who was active, judged from HAProxy's counters and reported to Consul."""

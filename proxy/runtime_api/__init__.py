"""HAProxy's Runtime API: its port, the adapter and the fake."""

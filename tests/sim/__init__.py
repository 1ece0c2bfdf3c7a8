"""Simulated hosts: real agents with a fake Docker Engine, many in one process.

For benchmarks of cluster size, and for tests that want many hosts or no Docker. ``python -m tests.sim`` runs them on
real stores; ``host.SimHost`` takes any adapters, those in memory included.
"""

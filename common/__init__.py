"""What the frontend, the agents and the proxy tier must agree on: records, messages, names and adapters."""

__version__ = "0.1.0"

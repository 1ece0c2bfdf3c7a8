"""What this host has in Consul about its servers."""

from dataclasses import dataclass

from agent.records.registry import Registry
from agent.records.tickets import Tickets


@dataclass(frozen=True, slots=True)
class HostRecords:
    """Servers' own records, and the tickets of whoever waits for one."""

    registry: Registry
    tickets: Tickets

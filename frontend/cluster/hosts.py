"""The figures made of the hosts' records."""

from collections.abc import Mapping
from typing import Any

from common import __version__
from common.records.hosts import HostRecord, HostState


def stats(hosts: Mapping[str, HostRecord], container_image: str) -> dict[str, Any]:
    """The body of ``/api/stats``: what tmpnb and its redirector answered, with more detail per host.

    ``available``: ready servers on hosts that take claims; ``capacity``: ready plus claimed servers there may be.
    """
    rows = {name: _host_row(record, container_image) for name, record in sorted(hosts.items())}
    return {
        "available": sum(row["available"] for row in rows.values()),
        "capacity": sum(row["capacity"] for row in rows.values()),
        "version": __version__,
        "container_image": container_image,
        "hosts": rows,
    }


def _host_row(record: HostRecord, container_image: str) -> dict[str, Any]:
    pools = record.pools.values()
    ready = sum(pool.ready for pool in pools)
    return {
        "available": ready if record.state is HostState.ACTIVE else 0,
        "capacity": sum(pool.capacity for pool in pools),
        "claimed": sum(pool.claimed for pool in pools),
        "starting": sum(pool.starting for pool in pools),
        "state": record.state.value,
        "version": record.agent_version,
        "container_image": container_image,
    }

"""What an operation works with."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from common.broker.port import Publisher
from common.store.cluster import Cluster


@dataclass(frozen=True, slots=True)
class Context:
    """Handed to every operation that changes something. ``now``: the cluster's time."""

    cluster: Cluster
    publisher: Publisher
    now: Callable[[], datetime]

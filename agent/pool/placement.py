"""Which host serves the next request: told to RabbitMQ as the priority of this host's consumer. Pure.

Scheduling is by pull, so a host cannot look at the others; it only says how full it is itself, and RabbitMQ gives a
request to the highest among those that have their hands free.
"""

from typing import Literal

# A new priority costs a new subscription. With twenty steps a host of 20 servers or fewer tells of each claim, a larger
# one of every 5 %.
STEPS = 20


def priority(placement: Literal["spread", "pack"], claimed_count: int, capacity: int) -> int:
    """0 to ``STEPS``. Spread: the less of the host would be claimed with one server more, the higher, so that hosts of
    different sizes fill evenly. Pack: the more of it is claimed, the higher."""
    if capacity <= 0:
        return 0
    if placement == "pack":
        return min(STEPS, STEPS * claimed_count // capacity)
    return max(0, STEPS - STEPS * (claimed_count + 1) // capacity)

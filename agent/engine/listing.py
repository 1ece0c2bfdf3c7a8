"""One listing of the engine, and what it shows. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from agent.engine.port import Container
from agent.lifecycle import Server

# Two listings that miss a container must be so far apart: one odd answer of the engine is no proof of absence.
ABSENT_S = 1.0


@dataclass(frozen=True, slots=True)
class EngineListing:
    """``known``: the servers as they were before the listing began, so that a container made during it is not taken for
    absent."""

    containers: Sequence[Container]
    known: Sequence[Server]

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(container.id for container in self.containers)


def missing(listing: EngineListing) -> frozenset[str]:
    """The users whose containers a listing should have shown and did not."""
    listed = listing.ids
    return frozenset(s.user for s in listing.known if s.container and s.container not in listed)

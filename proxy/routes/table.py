"""The table of routes as HAProxy shall have it. No I/O; used by the writer's thread alone (but for ``users``).

An entry of the table is ``<port>@<address>``: the address may hold colons (IPv6), the port cannot hold an "@". A server
whose image has static files that all share has their set as a third field; a private one has the digest of its seat's
key as the fourth, behind a third that may be empty.
"""

import ipaddress
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from common.records.servers import Route
from common.statics import is_set_id
from proxy.runtime_api.port import Change

_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a user's requests go (``<port>@<address>``), and since when (Unix time): the newer of two claims to one
    address is right. ``statics``: the set of static files of the server's image; empty: none. ``pool``: the server's;
    empty: not known yet. ``seat``: the digest of the key that lets visitors in; empty: everybody may come in."""

    value: str
    created_at: float = 0.0
    statics: str = ""
    pool: str = ""
    seat: str = ""

    @classmethod
    def parse(cls, entry: str) -> "Target | None":
        """Parse an entry of the table. Returns None if it is none."""
        port, _, rest = entry.partition("@")
        address, *more = rest.split("@")
        statics, seat = (*more, "", "")[:2]
        try:
            ipaddress.ip_address(address)
        except ValueError:
            return None
        target = cls(f"{port}@{address}", statics=statics, seat=seat)
        good = port.isdecimal() and 0 < int(port) < 65536 and (not statics or is_set_id(statics))
        # Spelled as we would: nothing left over, no empty field at the end.
        return target if good and (not seat or _DIGEST.fullmatch(seat)) and target.entry == entry else None

    @property
    def entry(self) -> str:
        if self.seat:
            return f"{self.value}@{self.statics}@{self.seat}"
        return f"{self.value}@{self.statics}" if self.statics else self.value


@dataclass(frozen=True, slots=True)
class Delta:
    """What a look at Consul brought: users with a new or changed target, and users without a route (any more).

    ``complete``: together with everything before, this is all that Consul holds.
    """

    puts: Mapping[str, Target] = field(default_factory=dict)
    gone: frozenset[str] = frozenset()
    complete: bool = False


def target_of(route: Route) -> Target:
    """Where a route leads."""
    address = ipaddress.ip_address(route.address)
    return Target(f"{route.port}@{address}", route.created_at.timestamp(), route.statics, route.pool, route.seat)


def place(entry: str) -> str:
    """The port and address of an entry, which belong to one user at a time."""
    return "@".join(entry.split("@", 2)[:2])


class Table:
    """Users and their targets, where each target belongs to one user (I5).

    When a second user's record names a target, the first one's server is gone and its port was used again, although
    its record is still there: the newer record has the target, the older one counts as no route.
    """

    def __init__(self) -> None:
        self._targets: dict[str, Target] = {}
        # By value: the user it belongs to, and those it shadows (there is hardly ever one).
        self._users_at: dict[str, set[str]] = defaultdict(set)

    def __len__(self) -> int:
        return len(self._targets)

    def users(self) -> frozenset[str]:
        """Everybody with a record. From any thread (copying a dict's keys is one step under the interpreter's lock)."""
        return frozenset(tuple(self._targets))

    def pools(self) -> dict[str, str]:
        """User -> pool. From any thread."""
        return {user: target.pool for user, target in tuple(self._targets.items())}

    def target(self, user: str) -> Target | None:
        """Where the user's record leads. From any thread."""
        return self._targets.get(user)

    def value(self, user: str) -> str | None:
        """The user's entry as HAProxy should have it. None if it should have none."""
        target = self._targets.get(user)
        return target.entry if target is not None and user in self._owners(target.value) else None

    def values(self) -> dict[str, str]:
        """The whole table."""
        return {user: self._targets[user].entry for value in self._users_at for user in self._owners(value)}

    def is_shadowed(self, user: str) -> bool:
        """Whether the user has a record, but its target belongs to a newer one."""
        return user in self._targets and self.value(user) is None

    def update(self, delta: Delta) -> set[str]:
        """Take over a delta; the users whose entry may be another one now, their rivals included."""
        touched = set(delta.puts)
        for user in (*delta.gone, *delta.puts):
            if (before := self._targets.pop(user, None)) is not None:
                touched.add(user)
                self._users_at[before.value].remove(user)
                touched |= self._owners(before.value)
                if not self._users_at[before.value]:
                    del self._users_at[before.value]
        for user, target in delta.puts.items():
            touched |= self._owners(target.value)
            self._targets[user] = target
            self._users_at[target.value].add(user)
        return touched

    def _owners(self, value: str) -> set[str]:
        """The one whose target this is: of several users the one with the newest."""
        users = self._users_at[value]
        return {max(users, key=lambda user: (self._targets[user].created_at, user))} if users else set()


def diff(have: Mapping[str, str], want: Mapping[str, str]) -> list[Change]:
    """The steps from ``have`` to ``want``, in an order in which no target ever belongs to two users.

    Removals come first. A target that passes from one user to another is taken from the first before the second gets
    it, also when users swap theirs.
    """
    removals, moves, adds = [], [], []
    leaving = {place(old) for user, old in have.items() if place(want.get(user, "")) != place(old)}
    for user, old in have.items():
        new = want.get(user)
        if new is None:
            removals.append(Change(user, old, None))
        elif new != old and place(new) in leaving:
            removals.append(Change(user, old, None))
            adds.append(Change(user, None, new))
        elif new != old:
            moves.append(Change(user, old, new))
    adds.extend(Change(user, None, new) for user, new in want.items() if user not in have)
    return removals + moves + adds

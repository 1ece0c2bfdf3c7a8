"""What must stay true (docs/design.md, I1 to I8), read off a history. Pure: ``check(history) -> [Violation]``.

Absence of evidence is no pass: a history that ends without two calm looks at the cluster is itself a violation.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from tests.faults.history import Box, Fault, History, Look, Outcome

# A connection may still break so long after a fault was healed: reconnects back off up to some seconds.
AFTERMATH_S = 30.0


@dataclass(frozen=True, slots=True)
class Violation:
    """``invariant``: I1 to I8; ``evidence``: what in the history says so."""

    invariant: str
    evidence: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.evidence}"


def check(history: History) -> list[Violation]:
    """All violations, by invariant."""
    return [Violation(name, evidence) for name, rule in RULES.items() for evidence in rule(history)]


def i1_claimed_by_one_request(history: History) -> Iterator[str]:
    """Replies, tickets and claims in Consul name one request per server. (A claim that was written again after Consul
    and the agent lost it does not know its request.)"""
    told: defaultdict[str, set[str]] = defaultdict(set)
    by_token: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    asked_again = {(request.path_of, request.request_id) for request in history.requests}
    for given in history.given:
        by_token[given.user, given.token].add(given.request_id)
        if (given.user, given.request_id) not in asked_again:  # else another server, at the same path
            told[given.user].add(given.request_id)
    for (user, token), requests in sorted(by_token.items()):
        if token and len(requests) > 1:
            yield f"one server at {user} was claimed by requests {', '.join(sorted(requests))}"
    in_consul = {
        user: {request for request in requests if (user, request) not in asked_again}
        for user, requests in _claims_in_consul(history).items()
    }
    for user in sorted(told.keys() | in_consul.keys()):
        # One whose client never learned the cluster's name for it stands in Consul under that.
        named = {request for request in told[user] if not request.startswith("~")} | in_consul.get(user, set()) - {""}
        for requests in (told[user], named):
            if len(requests) > 1:
                yield f"server {user} was claimed by requests {', '.join(sorted(requests))}"
                break


def i2_every_request_ends(history: History) -> Iterator[str]:
    """No request is without news; none waits beside ready servers; none breaks off without a fault."""
    calm = [look for look in history.looks if look.calm]
    ready = _ready_by_pool(calm[-1]) if calm else Counter()
    for request in history.requests:
        what = f"request {request.request_id} ({request.kind.value}, asked at {request.asked_s:.1f})"
        if request.outcome is Outcome.OPEN:
            yield f"{what} has no outcome"
        elif request.outcome is Outcome.WAITING and ready[request.pool]:
            yield f"{what} still waits, and {ready[request.pool]} servers of pool {request.pool} are ready: it is lost"
        elif request.outcome is Outcome.BROKEN and not _during(history, request.ended_s):
            yield f"{what} broke off at {request.ended_s:.1f}, when there was no fault"


def i3_claimed_is_never_ready_again(history: History) -> Iterator[str]:
    """Neither in an agent's view, nor by its container's name, nor by the records once everything is calm."""
    marked: set[str] = set()
    for look in history.looks:
        marked |= {box.user for _, box in _boxes(look) if box.claimed}
        ever = marked | {given.user for given in history.given if given.at_s <= look.at_s}
        ever |= _claims_in_consul(history, look.at_s).keys()
        for host, seen in sorted(look.hosts.items()):
            for user in sorted(seen.ready & ever):
                yield f"server {user} was claimed, and {host} holds it ready at {look.at_s:.1f}"
        for host, box in _boxes(look):
            if box.user in marked and not box.claimed:
                yield f"container {box.container[:12]} of {box.user} on {host} lost its mark at {look.at_s:.1f}"
            elif look.calm and box.user in ever and _is_ready(box, look):
                yield f"server {box.user} was claimed, and is ready on {host} at {look.at_s:.1f}"
        yield from _counted_as_ready(look)


def _counted_as_ready(look: Look) -> Iterator[str]:
    for host, seen in sorted(look.hosts.items()):
        unclaimed = sum(1 for box in seen.boxes or () if box.running and not box.claimed)
        if look.calm and seen.boxes is not None and (seen.ready_count or 0) > unclaimed:
            yield f"{host} counts {seen.ready_count} ready servers at {look.at_s:.1f}, and {unclaimed} are unclaimed"


def i4_claimed_servers_go_on(history: History) -> Iterator[str]:
    """Streams without a break or a gap, and every server that somebody was given still there: see ``_vanished``."""
    culled = {cull.user: cull.at_s for cull in history.culls}
    for stream in history.streams:
        name = f"stream of {stream.user} on {stream.host}, opened at {stream.opened_s:.1f},"
        if stream.gap:
            yield f"{name} has a gap"
        if stream.broken_s is None or culled.get(stream.user, float("inf")) <= stream.broken_s:
            continue
        faults = _during(history, stream.broken_s)
        if not any(fault.breaks_connections or stream.host in fault.hurts for fault in faults):
            yield f"{name} broke at {stream.broken_s:.1f} during {_names(faults)}"
    yield from _vanished(history, after_loss=False)


def i5_paths_lead_to_their_own(history: History) -> Iterator[str]:
    for response in history.responses:
        if response.answered_by and response.answered_by != response.user:
            yield f"/user/{response.user}/ was answered by {response.answered_by}'s container at {response.at_s:.1f}"


def i6_nothing_is_left_over(history: History) -> Iterator[str]:
    """In calm, what is no server is gone by the next look, and so are records that lead nowhere."""
    calm = [look for look in history.looks if look.calm]
    if len(calm) < 2:
        yield "the cluster was not seen at rest twice"
    for before, after in pairwise(calm):
        for text in sorted(_leftovers(before) & _leftovers(after)):
            yield f"{text} is left over from {before.at_s:.1f} to {after.at_s:.1f}"


def i7_no_host_beyond_its_capacity(history: History) -> Iterator[str]:
    """Running containers against the greatest capacity there ever was: claimed ones may outlive a reduction."""
    most: defaultdict[tuple[str, str], int] = defaultdict(int)
    for look in history.looks:
        for host, seen in sorted(look.hosts.items()):
            for pool, capacity in seen.capacity.items():
                most[host, pool] = max(most[host, pool], capacity)
            running = Counter(box.pool for box in seen.boxes or () if box.running)
            for pool, count in sorted(running.items()):
                if count > most[host, pool]:
                    yield f"{host} runs {count} servers of {pool} at {look.at_s:.1f}, capacity {most[host, pool]}"


def i8_lost_records_come_back(history: History) -> Iterator[str]:
    """In calm every server has its pointer, and every claimed one its records; and no server ended because they were
    lost."""
    for look in history.looks:
        if not look.calm or look.routes is None or look.claims is None:
            continue
        for host, box in _boxes(look):
            if box.running and box.claimed and not (box.user in look.routes and box.user in look.claims):
                yield f"server {box.user} on {host} is claimed, and misses records at {look.at_s:.1f}"
            if box.running and look.pointers is not None and look.pointers.get(box.user) != host:
                yield f"no pointer leads to the server of {box.user} on {host} at {look.at_s:.1f}"
    yield from _vanished(history, after_loss=True)


def _vanished(history: History, *, after_loss: bool) -> Iterator[str]:
    """Servers that were given to somebody and are gone or another container, although nobody asked for it and no fault
    may hurt them. ``after_loss``: only those that went after Consul had lost its records (I8, else I4)."""
    # Of several servers at one path the last one counts.
    given = {item.user: item.at_s for item in history.given}
    culled = {cull.user: cull.at_s for cull in history.culls if cull.at_s >= given.get(cull.user, 0.0)}
    seen: dict[str, tuple[str, Box]] = {}
    reported: set[str] = set()
    for look in history.looks:
        boxes = {box.user: (host, box) for host, box in _boxes(look)}
        for user, at_s in given.items():
            if at_s > look.at_s or user in reported or culled.get(user, float("inf")) <= look.end_s:
                continue
            host, before = seen.get(user, ("", None))
            now_on, now = boxes.get(user, ("", None))
            if now is not None and now.running and (before is None or before.container == now.container):
                seen[user] = now_on, now
            elif before is not None and look.hosts.get(host) is not None and look.hosts[host].boxes is not None:
                begun = [fault for fault in history.faults if fault.at_s <= look.end_s]
                if any(host in fault.hurts for fault in begun):
                    continue
                if any(fault.loses_records for fault in begun) == after_loss:
                    reported.add(user)
                    yield f"server {user} on {host} is gone at {look.at_s:.1f}, after {_names(begun)}"


def _claims_in_consul(history: History, until_s: float = float("inf")) -> dict[str, set[str]]:
    """User -> the requests that its claims named. A claim that Consul lost while nobody had been told of it, nor its
    container been marked, was none: nothing in the world knows of it any more."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    proved: set[str] = set()
    losses = [fault.at_s for fault in history.faults if fault.loses_records]
    for look in history.looks:
        if look.at_s > until_s:
            break
        while losses and losses[0] <= look.at_s:
            lost_s = losses.pop(0)
            proved |= {given.user for given in history.given if given.at_s <= lost_s}
            found = defaultdict(set, {user: requests for user, requests in found.items() if user in proved})
        proved |= {box.user for _, box in _boxes(look) if box.claimed}
        for user, request_id in (look.claims or {}).items():
            found[user].add(request_id)
    return found


def _boxes(look: Look) -> Iterator[tuple[str, Box]]:
    for host, seen in sorted(look.hosts.items()):
        for box in seen.boxes or ():
            yield host, box


def _is_ready(box: Box, look: Look) -> bool:
    """By container, name and records."""
    known = look.routes is not None and look.claims is not None
    return known and box.running and not box.claimed and box.user in look.routes and box.user not in look.claims


def _ready_by_pool(look: Look) -> Counter[str]:
    return Counter(box.pool for _, box in _boxes(look) if _is_ready(box, look))


def _leftovers(look: Look) -> set[str]:
    if look.routes is None or look.claims is None:
        return set()
    boxes = list(_boxes(look))
    running = {box.user for _, box in boxes if box.running}
    dead = {
        f"container {box.container[:12]} ({box.state}) of {box.user} on {host}"
        for host, box in boxes
        if not box.running or box.user not in look.routes
    }
    count = Counter(box.user for _, box in boxes if box.running)
    return (
        dead
        | {f"one of {n} containers of {user}" for user, n in count.items() if n > 1}
        | {f"route of {user}" for user in look.routes.keys() - running}
        | {f"claim of {user}" for user in look.claims.keys() - running}
    )


def _during(history: History, at_s: float) -> list[Fault]:
    return [fault for fault in history.faults if fault.at_s - 1.0 <= at_s <= fault.healed_s + AFTERMATH_S]


def _names(faults: list[Fault]) -> str:
    return ", ".join(fault.name for fault in faults) or "no fault"


RULES: dict[str, Callable[[History], Iterator[str]]] = {
    "I1": i1_claimed_by_one_request,
    "I2": i2_every_request_ends,
    "I3": i3_claimed_is_never_ready_again,
    "I4": i4_claimed_servers_go_on,
    "I5": i5_paths_lead_to_their_own,
    "I6": i6_nothing_is_left_over,
    "I7": i7_no_host_beyond_its_capacity,
    "I8": i8_lost_records_come_back,
}

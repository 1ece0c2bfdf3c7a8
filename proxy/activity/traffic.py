"""Who was active, from what HAProxy counted. Pure: no I/O, no clock.

Requests: haproxy.cfg counts those that are activity (it leaves out JupyterLab's polling), and by kinds those that an
open page may make by itself: whether it does is seen from when they come (``polling.py``), if they are small.
WebSockets: an open one that nobody uses still carries pings, so bytes count only beyond an allowance:

- A pong is 6 bytes from the browser and a ping 2 bytes to it (RFC 6455, 5.2: header of 2, mask of 4, no payload);
  Jupyter pings every 30 s (jupyter_server, ``ws_ping_interval``). VS Code in the browser sends a keep-alive of 13
  bytes plus framing every 5 s each way, 114 bytes in 30 s. Running a cell sends an ``execute_request`` of 600 bytes
  or more, and its answers are several messages of 400 bytes or more. So 256 bytes from the browser, or 512 bytes to
  it, per open WebSocket in 30 s are use; that is also a dozen keystrokes in a terminal, or their output.
- Opening a WebSocket is no use by itself: tabs reconnect on their own. Its handshake has up to 2 KB of headers (mostly
  cookies), and JupyterLab asks each kernel for its info, answered with some 3 KB.
- HAProxy brings the bytes of an open connection into the counters every 5 s ("option contstats"), but an opening at
  once: so a period may show the bytes of 5 s more, and those of an opening that the period before showed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.runtime_api.port import Counters

# How late the bytes of an open connection may be counted.
LAG_S = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What an unused WebSocket may carry; more is activity."""

    in_bytes_per_s: float = 256 / 30
    out_bytes_per_s: float = 512 / 30
    opening_in_bytes: int = 4096
    opening_out_bytes: int = 8192


# Of the other requests: headers with a site's cookies and a body of a few fields; a status or a list in return. (Twice
# that, where as many came in the period before: see ``was_active``.) Beyond it somebody gets or sends something, and
# goes on doing so for as long as it flows.
ASKED = Limits(opening_in_bytes=4096, opening_out_bytes=16384)


@dataclass(frozen=True, slots=True)
class Reading:
    """All counters at one time (monotonic, in seconds). ``asked``: the requests that a page may have made by itself."""

    at_s: float
    counters: Mapping[str, Counters]
    asked: Mapping[str, Counters] = field(default_factory=dict)


def was_active(
    before: Counters | None, after: Counters, elapsed_s: float, limits: Limits, earlier: Counters | None = None
) -> bool:
    """Whether the user did something between two readings, ``elapsed_s`` apart. ``before`` is None if
    there was no entry.

    ``earlier``: at least ``LAG_S`` before ``before``; openings since then may be in the bytes. Counters that went down
    began again at 0 (HAProxy was restarted, or the entry had expired): what they show now has happened since.
    """
    start = _start(before, after)
    if after.requests > start.requests:
        return True
    first = _start(earlier, after)
    opened = after.opened - first.opened + (sum(after.kinds) - sum(first.kinds)) // 2
    # A WebSocket that was closed in between is in neither ``open``, but was opened.
    socket_s = (max(1, after.open, start.open) + opened) * (elapsed_s + LAG_S)
    allowed_in = socket_s * limits.in_bytes_per_s + opened * limits.opening_in_bytes
    allowed_out = socket_s * limits.out_bytes_per_s + opened * limits.opening_out_bytes
    return after.bytes_in - start.bytes_in > allowed_in or after.bytes_out - start.bytes_out > allowed_out


def active_users(earlier: Reading, before: Reading, after: Reading, limits: Limits) -> set[str]:
    """Everybody who did something between ``before`` and ``after``, whatever else they ``asked`` for."""
    elapsed_s = after.at_s - before.at_s
    return {
        user
        for user, now in after.counters.items()
        if was_active(before.counters.get(user), now, elapsed_s, limits, earlier.counters.get(user))
    } | {
        user
        for user, now in after.asked.items()
        if was_active(before.asked.get(user), now, elapsed_s, ASKED, earlier.asked.get(user))
    }


def asked_since(before: Reading, after: Reading) -> dict[str, dict[int, int]]:
    """User -> kind -> how many requests of it came between two readings, of those that did."""
    found: dict[str, dict[int, int]] = {}
    for user, now in after.asked.items():
        start = before.asked.get(user)
        if start is now or start == now:
            continue
        counts = _start(start, now).kinds or (0,) * len(now.kinds)
        more = {kind: new - old for kind, (new, old) in enumerate(zip(now.kinds, counts, strict=True)) if new > old}
        if more:
            found[user] = more
    return found


def maybe_active_users(after: Mapping[str, Counters], gap_s: float) -> set[str]:
    """Everybody who may have done something in the last ``gap_s`` seconds, when the reading before is lost.

    In doubt for the user: an open WebSocket counts, and so does any use of the entry.
    """
    return {user for user, now in after.items() if now.open > 0 or now.idle_s <= gap_s}


def _start(before: Counters | None, after: Counters) -> Counters:
    """Where counting to ``after`` began."""
    continues = (
        before is not None
        and after.requests >= before.requests
        and after.opened >= before.opened
        and after.bytes_in >= before.bytes_in
        and after.bytes_out >= before.bytes_out
        and sum(after.kinds) >= sum(before.kinds)
    )
    return before if before is not None and continues else Counters()

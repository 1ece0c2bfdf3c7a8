"""Whether requests come from a page that nobody touches. Pure: no I/O, no clock.

An open tab goes on asking for the status of something by itself: the same request, at equal intervals. A person's come
at unequal ones. HAProxy counts each user's requests in a few kinds (haproxy.cfg: two hashes of method, path and length
of the body), and how many of each came between two readings is all that is known here. A kind of request is its page's
own when the last ``EVENTS`` readings that saw any of it lie on a straight line as closely as an exact interval would:
within the one request that a reading may just have missed, or the one reading by which a rare request is seen late.

In doubt it was a person. Whoever changes something seldom sends two bodies of the same length, whoever opens pages asks
for several kinds, and the first request that comes early or late, or of any other kind, is a person's. What remains:
somebody who presses one and the same button for long, at nearly equal intervals, in an application without WebSockets,
and does nothing else meanwhile, counts as idle since the first of these events; the figures are in
docs/decisions/2026-11-27-ready-busy-idle.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass

# Fewer are soon found in a person's clicks, more take long to be seen: five minutes at the default period.
EVENTS = 10
# Timers of browsers and answers of servers are late by so much now and then.
LATE_S = 1.0


@dataclass(frozen=True, slots=True)
class Series:
    """The last readings that saw requests of one kind: when (seconds), and how many. ``person_at``: the time of the
    last one that may have been a person's."""

    events: tuple[tuple[float, int], ...]
    steady: bool
    person_at: float


def seen(before: Series | None, at_s: float, count: int, period_s: float) -> Series:
    """After a reading at ``at_s`` that saw ``count`` more requests of the kind. ``period_s``: between two readings."""
    events = ((*before.events, (at_s, count)) if before else ((at_s, count),))[-EVENTS:]
    if not is_steady(events, period_s):
        return Series(events, steady=False, person_at=at_s)
    # It was so from the first of them on; that one may have been a person who opened the page.
    return Series(events, True, before.person_at if before and before.steady else events[0][0])


def is_steady(events: Sequence[tuple[float, int]], period_s: float) -> bool:
    """Whether an exact interval explains these readings."""
    if len(events) < EVENTS:
        return False
    total = sum(count for _, count in events[1:])
    # Also the first and the last reading may have taken one along or missed it.
    return any(_fits(events, total + off, period_s) for off in (-1.0, -0.5, 0.0, 0.5, 1.0))


def _fits(events: Sequence[tuple[float, int]], total: float, period_s: float) -> bool:
    """Whether an interval that fits ``total`` times between the first and the last of them explains them all."""
    began_s = events[0][0]
    interval_s = (events[-1][0] - began_s) / total
    count = 0
    late_s = [0.0]
    for at_s, more in events[1:]:
        count += more
        late_s.append(at_s - began_s - count * interval_s)
    return max(late_s) - min(late_s) <= min(1.15 * interval_s, 1.05 * period_s + 0.05 * interval_s) + LATE_S

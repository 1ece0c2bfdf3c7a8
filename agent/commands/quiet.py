"""Whether a container has done nothing for a while, seen over several looks: for servers whose kernels cannot be asked,
or say something that may be long over. Pure.

Work shows as CPU or as packets that the container sends: whoever downloads acknowledges what arrives, however slowly.
(What it receives shows nothing: broadcasts of a whole bridge are in it.) An open tab shows, too: its connection is kept
alive every few seconds (haproxy.cfg), so a server with a tab that nobody can look into is left alone.
"""

from dataclasses import dataclass, replace

from agent.engine.port import Usage

# A Jupyter server without a tab uses next to nothing, one with a polling tab 1 to 3 % of a core.
QUIET_CORES = 0.05
# A silent container sends an answer to ARP now and then. A download that brings something every 15 s is beyond this.
PACKETS_PER_S = 1 / 20
PACKETS_SPARE = 5


@dataclass(frozen=True, slots=True)
class Watch:
    """Since when (monotonic seconds) a container is looked at without having done anything, what it has used in that
    time, and its counters at the end of the last look: what our own looks made it do is not counted."""

    since_s: float
    last: Usage
    cpu_s: float = 0.0
    packets: int = 0


def watched(before: Watch | None, found: Usage, now_s: float) -> Watch:
    """After another look that began with the counters ``found``. It begins anew when the container did something."""
    fresh = Watch(now_s, found)
    if before is None:
        return fresh
    sent = (found.sent_packets or 0) - (before.last.sent_packets or 0)
    seen = replace(before, cpu_s=before.cpu_s + found.cpu_s - before.last.cpu_s, packets=before.packets + sent)
    span_s = now_s - before.since_s
    # Counters that went down are another container's, or began again.
    continues = sent >= 0 and found.cpu_s >= before.last.cpu_s
    quiet = seen.cpu_s <= QUIET_CORES * max(1.0, span_s) and seen.packets <= PACKETS_SPARE + PACKETS_PER_S * span_s
    return seen if continues and quiet else fresh


def ended(watch: Watch, found: Usage) -> Watch:
    """The look ended with the counters ``found``."""
    return replace(watch, last=found)

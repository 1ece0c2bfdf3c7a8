"""One experiment on a real cluster: load, one or two injections, healing, rest, judgement."""

import random
from collections.abc import Sequence
from time import monotonic

from tests.faults.checker import Violation, check
from tests.faults.history import Fault, History
from tests.faults.injections import CATALOGUE, Injection
from tests.faults.load import Load
from tests.faults.observer import Observer
from tests.faults.recorder import Recorder
from tests.support.hosts_rig import HostsRig
from tests.support.waiting import wait_until

# So many servers are held by learners at a time, of twice as many that the hosts have room for.
MOST, STREAMS = 6, 5
# After healing the load goes on for so long: what comes back late meets requests.
AFTER_S = 3.0


def experiment(rig: HostsRig, names: Sequence[str], chance: random.Random) -> list[Violation]:
    """Inject all of ``names`` at once, each into a host chosen by chance; what was violated."""
    begun = monotonic()
    recorder = Recorder()
    observer, load = Observer(rig, recorder), Load(rig, recorder, MOST, STREAMS)
    _clear(rig, load)
    observer.start()
    try:
        load.start()
        _inject(rig, recorder, observer, names, chance)
        load.stop_asking()
        observer.rest()
    finally:
        load.stop()
        observer.stop()
    history = recorder.history()  # the streams have ended only now
    violations = check(history)
    print(f"{' + '.join(names)}: {_summary(history)}, {monotonic() - begun:.0f} s")
    for violation in violations:
        print(f"  {violation}")
    return violations


def _inject(rig: HostsRig, recorder: Recorder, observer: Observer, names: Sequence[str], chance: random.Random) -> None:
    chosen: list[tuple[str, Injection, str]] = []
    heals = []
    at_s = recorder.now()
    try:
        for name in names:
            host = chance.choice(sorted(rig.hosts))
            chosen.append((name, CATALOGUE[name], host))
            heals.append(CATALOGUE[name].inject(rig, rig.hosts[host]))
        observer.pause(max(CATALOGUE[name].hold_s for name in names))
    finally:
        for heal in reversed(heals):
            heal()
        healed_s = recorder.now()
        for name, injection, host in chosen:
            hurt = frozenset({host}) if injection.hurts else frozenset()
            recorder.add(
                Fault(f"{name} ({host})", at_s, healed_s, hurt, injection.breaks_connections, injection.loses_records)
            )
    observer.pause(AFTER_S)


def _clear(rig: HostsRig, load: Load) -> None:
    """Begin with nothing claimed, nobody waiting, and something ready."""

    def cleared() -> bool:
        claims = rig.cluster.records("claims")
        for user in claims:
            load.cull(user)
        return not claims and rig.cluster.available() >= 2 * len(rig.hosts)

    wait_until(cleared, "a cluster that nobody uses", 120, every_s=1.0)


def _summary(history: History) -> str:
    outcomes = [request.outcome.value for request in history.requests]
    counts = ", ".join(f"{outcomes.count(value)} {value}" for value in sorted(set(outcomes)))
    return f"{counts}; {len(history.looks)} looks, {len(history.responses)} visits, {len(history.streams)} streams"

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
from tests.hosts_rig import HostsRig
from tests.waiting import wait_until

# So many servers are held by learners at a time, of twice as many that the hosts have room for.
MOST, STREAMS = 6, 5
# After healing the load goes on for so long: what comes back late meets requests.
AFTER_S = 3.0


def experiment(rig: HostsRig, names: Sequence[str], chance: random.Random) -> list[Violation]:
    """Inject all of ``names`` at once, each into a host chosen by chance; what was violated."""
    begun = monotonic()
    recorder = Recorder()
    observer, load = Observer(rig, recorder), Load(rig, recorder, MOST, STREAMS)
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
    _clear(rig, load, recorder)
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
            recorder.add(Fault(f"{name} ({host})", at_s, healed_s, hurt, injection.breaks_connections))
    observer.pause(AFTER_S)


def _clear(rig: HostsRig, load: Load, recorder: Recorder) -> None:
    """The next experiment begins with nothing claimed."""
    for user in rig.cluster.records("claims"):
        load.cull(user)
    wait_until(lambda: not rig.cluster.records("claims"), "the culled servers to be gone", 90, every_s=0.5)
    wait_until(lambda: rig.cluster.available() >= 2, "ready servers", 90, every_s=0.5)


def _summary(history: History) -> str:
    outcomes = [request.outcome.value for request in history.requests]
    counts = ", ".join(f"{outcomes.count(value)} {value}" for value in sorted(set(outcomes)))
    return f"{counts}; {len(history.looks)} looks, {len(history.responses)} visits, {len(history.streams)} streams"

"""Faults in a real cluster under load, singly and in pairs, and what must stay true (docs/faults.md).

Short: the singles that differ most, a pair by chance. Long (``make test-faults LONG=1``): all singles, then pairs
by chance for ``TMPNB_FAULT_MINUTES``.
"""

import os
import random
import time
from itertools import combinations

import pytest

from tests.faults.cluster_stage import experiment
from tests.faults.conftest import LONG
from tests.faults.injections import CATALOGUE
from tests.support.hosts_rig import HostsRig

SHORT = (
    "agent killed", "docker killed", "network cut", "rabbitmq killed", "consul killed", "haproxy killed",
    "rabbitmq low on disk", "consul without a leader", "consul with a full disk", "consul's data damaged",
)  # fmt: skip
PAIRS_COUNT = 1
MINUTES = float(os.environ.get("TMPNB_FAULT_MINUTES", "60"))

SINGLES = tuple(CATALOGUE) if LONG else SHORT


def _go_together(one: str, other: str) -> bool:
    """Not two faults of one store: to inject and to mend them takes that store's own tools."""
    same_store = one.split()[0] == other.split()[0] and one.split()[0] in {"rabbitmq", "consul"}
    return not same_store and not CATALOGUE[one].long and not CATALOGUE[other].long


PAIRS = [pair for pair in combinations(CATALOGUE, 2) if _go_together(*pair)]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", SINGLES)
def test_a_fault_breaks_no_promise(rig: HostsRig, name: str, chance: random.Random) -> None:
    assert experiment(rig, [name], chance) == []


@pytest.mark.timeout(600 if not LONG else 0)
def test_two_faults_at_once_break_no_promise(rig: HostsRig, chance: random.Random) -> None:
    until = time.monotonic() + 60 * MINUTES
    tried = 0
    while tried < PAIRS_COUNT or (LONG and time.monotonic() < until):
        pair = chance.choice(PAIRS)
        assert experiment(rig, pair, chance) == [], " + ".join(pair)
        tried += 1

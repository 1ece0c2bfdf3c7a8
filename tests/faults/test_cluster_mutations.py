"""Broken builds on the real cluster: what the simulated stage finds out, the real one does, too. Long form only."""

import random

import pytest

from tests.faults.cluster_stage import experiment
from tests.faults.other_agents import replace_agent, with_sources
from tests.hosts_rig import HostsRig

READY_AGAIN = {
    "names.py": ("return name.endswith(_CLAIMED)", "return False"),
    "adopter.py": (
        "exists, claim = steady(self._stop)(self._registry.find_claim, server.user)",
        "exists, claim = False, None",
    ),
}
REMOVE_EVERYTHING = {
    "adopter.py": (
        "        found = names.identity(container.labels)\n        if found is None:",
        "        found = names.identity(container.labels)\n        self._engine.remove(container.id)\n        if True:",
    ),
}


@pytest.mark.parametrize(
    ("changes", "breaks"), [(READY_AGAIN, "I3"), (REMOVE_EVERYTHING, "I4")], ids=["ready again", "remove everything"]
)
def test_a_broken_build_is_found_out_on_the_real_cluster(
    rig: HostsRig, changes: dict[str, tuple[str, str]], breaks: str, chance: random.Random
) -> None:
    hosts = list(rig.hosts.values())
    try:
        for host in hosts:
            with_sources(rig, host, changes)
        found = experiment(rig, ["agent killed"], chance)
    finally:
        for host in hosts:
            replace_agent(rig, host)
    assert breaks in {violation.invariant for violation in found}

"""A broken build on the real cluster, so that its judgement is tried as well. Long form only."""

import random

from tests.faults.cluster_stage import experiment
from tests.faults.other_agents import replace_agent, with_sources
from tests.support.hosts_rig import HostsRig

REMOVE_EVERYTHING = {
    "servers/adopter.py": (
        "        found = names.identity(container.labels, container.name)\n        if found is None:",
        "        found = names.identity(container.labels, container.name)\n"
        "        self._engine_calls.remove(container.id)\n"
        "        if True:",
    ),
}


def test_an_agent_that_removes_everything_at_its_start_is_found_out(rig: HostsRig, chance: random.Random) -> None:
    hosts = list(rig.hosts.values())
    try:
        for host in hosts:
            with_sources(rig, host, REMOVE_EVERYTHING)
        found = experiment(rig, ["agent killed"], chance)
    finally:
        for host in hosts:
            replace_agent(rig, host)
    assert "I4" in {violation.invariant for violation in found}

"""One real cluster for all experiments: the control plane and two hosts with Docker Engines of their own."""

import os
import random
import secrets
from collections.abc import Iterator

import pytest

from tests.support.hosts_rig import HostsRig
from tests.support.light import light_pool

LONG = bool(os.environ.get("TMPNB_FAULT_LONG"))
collect_ignore = [] if LONG else ["test_cluster_mutations.py"]
SEED = int(os.environ.get("TMPNB_FAULT_SEED") or secrets.randbelow(1_000_000))


def pytest_report_header() -> str:
    return f"faults: TMPNB_FAULT_SEED={SEED} repeats the choices of this run"


@pytest.fixture(scope="session")
def rig() -> Iterator[HostsRig]:
    pool = light_pool(pool_size=8, ready=3)
    with HostsRig.running("faults", hosts=2, pool=pool, small_disks=("consul", "rabbitmq")) as rig:
        yield rig


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """The same for one test of one seed, whatever else runs."""
    return random.Random(f"{SEED} {request.node.name}")

"""What operators do to a host, and what its agent tells them: on real Docker, Consul and RabbitMQ."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from common.broker.messages import PrepareImage, Reopen, SetHostState
from common.broker.rabbitmq import RabbitAddress
from common.records.hosts import HostRecord, HostState, ImageState, PoolStatus
from common.runtime.clock import utc_now
from frontend.operations.pools import Stage, progress
from tests.support.agent_rig import AgentRig
from tests.support.waiting import wait_until


@pytest.fixture
def rig(consul_url: str, rabbitmq: RabbitAddress, docker_images: Any, tmp_path: Path) -> Iterator[AgentRig]:
    rig = AgentRig(consul_url, rabbitmq, docker_images.echo, tmp_path)
    yield rig
    rig.close()


def record(rig: AgentRig) -> HostRecord:
    found = rig.record()
    assert found is not None
    return found


def status(rig: AgentRig) -> PoolStatus:
    return record(rig).pools[rig.pool]


def stage(rig: AgentRig) -> Stage:
    entry = rig.store.get(rig.keys.pool(rig.pool))
    assert entry is not None
    (row,) = progress(rig.spec().decode(entry.key, entry.value), {rig.host: record(rig)})
    return row.stage


def test_a_new_generation_replaces_ready_servers_while_learners_come_and_touches_none_of_theirs(rig: AgentRig) -> None:
    """No moment without a ready server: never below half of the target, but for the one that is claimed meanwhile."""
    rig.apply(rig.spec(pool_size=8, ready=4))
    rig.start()
    rig.ready(4)
    learners = [rig.claim() for _ in range(2)]
    wait_until(lambda: rig.counts() == (4, 2), "a full pool beside the two learners")
    least: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            least.append(status(rig).ready)

    watcher = threading.Thread(target=watch)
    watcher.start()
    new = rig.spec(pool_size=8, ready=4, environment={"VERSION": "2"})
    rig.apply(new)
    learners.append(rig.claim())
    try:
        wait_until(lambda: status(rig).generation == new.generation and stage(rig) is Stage.DONE, "the change", 120)
    finally:
        over.set()
        watcher.join()
    assert min(least) >= 1
    assert {rig.visit(reply.url) for reply in learners} == {200}

    def old_ready() -> list[str]:
        labels = {name: container.labels["tmpnb.generation"] for name, container in rig.containers().items()}
        return [name for name in labels if not name.endswith(".claimed") and labels[name] != new.generation]

    # What is not counted as ready any more may still be on its way out.
    wait_until(lambda: not old_ready(), "the old ready servers to be gone")
    assert sum(1 for name in rig.containers() if name.endswith(".claimed")) == 3


def test_a_generation_that_does_not_come_up_costs_one_ready_server_and_is_reported(rig: AgentRig) -> None:
    rig.apply(rig.spec(pool_size=4))
    rig.start()
    rig.ready(4)
    rig.apply(rig.spec(pool_size=4, command="echo broken; exit 3"))
    wait_until(lambda: stage(rig) is Stage.STALLED, "the failure to be seen", 60)
    assert status(rig).ready == 3
    failure = status(rig).last_failure
    assert failure is not None
    assert "broken" in failure.log
    assert rig.claim() is not None, "the old ones serve on"
    rig.apply(rig.spec(pool_size=4))
    wait_until(lambda: stage(rig) is Stage.DONE and status(rig).ready == 3, "the way back", 60)


def test_an_image_that_is_not_to_be_had_costs_no_server_at_all(rig: AgentRig) -> None:
    rig.apply(rig.spec(pool_size=2))
    rig.start()
    rig.ready(2)
    rig.command(PrepareImage(sent_at=utc_now(), image=rig.image))
    rig.command(PrepareImage(sent_at=utc_now(), image="127.0.0.1:1/nothing:1"))
    wait_until(lambda: "127.0.0.1:1/nothing:1" in record(rig).images, "the answer", 60)
    wait_until(lambda: record(rig).images["127.0.0.1:1/nothing:1"].state is ImageState.FAILED, "the failure", 60)
    assert record(rig).images[rig.image].state is ImageState.PRESENT
    assert "cannot be pulled" in record(rig).images["127.0.0.1:1/nothing:1"].reason
    rig.apply(rig.spec(pool_size=2, image="127.0.0.1:1/nothing:1"))
    wait_until(lambda: stage(rig) is Stage.STALLED, "the change to stop", 60)
    assert status(rig).ready == 2


def test_a_drained_host_keeps_its_learners_until_the_deadline_and_is_then_empty(rig: AgentRig) -> None:
    rig.apply(rig.spec(pool_size=3))
    agent = rig.start(TMPNB_DRAIN_GRACE_S="6")
    rig.ready(3)
    reply = rig.claim()
    rig.command(SetHostState(sent_at=utc_now(), state=HostState.DRAINING))
    wait_until(lambda: len(rig.containers()) == 1, "only the learner's server to be left", 60)
    assert rig.visit(reply.url) == 200
    assert rig.request(wait_s=1.0, window_s=60.0) is None, "nobody new comes here"
    drain = record(rig).drain
    assert drain is not None
    assert (drain.claimed, drain.deadline) == (1, None)
    agent.signal(9)
    rig.start(TMPNB_DRAIN_GRACE_S="6")
    wait_until(lambda: rig.record() and record(rig).drain == drain, "the successor to go on with the drain", 30)
    rig.command(SetHostState(sent_at=utc_now(), state=HostState.DRAINING, deadline=utc_now() + timedelta(seconds=1)))
    wait_until(lambda: reply.user not in rig.routes(), "the learner to be warned", 30)
    assert rig.containers(), "the server is still there"
    rig.command(Reopen(sent_at=utc_now(), user=reply.user))
    wait_until(lambda: reply.user in rig.routes(), "the learner to be let in once more", 30)
    assert rig.visit(reply.url) == 200
    wait_until(lambda: not rig.containers() and not rig.claims(), "the host to be empty", 60)
    gone = rig.store.get(rig.keys.gone_of(reply.user))
    assert gone is not None
    assert b"host_drained" in gone.value


def test_a_host_without_a_docker_engine_says_so_in_its_record(rig: AgentRig, tmp_path: Path) -> None:
    rig.start(DOCKER_HOST=f"unix://{tmp_path}/nothing.sock")
    wait_until(lambda: rig.record() and "Docker" in record(rig).problem, "the host record to tell of it", 30)


def test_a_wrong_password_is_in_the_host_record(rig: AgentRig) -> None:
    rig.apply(rig.spec(pool_size=1))
    rig.start(TMPNB_RABBITMQ_PASSWORD="wrong, but not short")
    wait_until(lambda: rig.record() and "TMPNB_RABBITMQ_PASSWORD" in record(rig).problem, "the record to tell", 30)


def test_an_address_that_is_not_this_host_s_is_in_the_host_record(rig: AgentRig) -> None:
    rig.apply(rig.spec(pool_size=1))
    rig.start(TMPNB_ADDRESS="192.0.2.1")

    def said() -> bool:
        found = rig.record()
        failure = found.pools[rig.pool].last_failure if found and rig.pool in found.pools else None
        return failure is not None and "TMPNB_ADDRESS" in failure.note

    wait_until(said, "the host record to tell of it", 60)

"""Cordon, drain, remove: what hosts are told, how far they are, what is forgotten."""

from datetime import timedelta

import pytest

from common.broker.memory import MemoryBroker
from common.broker.messages import SetHostState, decode
from common.records.hosts import Drain, HostNote, HostState, PoolStatus
from common.records.servers import Gone
from common.store.cluster import Cluster
from common.store.memory import MemoryStore
from common.vocabulary import EndReason
from frontend.operations.context import Context
from frontend.operations.errors import NotFound, WrongState
from frontend.operations.hosts import DrainProgress, drain_progress, read_host, remove_host, set_host_state
from tests.unit.frontend.fakes import KEYS, START, put_claim, put_host, put_route, user_id


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def context(store: MemoryStore, broker: MemoryBroker) -> Context:
    return Context(Cluster(store, "main"), broker.publisher(), lambda: START)


def progress(store: MemoryStore) -> DrainProgress | None:
    return drain_progress(read_host(Cluster(store, "main"), "h"))


def test_a_drain_is_told_with_its_deadline(store: MemoryStore) -> None:
    broker = MemoryBroker()
    put_host(store, "h")
    until = START + timedelta(minutes=30)
    assert set_host_state(context(store, broker), "h", HostState.DRAINING, 1800) == until
    (message,) = [decode(delivery.body) for delivery in broker.declare("host.h").messages]
    assert isinstance(message, SetHostState)
    assert (message.state, message.deadline) == (HostState.DRAINING, until)
    with pytest.raises(NotFound):
        set_host_state(context(store, broker), "nobody", HostState.CORDONED)


def test_progress_counts_what_is_left_of_what_was_in_use(store: MemoryStore) -> None:
    put_host(store, "h", default=PoolStatus(claimed=12))
    assert progress(store) is None
    drain = Drain(since=START, claimed=40)
    put_host(store, "h", state=HostState.DRAINING, drain=drain, default=PoolStatus(claimed=12))
    assert str(progress(store)) == "12 of 40 left"
    until = drain.model_copy(update={"deadline": START + timedelta(hours=1)})
    put_host(
        store, "h", state=HostState.DRAINING, drain=until, default=PoolStatus(claimed=12), other=PoolStatus(ready=1)
    )
    assert str(progress(store)) == "13 of 40 left, until 2026-03-01 13:00 UTC at the latest"
    put_host(store, "h", state=HostState.DRAINING, drain=until, default=PoolStatus())
    assert str(progress(store)) == "0 of 40 left"


def test_a_host_that_is_gone_is_forgotten_with_all_it_served_and_others_are_not(store: MemoryStore) -> None:
    broker = MemoryBroker()
    store.put(KEYS.note("h"), HostNote(host="h").encode())
    for number, host in ((1, "h"), (2, "other")):
        put_route(store, user_id(number), host=host)
        put_claim(store, user_id(number), host=host, seat="5" * 64)
    put_route(store, user_id(3), host="h")
    broker.declare("host.h")
    assert remove_host(context(store, broker), "h") == 1
    left = {entry.key for entry in store.list(KEYS.root).entries}
    assert left == {
        KEYS.route(user_id(2), "other"), KEYS.claim(user_id(2), "other"), KEYS.pointer(user_id(2)),
        KEYS.gone_of(user_id(1)),
    }  # fmt: skip
    assert "host.h" not in broker.queues
    entry = store.get(KEYS.gone_of(user_id(1)))
    assert entry is not None
    word = Gone.decode(entry.key, entry.value)
    assert (word.reason, word.seat) == (EndReason.HOST_LOST, "5" * 64), "the owner's key opens its old address"
    with pytest.raises(NotFound):
        remove_host(context(store, broker), "h")


def test_a_host_whose_agent_runs_is_not_forgotten(store: MemoryStore) -> None:
    put_host(store, "h")
    with pytest.raises(WrongState, match="drain it"):
        remove_host(context(store, MemoryBroker()), "h")

"""More time for a server."""

from datetime import timedelta
from typing import Any

import pytest

from common.broker.memory import MemoryBroker
from common.errors import RecordContended
from common.records.servers import Claim
from common.store.cluster import Cluster
from common.store.memory import MemoryStore
from frontend.operations.context import Context
from frontend.operations.errors import InvalidValue, NotFound
from frontend.operations.servers import extend
from tests.unit.frontend.fakes import KEYS, START, put_claim, put_route, user_id

USER = user_id(1)


def context(store: MemoryStore) -> Context:
    return Context(Cluster(store, "main"), MemoryBroker().publisher(), lambda: START)


def stored(store: MemoryStore) -> Claim:
    entry = store.get(KEYS.claim(USER))
    assert entry is not None
    return Claim.decode(entry.key, entry.value)


def test_a_server_is_kept_for_so_long_from_now_and_nothing_else_of_its_claim_changes() -> None:
    store = MemoryStore()
    put_claim(store, USER, expires_at=START + timedelta(hours=4))
    before = stored(store)
    until = extend(context(store), USER, 3600)
    assert until == START + timedelta(hours=1)
    assert stored(store) == before.model_copy(update={"kept_until": until})


def test_asking_again_changes_nothing_and_less_time_takes_nothing_away() -> None:
    store = MemoryStore()
    put_claim(store, USER)
    until = extend(context(store), USER, 3600)
    index = store.list(KEYS.claims).index
    assert extend(context(store), USER, 3600) == until
    assert extend(context(store), USER, 60) == until
    assert store.list(KEYS.claims).index == index


@pytest.mark.parametrize("seconds", [0, -1, 86_401, float("nan"), float("inf")])
def test_time_out_of_range_is_refused_with_what_is_accepted(seconds: float) -> None:
    store = MemoryStore()
    put_claim(store, USER)
    with pytest.raises(InvalidValue, match="at most 86400"):
        extend(context(store), USER, seconds)
    assert stored(store).kept_until is None


def test_the_maximum_is_the_operators() -> None:
    store = MemoryStore()
    put_claim(store, USER)
    with pytest.raises(InvalidValue, match="at most 60"):
        extend(context(store), USER, 61, max_s=60)
    assert extend(context(store), USER, 60, max_s=60) == START + timedelta(seconds=60)


def test_only_a_claimed_server_can_be_given_more_time() -> None:
    store = MemoryStore()
    put_route(store, USER)
    with pytest.raises(NotFound, match="no claimed server"):
        extend(context(store), USER, 60)
    store.put(KEYS.claim(USER), b"?")
    with pytest.raises(NotFound):
        extend(context(store), USER, 60)


class Racing(MemoryStore):
    """Somebody else writes the claim between our read and our write, ``times`` times."""

    times = 0

    def put(self, key: str, value: bytes, modify_index: int | None = None) -> bool:
        if self.times > 0 and modify_index:
            self.times -= 1
            entry = self.get(key)
            assert entry is not None
            claim = Claim.decode(key, entry.value)
            kept: dict[str, Any] = {"kept_until": START + timedelta(hours=5)}
            super().put(key, claim.model_copy(update=kept).encode())
        return super().put(key, value, modify_index)


def test_two_operators_at_once_lose_nothing() -> None:
    store = Racing()
    put_claim(store, USER)
    store.times = 1
    assert extend(context(store), USER, 3600) == START + timedelta(hours=5)
    store.times = 99
    with pytest.raises(RecordContended):
        extend(context(store), USER, 6 * 3600)

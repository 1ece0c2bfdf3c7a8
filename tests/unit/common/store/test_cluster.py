"""Routes, claims and the pointers to them: what one host writes of its servers, and what others find."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from common.errors import RecordContended
from common.ids import USER_ALPHABET
from common.records.servers import Claim, Gone, Pointer, Route
from common.store.cluster import Cluster, ServerRecords
from common.store.collections import TRIES
from common.store.memory import MemoryStore
from common.store.port import Entry, Write
from common.vocabulary import EndReason
from tests.support.keys import Keys

NOW = datetime(2026, 11, 27, tzinfo=UTC)
KEYS = Keys("test")
ANNA, BERT, CARL = "anna" * 3, "bert" * 3, "carx" * 3


class WatchedStore(MemoryStore):
    """Does something once before each of the next transactions, or after each of the next reads, as another process
    may; counts what is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.before_writes: list[Callable[[], object]] = []
        self.after_reads: list[Callable[[], object]] = []
        self.reads = 0

    def write_all(self, writes: Sequence[Write]) -> bool:
        if self.before_writes:
            self.before_writes.pop(0)()
        return super().write_all(writes)

    def get_all(self, keys: Sequence[str]) -> dict[str, Entry]:
        self.reads += 1
        found = super().get_all(keys)
        if self.after_reads:
            self.after_reads.pop(0)()
        return found


@pytest.fixture
def store() -> WatchedStore:
    return WatchedStore()


@pytest.fixture
def cluster(store: WatchedStore) -> Cluster:
    return Cluster(store, "test")


def route(user: str = ANNA, host: str = "a", target: str = "10.0.0.1:80") -> Route:
    return Route(user=user, host=host, target=target, container="c", pool="p", generation="g", created_at=NOW)


def claim(user: str = ANNA, host: str = "a") -> Claim:
    return Claim(user=user, host=host, pool="p", request_id="0" * 32, claimed_at=NOW, idle_limit_s=0)


def pointer(user: str = ANNA, host: str = "a", created_at: datetime | None = NOW) -> Pointer:
    return Pointer(user=user, host=host, pool="p", created_at=created_at)


def keys(store: MemoryStore) -> set[str]:
    return {entry.key for entry in store.list(KEYS.root).entries}


# A route and its pointer


def test_a_route_lies_below_its_host_and_its_pointer_leads_there(store: WatchedStore, cluster: Cluster) -> None:
    assert cluster.publish(route())
    assert keys(store) == {f"tmpnb/test/routes/a/a/{ANNA}", f"tmpnb/test/users/{ANNA}"}
    assert cluster.routes.get(Route.id_of("a", ANNA)) == route()
    assert cluster.users.get(ANNA) == pointer()


def test_a_route_may_be_written_again(cluster: Cluster) -> None:
    assert cluster.publish(route())
    moved = route(target="10.0.0.1:81")
    assert cluster.publish(moved)
    assert cluster.server(ANNA).route == moved


def test_i5_no_host_writes_a_route_of_a_user_that_another_has(store: WatchedStore, cluster: Cluster) -> None:
    assert cluster.publish(route())
    before = keys(store)
    assert not cluster.publish(route(host="b"))
    assert keys(store) == before
    assert cluster.users.get(ANNA) == pointer()


def test_i5_of_two_hosts_that_write_a_route_at_once_one_does(store: WatchedStore, cluster: Cluster) -> None:
    store.before_writes = [lambda: cluster.users.create(pointer(host="b"))]
    assert not cluster.publish(route())
    assert keys(store) == {KEYS.pointer(ANNA)}


def test_a_pointer_that_cannot_be_read_is_written_anew(store: WatchedStore, cluster: Cluster) -> None:
    store.put(KEYS.pointer(ANNA), b"{")
    assert cluster.publish(route())
    assert cluster.users.get(ANNA) == pointer()


def test_a_pointer_is_set_once(cluster: Cluster) -> None:
    assert cluster.point(pointer())
    assert cluster.point(pointer())
    assert not cluster.point(pointer(host="b"))
    assert cluster.users.get(ANNA) == pointer()


@pytest.mark.parametrize(("ours", "taken"), [(timedelta(0), False), (timedelta(seconds=1), True)])
def test_a_pointer_to_an_older_server_gives_way_to_whoever_asks_for_it(
    cluster: Cluster, ours: timedelta, taken: bool
) -> None:
    cluster.users.put(pointer())
    younger = pointer(host="b", created_at=NOW + ours)
    assert not cluster.point(younger)
    assert cluster.point(younger, over_older=True) is taken


def test_a_pointer_that_does_not_say_how_old_its_server_is_stays(cluster: Cluster) -> None:
    cluster.users.put(pointer(created_at=None))
    assert not cluster.point(pointer(host="b"), over_older=True)


def test_a_pointer_that_is_deleted_meanwhile_is_written_all_the_same(store: WatchedStore, cluster: Cluster) -> None:
    assert cluster.point(pointer())
    store.before_writes = [lambda: None, lambda: cluster.users.delete(ANNA)]
    assert cluster.publish(route())
    assert cluster.users.get(ANNA) == pointer()


def test_who_is_never_fast_enough_is_told(store: WatchedStore, cluster: Cluster) -> None:
    cluster.users.put(pointer())
    store.before_writes = [lambda: cluster.users.put(pointer())] * TRIES
    with pytest.raises(RecordContended, match=ANNA):
        cluster.publish(route())
    store.before_writes = [lambda: cluster.users.put(pointer())] * TRIES
    with pytest.raises(RecordContended, match=ANNA):
        cluster.close("a", ANNA)


# A reservation


def test_of_two_hosts_one_reserves_the_server_at_an_old_path(store: WatchedStore, cluster: Cluster) -> None:
    assert cluster.reserve(claim())
    assert keys(store) == {KEYS.claim(ANNA, "a"), KEYS.pointer(ANNA)}
    assert not cluster.reserve(claim(host="b"))
    assert keys(store) == {KEYS.claim(ANNA, "a"), KEYS.pointer(ANNA)}
    assert cluster.server(ANNA).claim == claim()


@pytest.mark.parametrize("host", ["a", "b"])
def test_whoever_has_a_server_gets_no_second_one(store: WatchedStore, cluster: Cluster, host: str) -> None:
    """A ready server has no claim."""
    assert cluster.publish(route())
    before = keys(store)
    assert not cluster.reserve(claim(host=host))
    assert keys(store) == before


def test_a_claim_without_a_pointer_is_in_the_way_of_its_own_host(store: WatchedStore, cluster: Cluster) -> None:
    cluster.claims.put(claim())
    assert not cluster.reserve(claim())
    assert keys(store) == {KEYS.claim(ANNA, "a")}


# A ready server that is given away at another address


def moved(user: str = BERT) -> tuple[Claim, Route, Gone]:
    """What is written when the server that is ready as Anna's is given to the user."""
    left = Gone(user=ANNA, host="a", pool="p", reason=EndReason.PREEMPTED, at=NOW, moved_to=user)
    return claim(user).model_copy(update={"made_as": ANNA}), route(user), left


def test_a_server_is_at_its_new_address_and_no_longer_at_its_own_in_one_step(
    store: WatchedStore, cluster: Cluster
) -> None:
    assert cluster.publish(route())
    assert cluster.move(*moved())
    assert keys(store) == {
        KEYS.route(BERT, "a"), KEYS.claim(BERT, "a"), KEYS.pointer(BERT), KEYS.gone_of(ANNA),
    }  # fmt: skip
    found = cluster.server(BERT)
    assert (found.route, found.claim) == (route(BERT), moved()[0])


def test_nobody_claims_it_where_it_was_nor_gives_it_away_once_more(store: WatchedStore, cluster: Cluster) -> None:
    """I1, whichever agent of its host still thinks that it is ready there."""
    assert cluster.publish(route())
    assert cluster.move(*moved())
    before = keys(store)
    assert not cluster.claim(claim())
    assert not cluster.move(*moved(CARL))
    assert keys(store) == before


def test_one_that_is_claimed_is_not_given_away_elsewhere(store: WatchedStore, cluster: Cluster) -> None:
    assert cluster.publish(route())
    assert cluster.claim(claim())
    before = keys(store)
    assert not cluster.claim(claim())
    assert not cluster.move(*moved())
    assert keys(store) == before


@pytest.mark.parametrize("host", ["a", "b"])
def test_an_address_that_has_a_server_gets_no_second_one(store: WatchedStore, cluster: Cluster, host: str) -> None:
    assert cluster.publish(route())
    assert cluster.reserve(claim(BERT, host))
    before = keys(store)
    assert not cluster.move(*moved())
    assert keys(store) == before


# The end


def test_claim_and_pointer_go_together(store: WatchedStore, cluster: Cluster) -> None:
    assert cluster.reserve(claim())
    assert cluster.reserve(claim(BERT))
    cluster.close("a", ANNA)
    assert keys(store) == {KEYS.claim(BERT, "a"), KEYS.pointer(BERT)}
    cluster.close("a", ANNA)
    assert keys(store) == {KEYS.claim(BERT, "a"), KEYS.pointer(BERT)}


def test_what_another_host_has_written_stays(store: WatchedStore, cluster: Cluster) -> None:
    assert cluster.reserve(claim(host="b"))
    cluster.claims.put(claim())
    cluster.close("a", ANNA)
    assert keys(store) == {KEYS.claim(ANNA, "b"), KEYS.pointer(ANNA)}


def test_a_claim_without_a_pointer_is_deleted(store: WatchedStore, cluster: Cluster) -> None:
    cluster.claims.put(claim())
    cluster.close("a", ANNA)
    assert keys(store) == set()


def test_a_pointer_that_cannot_be_read_goes_with_its_claim(store: WatchedStore, cluster: Cluster) -> None:
    cluster.claims.put(claim())
    store.put(KEYS.pointer(ANNA), b"{")
    cluster.close("a", ANNA)
    assert keys(store) == set()


def test_a_path_that_has_a_server_elsewhere_by_the_time_of_the_end_keeps_it(
    store: WatchedStore, cluster: Cluster
) -> None:
    assert cluster.reserve(claim())
    store.before_writes = [lambda: cluster.users.put(pointer(host="b"))]
    cluster.close("a", ANNA)
    assert keys(store) == {KEYS.pointer(ANNA)}
    assert cluster.users.get(ANNA) == pointer(host="b")


# What a host has


def test_a_hosts_records_are_found_by_user_and_no_others(cluster: Cluster) -> None:
    """Some names begin with others."""
    for user, host in ((ANNA, "a"), (BERT, "a"), (CARL, "a2")):
        assert cluster.publish(route(user, host))
        cluster.claims.put(claim(user, host))
    assert {user: found.record for user, found in cluster.routes_of("a").items()} == {
        ANNA: route(), BERT: route(BERT),
    }  # fmt: skip
    assert {user: found.record for user, found in cluster.claims_of("a").items()} == {
        ANNA: claim(), BERT: claim(BERT),
    }  # fmt: skip
    assert cluster.routes_of("nobody") == cluster.claims_of("nobody") == {}


def test_whatever_a_users_id_begins_with_its_route_is_found(cluster: Cluster) -> None:
    users = {symbol * 12 for symbol in USER_ALPHABET}
    for user in users:
        assert cluster.publish(route(user))
    assert cluster.routes_of("a").keys() == users


def test_a_hosts_records_that_cannot_be_read_are_found_too(store: WatchedStore, cluster: Cluster) -> None:
    store.put(KEYS.route(ANNA, "a"), b"{")
    store.put(KEYS.claim(BERT, "a"), route(BERT, "b").encode())
    (found,) = cluster.routes_of("a").values()
    assert (found.record, found.problem != "") == (None, True)
    assert cluster.claims_of("a")[BERT].record is None


def test_a_record_below_the_name_of_another_host_is_none(store: WatchedStore, cluster: Cluster) -> None:
    store.put(KEYS.route(ANNA, "b"), route().encode())
    store.put(KEYS.claim(ANNA, "b"), claim().encode())
    assert cluster.routes_of("b")[ANNA].record is None
    assert cluster.claims_of("b")[ANNA].record is None


def test_pointers_to_nothing_are_found(store: WatchedStore, cluster: Cluster) -> None:
    assert cluster.publish(route())
    assert cluster.reserve(claim(BERT))
    assert cluster.point(pointer(CARL))
    store.put(KEYS.pointer("d" * 12), b"{")
    assert cluster.dangling() == {CARL, "d" * 12}


# What there is of a user


def test_of_who_has_no_server_one_question_is_asked(store: WatchedStore, cluster: Cluster) -> None:
    """Whoever guesses ids costs no more."""
    gone = Gone(user=ANNA, host="a", pool="p", reason=EndReason.IDLE, at=NOW)
    cluster.gone.put(gone)
    cluster.claims.put(claim(BERT))
    assert cluster.server(ANNA) == ServerRecords(None, None, gone, False, False, True)
    assert cluster.server(BERT) == ServerRecords(None, None, None, False, False, False)
    assert store.reads == 2


def test_what_the_pointer_does_not_lead_to_does_not_count(cluster: Cluster) -> None:
    assert cluster.publish(route())
    cluster.routes.put(route(host="b"))
    cluster.claims.put(claim(host="b"))
    assert cluster.server(ANNA) == ServerRecords(route(), None, None, True, False, False)


def test_a_pointer_that_cannot_be_read_leads_nowhere(store: WatchedStore, cluster: Cluster) -> None:
    assert cluster.publish(route())
    store.put(KEYS.pointer(ANNA), b"{")
    assert cluster.server(ANNA) == ServerRecords(None, None, None, False, False, False)


def test_word_of_a_server_that_goes_between_the_two_questions_is_found(store: WatchedStore, cluster: Cluster) -> None:
    """Or its learner would be told that nobody knows why."""
    gone = Gone(user=ANNA, host="a", pool="p", reason=EndReason.IDLE, at=NOW)
    assert cluster.publish(route())
    cluster.claims.put(claim())

    def remove() -> None:
        cluster.gone.put(gone)
        cluster.routes.delete(Route.id_of("a", ANNA))
        cluster.close("a", ANNA)

    store.after_reads = [remove]
    assert cluster.server(ANNA) == ServerRecords(None, None, gone, False, False, True)

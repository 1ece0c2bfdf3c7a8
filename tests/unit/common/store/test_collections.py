"""Typed collections: what every reader and writer of records counts on."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from common.errors import RecordContended, StoreUnavailable, TransientError
from common.records.servers import Claim, Gone, Route
from common.records.tickets import Seat, Ticket, TicketState
from common.store.cluster import Cluster, ServerRecords
from common.store.collections import REPORTED_MAX, TRIES, Collection
from common.store.memory import MemoryStore
from common.vocabulary import EndReason
from tests.support.keys import Keys

NOW = datetime(2026, 11, 27, tzinfo=UTC)
KEYS = Keys("test")
ANNA = "anna" * 3
ID, OTHER = "0" * 32, "1" * 32


def ticket(request_id: str = ID, pool: str = "small") -> Ticket:
    return Ticket(request_id=request_id, pool=pool, created_at=NOW, seen_at=NOW)


class InterferingStore(MemoryStore):
    """Does something once before each of the next compare-and-sets, as another process may."""

    def __init__(self) -> None:
        super().__init__()
        self.before_replace: list[Callable[[], None]] = []

    def put(self, key: str, value: bytes, modify_index: int | None = None) -> bool:
        if modify_index is not None and self.before_replace:
            self.before_replace.pop(0)()
        return super().put(key, value, modify_index)

    def delete(self, key: str, modify_index: int | None = None) -> bool:
        if modify_index is not None and self.before_replace:
            self.before_replace.pop(0)()
        return super().delete(key, modify_index)


@pytest.fixture
def store() -> InterferingStore:
    return InterferingStore()


@pytest.fixture
def tickets(store: InterferingStore) -> Collection[Ticket]:
    return Cluster(store, "test").tickets


def test_what_was_put_is_read_back_by_its_id(store: InterferingStore, tickets: Collection[Ticket]) -> None:
    tickets.put(ticket())
    assert tickets.get(ID) == ticket()
    assert tickets.get(OTHER) is None
    assert tickets.find(OTHER) is None
    assert tickets.all() == {ID: ticket()}
    assert tickets.ids() == {ID}
    assert store.get(tickets.key(ID)) == store.get(KEYS.ticket(ID))


def test_a_record_is_created_once(tickets: Collection[Ticket]) -> None:
    assert tickets.create(ticket())
    assert not tickets.create(ticket(pool="other"))
    assert tickets.get(ID) == ticket()


def test_a_deleted_record_is_gone_and_may_be_deleted_again(tickets: Collection[Ticket]) -> None:
    tickets.put(ticket())
    tickets.delete(ID)
    tickets.delete(ID)
    assert tickets.get(ID) is None


def test_what_cannot_be_read_is_told_from_what_is_not_there(
    store: InterferingStore, tickets: Collection[Ticket]
) -> None:
    store.put(tickets.key(ID), b"nonsense")
    assert tickets.get(ID) is None
    found = tickets.find(ID)
    assert found is not None
    assert found.record is None
    assert found.problem.startswith(tickets.key(ID))
    tickets.put(ticket(OTHER))
    listed = tickets.list()
    assert listed.readable() == {OTHER: ticket(OTHER)}
    assert listed.unreadable() == {ID: found.problem}
    assert tickets.ids() == {ID, OTHER}


def test_a_record_below_the_id_of_another_cannot_be_read(store: InterferingStore, tickets: Collection[Ticket]) -> None:
    store.put(tickets.key(OTHER), ticket(ID).encode())
    assert tickets.all() == {}
    assert tickets.get(OTHER) is None
    assert tickets.list().unreadable() == {OTHER: f"{tickets.key(OTHER)}: holds the record of {ID!r}"}


def test_a_malformed_record_is_reported_once_per_write(
    store: InterferingStore, tickets: Collection[Ticket], caplog: pytest.LogCaptureFixture
) -> None:
    store.put(tickets.key(ID), b"nonsense")
    for _ in range(3):
        tickets.all()
        tickets.get(ID)
        tickets.update(ID, lambda found: found)
    assert caplog.text.count("malformed record skipped") == 1
    store.put(tickets.key(ID), b"nonsense")
    tickets.get(ID)
    tickets.all()
    assert caplog.text.count("malformed record skipped") == 2


def test_what_was_reported_is_not_remembered_without_end(
    store: InterferingStore, tickets: Collection[Ticket], caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(REPORTED_MAX + 1):
        store.put(tickets.key(str(number)), b"")
    tickets.all()
    caplog.clear()
    tickets.get("0")
    assert caplog.text.count("malformed record skipped") == 1


def test_only_what_has_changed_is_decoded_again(store: InterferingStore, tickets: Collection[Ticket]) -> None:
    tickets.put(ticket())
    tickets.put(ticket(OTHER))
    before = tickets.all()
    tickets.put(ticket(OTHER, pool="other"))
    after = tickets.all()
    assert after[ID] is before[ID]
    assert after[OTHER] == ticket(OTHER, pool="other")
    store.delete(tickets.key(OTHER))
    assert tickets.all() == {ID: before[ID]}


def test_a_watch_returns_what_there_is_after_a_change(tickets: Collection[Ticket]) -> None:
    tickets.put(ticket())
    before = tickets.list()
    found: list[set[str]] = []
    watcher = threading.Thread(target=lambda: found.append(set(tickets.watch(before.index, 30).readable())))
    watcher.start()
    tickets.put(ticket(OTHER))
    watcher.join(20)
    assert found == [{ID, OTHER}]


def assigned(found: Ticket) -> Ticket | None:
    if found.state is not TicketState.WAITING:
        return None
    return found.model_copy(update={"state": TicketState.ASSIGNED})


def test_an_update_changes_what_is_stored(tickets: Collection[Ticket]) -> None:
    tickets.put(ticket())
    changed = tickets.update(ID, assigned)
    assert changed is not None
    assert changed.state is TicketState.ASSIGNED
    assert tickets.get(ID) == changed


def test_an_update_changes_nothing_that_is_not_there_cannot_be_read_or_is_not_wanted(
    store: InterferingStore, tickets: Collection[Ticket]
) -> None:
    assert tickets.update(ID, assigned) is None
    store.put(tickets.key(OTHER), b"nonsense")
    assert tickets.update(OTHER, assigned) is None
    refused = ticket().model_copy(update={"state": TicketState.REFUSED})
    tickets.put(refused)
    assert tickets.update(ID, assigned) is None
    assert tickets.get(ID) == refused


def test_an_update_that_changes_nothing_writes_nothing(store: InterferingStore, tickets: Collection[Ticket]) -> None:
    tickets.put(ticket())
    before = store.get(tickets.key(ID))
    assert tickets.update(ID, lambda found: found.model_copy(update={"pool": "small"})) == ticket()
    assert store.get(tickets.key(ID)) == before


def test_an_update_that_lost_a_race_is_made_on_what_is_there_now(
    store: InterferingStore, tickets: Collection[Ticket]
) -> None:
    tickets.put(ticket())
    store.before_replace.append(lambda: tickets.put(ticket(pool="other")))
    changed = tickets.update(ID, assigned)
    assert changed is not None
    assert (changed.pool, changed.state) == ("other", TicketState.ASSIGNED)
    assert tickets.get(ID) == changed


def test_an_update_does_not_bring_back_what_was_deleted_meanwhile(
    store: InterferingStore, tickets: Collection[Ticket]
) -> None:
    tickets.put(ticket())
    store.before_replace.append(lambda: tickets.delete(ID))
    assert tickets.update(ID, assigned) is None
    assert tickets.get(ID) is None


def test_an_update_begins_with_what_is_known_and_goes_on_with_what_is_there(
    store: InterferingStore, tickets: Collection[Ticket]
) -> None:
    tickets.put(ticket())
    known = tickets.list().stored[ID]
    assert tickets.update(ID, assigned, known) is not None
    assert tickets.update(ID, assigned, known) is None, "it was assigned, which the old reading does not show"


def test_an_update_that_always_loses_ends_with_an_error_that_says_so(
    store: InterferingStore, tickets: Collection[Ticket]
) -> None:
    tickets.put(ticket())
    store.before_replace += [lambda: tickets.put(ticket())] * TRIES
    with pytest.raises(RecordContended, match=tickets.key(ID)) as raised:
        tickets.update(ID, assigned)
    assert isinstance(raised.value, TransientError)
    assert store.before_replace == []
    assert tickets.get(ID) == ticket()


def seat(user: str, host: str = "a") -> Seat:
    return Seat(request_id=ID, user=user, host=host, pool="small", at=NOW)


def test_create_unless_gives_way_to_what_stays_and_to_nothing_else(store: InterferingStore) -> None:
    seats = Cluster(store, "test").seats
    assert seats.create_unless(seat("x"), lambda _found: True) == seat("x")
    assert seats.create_unless(seat("y"), lambda found: found.user == "x") == seat("x")
    assert seats.create_unless(seat("z"), lambda found: found.user != "x") == seat("z")
    store.put(seats.key(ID), b"nonsense")
    assert seats.create_unless(seat("x"), lambda _found: True) == seat("x")
    assert seats.get(ID) == seat("x")


def test_create_unless_that_lost_a_race_looks_at_what_is_there_now(store: InterferingStore) -> None:
    seats = Cluster(store, "test").seats
    seats.put(seat("old"))
    nothing, other = (lambda: None), (lambda: seats.put(seat("new")))
    store.before_replace += [nothing, other]  # create is a compare-and-set, too
    assert seats.create_unless(seat("mine"), lambda found: found.user == "new") == seat("new")


def test_create_unless_that_always_loses_ends_with_an_error(store: InterferingStore) -> None:
    seats = Cluster(store, "test").seats
    seats.put(seat("old"))
    store.before_replace += [lambda: seats.put(seat("old"))] * (2 * TRIES)
    with pytest.raises(RecordContended):
        seats.create_unless(seat("mine"), lambda _found: False)


def test_pop_deletes_and_gives_what_was_there_last(store: InterferingStore, tickets: Collection[Ticket]) -> None:
    assert tickets.pop(ID) is None
    tickets.put(ticket())
    store.before_replace.append(lambda: tickets.put(ticket(pool="other")))
    assert tickets.pop(ID) == ticket(pool="other")
    assert tickets.find(ID) is None


def test_a_changed_record_is_neither_replaced_nor_deleted(tickets: Collection[Ticket]) -> None:
    tickets.put(ticket())
    known = tickets.find(ID)
    assert known is not None
    tickets.put(ticket(pool="other"))
    assert not tickets.replace(known, ticket(pool="third"))
    assert not tickets.delete_unchanged(known)
    assert tickets.get(ID) == ticket(pool="other")
    again = tickets.find(ID)
    assert again is not None
    assert tickets.delete_unchanged(again)


def test_a_users_records_are_read_at_once(store: InterferingStore) -> None:
    cluster = Cluster(store, "test")
    nothing = cluster.server(ANNA)
    assert nothing == ServerRecords(None, None, None, False, False, False)
    route = Route(user=ANNA, host="a", target="10.0.0.1:80", container="c", pool="p", generation="g", created_at=NOW)
    claim = Claim(user=ANNA, host="a", pool="p", request_id=ID, claimed_at=NOW, idle_limit_s=0)
    assert cluster.publish(route)
    cluster.claims.put(claim)
    cluster.gone.put(Gone(user="another", host="a", pool="p", reason=EndReason.IDLE, at=NOW))
    assert cluster.server(ANNA) == ServerRecords(route, claim, None, True, True, False)
    store.put(KEYS.claim(ANNA, "a"), b"nonsense")
    assert cluster.server(ANNA) == ServerRecords(route, None, None, True, True, False)


def test_a_store_that_is_away_is_an_error_everywhere(store: InterferingStore, tickets: Collection[Ticket]) -> None:
    store.outage(True)
    calls: list[Callable[[], object]] = [
        lambda: tickets.get(ID),
        lambda: tickets.all(),
        lambda: tickets.ids(),
        lambda: tickets.put(ticket()),
        lambda: tickets.create(ticket()),
        lambda: tickets.update(ID, assigned),
        lambda: tickets.pop(ID),
        lambda: tickets.delete(ID),
        lambda: Cluster(store, "test").server("anna"),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailable):
            call()


def test_every_family_has_keys_of_its_own() -> None:
    cluster = Cluster(MemoryStore(), "test")
    families = [family for family in vars(cluster).values() if isinstance(family, Collection)]
    assert len(families) > 10
    assert len({family.prefix for family in families}) == len(families)
    assert all(family.prefix.startswith(KEYS.root) and family.prefix.endswith("/") for family in families)

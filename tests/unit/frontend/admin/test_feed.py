"""The feed: what happened last, for any number of readers."""

import threading

from common.broker.memory import MemoryBroker
from common.broker.messages import Event, RecyclePool
from common.runtime.clock import utc_now
from frontend.admin.live.feed import Feed
from tests.support.waiting import wait_until


def tell(feed: Feed, *users: str) -> None:
    for user in users:
        event = Event(sent_at=utc_now(), name="server.ready", user=user)
        feed.hear(event.name, event.encode())


def users(feed: Feed, after: int = 0, limit: int | None = None) -> list[str | None]:
    return [heard.event.user for heard in feed.since(after, limit)]


def test_events_are_kept_in_order_under_growing_ids() -> None:
    feed = Feed()
    begun = feed.latest
    tell(feed, "a", "b", "c")
    heard = feed.since(begun)
    assert [h.event.user for h in heard] == ["a", "b", "c"]
    ids = [h.id for h in heard]
    assert ids == sorted(set(ids))
    assert ids[-1] == feed.latest
    assert users(feed, ids[0]) == ["b", "c"]
    assert users(feed, feed.latest) == []


def test_only_the_newest_are_kept_and_given() -> None:
    feed = Feed(capacity_count=3)
    tell(feed, "a", "b", "c", "d")
    assert users(feed) == ["b", "c", "d"]
    assert users(feed, limit=2) == ["c", "d"]


def test_ids_go_on_after_a_restart_of_the_process() -> None:
    before = Feed(wall_clock=lambda: 1_700_000_000.0)
    tell(before, "a", "b")
    after = Feed(wall_clock=lambda: 1_700_000_001.0)
    tell(after, "c")
    assert users(after, before.latest) == ["c"]


def test_what_is_no_event_is_left_out() -> None:
    feed = Feed()
    feed.hear("server.ready", b"\xff no JSON")
    feed.hear("server.ready", RecyclePool(sent_at=utc_now()).encode())
    assert feed.since(0) == []
    tell(feed, "a")
    assert users(feed) == ["a"]


def test_every_reader_that_waits_gets_the_event() -> None:
    feed = Feed()
    after, got = feed.latest, []

    def read() -> None:
        got.append([heard.event.user for heard in feed.wait(after, 30)])

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    tell(feed, "a")
    for reader in readers:
        reader.join(30)
    assert got == [["a"]] * 3


def test_a_wait_ends_without_an_event_and_when_the_feed_is_closed() -> None:
    feed = Feed()
    assert feed.wait(feed.latest, 0.01) == []
    ended = threading.Event()

    def read() -> None:
        feed.wait(feed.latest, 600)
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    feed.close()
    wait_until(ended.is_set, "the reader to be let go", 30)
    assert feed.closed


def test_it_hears_what_is_told_to_the_broker() -> None:
    broker, feed = MemoryBroker(), Feed()
    subscriber = broker.subscriber(feed.hear)
    publisher = broker.publisher()
    publisher.emit("server.ready", Event(sent_at=utc_now(), name="server.ready", user="early").encode())
    subscriber.start()
    publisher.emit("server.ready", Event(sent_at=utc_now(), name="server.ready", user="a").encode())
    subscriber.stop()
    assert users(feed) == ["a"]

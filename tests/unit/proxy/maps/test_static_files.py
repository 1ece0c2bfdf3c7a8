"""HAProxy's table of static files: what is in it, and that it follows Consul and survives HAProxy's restarts."""

import logging

import pytest

from common.records.statics import StaticFile, Statics
from common.store.cluster import Cluster
from common.store.memory import MemoryStore
from proxy.maps.static_files import StaticFiles, table_of
from proxy.runtime_api.memory import MemoryHaproxy
from proxy.runtime_api.port import Served
from tests.unit.proxy.samples import KEYS, T0

SET, OTHER = "0" * 16, "1" * 16
SHA = "ab" * 32


def statics(found: str = SET, served: bool = True, url: str = "static/lab/main.js") -> Statics:
    return Statics(
        id=found, image="img:1", image_id="sha256:1", static_files=("/opt",), host="host-1", taken_at=T0,
        files={url: StaticFile(sha256=SHA, size=1)}, served=served,
    )  # fmt: skip


class Sync:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.haproxy = MemoryHaproxy()
        self.cluster = Cluster(self.store, "test")
        self.sync = StaticFiles(self.cluster, self.haproxy, self.haproxy)

    def put(self, record: Statics) -> None:
        self.store.put(KEYS.statics_of(record.id), record.encode())

    def turn(self) -> dict[str, str]:
        self.sync.take(self.cluster.statics.list())
        self.sync.map.tick()
        return self.haproxy.routes


def test_a_file_is_found_by_its_set_and_url_and_named_by_its_content() -> None:
    assert table_of([statics()]) == {f"{SET}/static/lab/main.js": f"{SHA}.js"}


def test_sets_that_no_frontend_has_yet_are_left_to_the_servers() -> None:
    assert table_of([statics(served=False)]) == {}


def test_the_table_follows_consul() -> None:
    one = Sync()
    assert one.turn() == {}
    one.put(statics(served=False))
    assert one.turn() == {}
    one.put(statics())
    one.put(statics(OTHER, url="a.css"))
    assert one.turn() == {f"{SET}/static/lab/main.js": f"{SHA}.js", f"{OTHER}/a.css": f"{SHA}.css"}
    one.store.delete(KEYS.statics_of(SET))
    assert one.turn() == {f"{OTHER}/a.css": f"{SHA}.css"}
    steps = len(one.haproxy.steps)
    one.turn()
    assert len(one.haproxy.steps) == steps, "nothing changed, and HAProxy was told something"


def test_a_malformed_set_is_reported_once_and_the_others_are_served(caplog: pytest.LogCaptureFixture) -> None:
    one = Sync()
    one.put(statics())
    one.store.put(KEYS.statics_of(OTHER), b"{")
    for _ in range(2):
        assert set(one.turn()) == {f"{SET}/static/lab/main.js"}
    assert caplog.text.count("malformed") == 1


def test_a_haproxy_that_was_restarted_gets_its_table_again() -> None:
    one = Sync()
    one.put(statics())
    one.turn()
    one.haproxy.stop()
    one.sync.map.tick()
    one.haproxy.start({})
    one.sync.map.tick()
    assert set(one.haproxy.routes) == {f"{SET}/static/lab/main.js"}


def test_before_consul_was_read_haproxy_keeps_what_it_has() -> None:
    one = Sync()
    one.haproxy.start({"kept": "x"})
    one.sync.map.tick()
    assert one.haproxy.routes == {"kept": "x"}


def test_how_much_was_served_is_said_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    one = Sync()
    one.sync.tell_served()
    assert "static files served" not in caplog.text
    one.haproxy.static_files = Served(50, 49, 1000)
    for _ in range(3):
        one.sync.tell_served()
    (line,) = [record for record in caplog.records if record.message == "static files served"]
    assert (line.__dict__["requests"], line.__dict__["from_cache"]) == (50, 49)

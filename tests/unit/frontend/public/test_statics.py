"""Static files of images at the frontends: fetched from hosts, checked, kept, and served to the proxy tier."""

import gzip
import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from common.broker.messages import PART_BYTES, StaticsPart, StaticsRequest, decode
from common.broker.port import Delivery, Outgoing
from common.errors import StoreUnavailable
from common.records.hosts import PoolStatus
from common.records.servers import Route
from common.records.statics import StaticFile, Statics
from common.runtime.clock import utc_now
from common.store.memory import MemoryStore
from frontend.culler.sweep import Sweeper
from frontend.operations.context import Context
from frontend.public.statics.blob_cache import BlobCache
from frontend.public.statics.sync import StaticsSync
from frontend.settings import CullerSettings
from tests.unit.frontend.fakes import KEYS, START, Clock, FakeCluster, put_host, records, settings

SET = "0123456789abcdef"
NOISE = b"".join(hashlib.sha256(bytes([n & 255, n >> 8])).digest() for n in range(2 * PART_BYTES // 32))
FILES = {"static/lab/main.js": b"let a = 1;\n" * 500, "static/lab/font.woff2": NOISE}


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def zipped(*contents: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for data in contents:
            archive.writestr(sha(data), data)
    return buffer.getvalue()


class HostWithStatics:
    """A host that answers for a set; ``bundle`` is what it gives, ``edit`` may spoil an answer."""

    def __init__(self, cluster: FakeCluster, name: str, bundle: bytes | None = None) -> None:
        self.bundle = zipped(*FILES.values()) if bundle is None else bundle
        self.asked: list[int] = []
        self.edit: Callable[[StaticsPart], StaticsPart] = lambda part: part
        self._consumer = cluster.broker.consumer()
        self._publisher = cluster.broker.publisher()
        self._consumer.consume(f"host.{name}", self._answer)
        put_host(cluster.store, name, default=PoolStatus(statics=SET))

    def _answer(self, delivery: Delivery) -> None:
        request = decode(delivery.body)
        assert isinstance(request, StaticsRequest)
        self.asked.append(request.offset)
        part = StaticsPart(
            sent_at=utc_now(), statics=SET, bundle=sha(self.bundle), total_bytes=len(self.bundle),
            offset=request.offset, data=self.bundle[request.offset : request.offset + PART_BYTES],
        )  # fmt: skip
        self._consumer.ack(delivery)
        assert delivery.reply_to is not None
        self._publisher.publish(delivery.reply_to, Outgoing(self.edit(part).encode(), "m", delivery.correlation_id))


def put_set(cluster: FakeCluster, files: dict[str, bytes] | None = None, statics: str = SET, **fields: object) -> None:
    held = {url: StaticFile(sha256=sha(data), size=len(data)) for url, data in (files or FILES).items()}
    record = Statics.model_validate(
        {"id": statics, "image": "img:1", "image_id": "sha256:1", "static_files": ["/opt/lab:/static/lab"],
         "host": "host-1", "taken_at": START, "files": held} | fields
    )  # fmt: skip
    cluster.store.put(KEYS.statics_of(statics), record.encode())


def is_served(cluster: FakeCluster) -> bool:
    entry = cluster.store.get(KEYS.statics_of(SET))
    assert entry is not None
    return Statics.decode(entry.key, entry.value).served


@pytest.fixture
def cluster(tmp_path: Path) -> FakeCluster:
    found = FakeCluster(settings(statics_dir=tmp_path / "shelf"))
    found.parts.blobs.open()
    return found


@pytest.fixture
def sync(cluster: FakeCluster) -> StaticsSync:
    return cluster.parts.statics


def get(cluster: FakeCluster, path: str, **options: object) -> TestResponse:
    """The whole answer; its file is closed."""
    return cluster.client.get(path, buffered=True, **options)


def test_a_set_is_fetched_in_parts_and_proxies_are_told_once_it_is_here(
    cluster: FakeCluster, sync: StaticsSync
) -> None:
    put_set(cluster)
    host = HostWithStatics(cluster, "host-1")
    assert not is_served(cluster)
    assert sync.turn()
    assert cluster.parts.blobs.missing(map(sha, FILES.values())) == set()
    assert len(host.asked) > 2
    assert host.asked == sorted(set(host.asked))
    assert is_served(cluster)
    assert sync.ready
    sync.turn()
    assert host.asked.count(0) == 1


def test_a3_a_host_that_gives_a_set_in_ever_smaller_parts_is_given_up(
    cluster: FakeCluster, sync: StaticsSync, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_set(cluster)
    host = HostWithStatics(cluster, "host-1")
    host.edit = lambda part: part.model_copy(update={"data": part.data[:1]})
    monkeypatch.setattr(sync, "_fetch_s", 0.0)
    sync.turn()
    assert not is_served(cluster)
    assert len(host.asked) <= 2


def test_a_second_worker_of_the_container_fetches_nothing(cluster: FakeCluster, sync: StaticsSync) -> None:
    put_set(cluster)
    host = HostWithStatics(cluster, "host-1")
    sync.turn()
    other = cluster.replica().statics
    other.turn()
    assert other.ready
    assert host.asked.count(0) == 1


def test_while_another_worker_is_at_it_nothing_is_fetched_and_nothing_promised(
    cluster: FakeCluster, sync: StaticsSync
) -> None:
    put_set(cluster, served=True)
    host = HostWithStatics(cluster, "host-1")
    with BlobCache(cluster.settings.statics_dir).alone() as mine:
        assert mine
        assert not sync.turn()
        assert (host.asked, sync.ready) == ([], False)
    assert sync.turn()
    assert sync.ready


def test_another_host_is_asked_when_the_first_is_gone(cluster: FakeCluster, sync: StaticsSync) -> None:
    put_set(cluster)
    HostWithStatics(cluster, "host-2")
    put_host(cluster.store, "host-0", default=PoolStatus())  # does not use the set
    assert sync.turn()
    assert is_served(cluster)


@pytest.mark.parametrize(
    "bundle",
    [
        b"no zip archive", zipped(FILES["static/lab/main.js"]), zipped(*FILES.values())[:-40] + b"x" * 40,
        zipped(FILES["static/lab/main.js"], NOISE[:-1] + b"!"), b"x" * (4 * PART_BYTES), b"",
    ],
    ids=["no archive", "a file is missing", "broken", "another content", "too large", "empty"],
)  # fmt: skip
def test_what_is_not_the_set_is_not_served_and_the_next_host_is_asked(
    cluster: FakeCluster, sync: StaticsSync, bundle: bytes
) -> None:
    put_set(cluster)
    HostWithStatics(cluster, "host-1", bundle)
    assert not sync.turn()
    assert not is_served(cluster)
    HostWithStatics(cluster, "host-2")
    assert sync.turn()
    assert is_served(cluster)


def test_a_file_under_a_false_name_is_not_kept(cluster: FakeCluster, sync: StaticsSync) -> None:
    evil = FILES["static/lab/main.js"].replace(b"1", b"2")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(sha(FILES["static/lab/main.js"]), evil)
        archive.writestr(sha(NOISE), NOISE)
    put_set(cluster)
    HostWithStatics(cluster, "host-1", buffer.getvalue())
    assert not sync.turn()
    assert cluster.parts.blobs.find(sha(FILES["static/lab/main.js"]), compressed=False) is None
    assert not is_served(cluster)


def test_a_bundle_that_changes_on_the_way_is_refused(cluster: FakeCluster, sync: StaticsSync) -> None:
    put_set(cluster)
    host = HostWithStatics(cluster, "host-1")
    host.edit = lambda part: part.model_copy(update={"bundle": str(part.offset)})
    assert not sync.turn()
    host.edit = lambda part: part.model_copy(update={"data": b""} if part.offset else {})
    assert not sync.turn()
    host.edit = lambda part: part.model_copy(update={"problem": "image is not on this host"})
    assert not sync.turn()
    assert not is_served(cluster)


def test_a_set_that_nobody_has_any_more_does_not_hold_up_the_others(cluster: FakeCluster, sync: StaticsSync) -> None:
    put_set(cluster, {"a.js": b"lost"}, "f" * 16, served=True, host="host-9")
    put_set(cluster)
    HostWithStatics(cluster, "host-1")
    assert not sync.turn()
    assert sync.ready
    assert is_served(cluster)


def test_files_of_sets_that_are_gone_are_dropped_after_a_while(cluster: FakeCluster, sync: StaticsSync) -> None:
    put_set(cluster)
    HostWithStatics(cluster, "host-1")
    sync.turn()
    cluster.store.delete(KEYS.statics_of(SET))
    sync.turn()
    assert len(cluster.parts.blobs.names()) == 2
    cluster.clock.advance(601)
    sync.turn()
    assert cluster.parts.blobs.names() == set()
    assert list(cluster.settings.statics_dir.glob("*.gz")) == []


def test_without_consul_nothing_is_promised(cluster: FakeCluster, sync: StaticsSync) -> None:
    assert get(cluster, "/_statics/").status_code == 503
    cluster.store.outage(True)
    with pytest.raises(StoreUnavailable):
        sync.turn()
    assert get(cluster, "/_statics/").status_code == 503
    cluster.store.outage(False)
    sync.turn()
    assert get(cluster, "/_statics/").status_code == 200


def test_a_file_is_served_with_its_type_and_may_be_kept_for_ever(cluster: FakeCluster) -> None:
    data = FILES["static/lab/main.js"]
    cluster.parts.blobs.put(sha(data), data)
    plain = get(cluster, f"/_statics/plain/{sha(data)}.js")
    packed = get(cluster, f"/_statics/gzip/{sha(data)}.js")
    assert (plain.status_code, plain.data, plain.headers["Content-Type"]) == (200, data, "text/javascript")
    assert "Content-Encoding" not in plain.headers
    assert (packed.headers["Content-Encoding"], gzip.decompress(packed.data)) == ("gzip", data)
    for answer in (plain, packed):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "public, max-age=31536000"
        assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'self'"
        assert "Set-Cookie" not in answer.headers
        assert "Vary" not in answer.headers
    assert plain.headers["ETag"] != packed.headers["ETag"]
    again = get(cluster, f"/_statics/gzip/{sha(data)}.js", headers={"If-None-Match": packed.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_what_gzip_does_not_make_smaller_is_sent_as_it_is(cluster: FakeCluster) -> None:
    cluster.parts.blobs.put(sha(NOISE), NOISE)
    answer = get(cluster, f"/_statics/gzip/{sha(NOISE)}.woff2")
    assert (answer.data, answer.headers["Content-Type"]) == (NOISE, "font/woff2")
    assert "Content-Encoding" not in answer.headers


@pytest.mark.parametrize(
    "path",
    [
        "/_statics/plain/{0}", "/_statics/plain/..%2f{0}.js", "/%5fstatics/plain/{0}.js", "/_statics/plain//{0}.js",
        "/_statics/other/x.js", "/_statics/plain/lock", "/_statics/plain/" + "0" * 64 + ".js", "/_statics/plain/",
    ],
)  # fmt: skip
def test_other_spellings_and_other_files_are_not_there(cluster: FakeCluster, path: str) -> None:
    data = FILES["static/lab/main.js"]
    cluster.parts.blobs.put(sha(data), data)
    shown = path.format(sha(data))
    answer = get(cluster, shown, environ_overrides={"RAW_URI": shown})
    # Without a suffix it is the same file with no type: nothing more than its name gives away.
    assert answer.status_code == (200 if path == "/_statics/plain/{0}" else 404)
    assert answer.headers["Cache-Control"] == ("public, max-age=31536000" if answer.status_code == 200 else "no-store")


def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 12345)
    with pytest.raises(PermissionError, match="another user"):
        BlobCache(tmp_path / "shelf").open()


def test_with_an_api_token_files_are_still_served(tmp_path: Path) -> None:
    cluster = FakeCluster(settings(statics_dir=tmp_path, API_AUTH_TOKEN="secret"))
    cluster.parts.blobs.put(sha(b"x"), b"x")
    assert get(cluster, f"/_statics/plain/{sha(b'x')}.js").status_code == 200


def test_sets_that_no_server_and_no_pool_uses_are_swept(cluster: FakeCluster) -> None:
    used, routed, unused = SET, "1" * 16, "2" * 16
    for statics in (used, routed, unused):
        put_set(cluster, statics=statics)
    put_host(cluster.store, "host-1", default=PoolStatus(statics=used))
    route = Route(
        user="u" * 12, host="host-1", target="192.0.2.1:1", container="c", pool="p", generation="g", created_at=START,
        statics=routed,
    )  # fmt: skip
    cluster.store.put(KEYS.route("u" * 12), route.encode())
    clock = Clock()
    sweeper = Sweeper(Context(records(cluster.store), cluster.broker.publisher(), clock.now), CullerSettings())
    clock.advance(5 * 60)
    assert sweeper.rarely()["statics"] == 0
    clock.advance(2 * 3600)
    assert sweeper.rarely()["statics"] == 1
    assert {entry.key for entry in cluster.store.list(KEYS.statics).entries} == {
        KEYS.statics_of(used), KEYS.statics_of(routed),
    }  # fmt: skip


def test_the_keys_of_sets_and_their_locks_are_apart() -> None:
    cluster = records(MemoryStore())
    assert not cluster.statics_lock(SET).startswith(cluster.statics.prefix)

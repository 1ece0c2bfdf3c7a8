"""Sets of static files: taken once in the cluster, from a container nobody has used, and handed out in parts."""

import hashlib
import io
import zipfile
from collections.abc import Mapping

import pytest

from agent import names
from agent.engine.listing import EngineListing
from agent.engine.memory import MemoryEngine
from agent.reconcile.plan import Observed, RemoveContainer, plan
from common.broker import queues
from common.broker.messages import PART_BYTES, StaticsPart, StaticsRequest, decode
from common.broker.messages import PART_MAX_BYTES as MOST
from common.broker.port import Delivery, Outgoing
from common.errors import EngineUnavailable, StoreUnavailable
from common.records.statics import Statics
from common.runtime.clock import utc_now
from tests.unit.agent.world import CLUSTER, HOST, IMAGE, KEYS, World, pool, route

LAB = "/opt/lab:/static/lab"
FILES = {"/opt/lab/main.js": b"main", "/opt/lab/img/a.svg": b"<svg/>", "/etc/passwd": b"root"}


def world(**more: object) -> World:
    made = World(pool(static_files=[LAB], pool_size=1), **more)  # type: ignore[arg-type]
    made.engine.files[IMAGE] = dict(FILES)
    made.statics.use(made.specs.values())
    return made


def records(one: World) -> dict[str, Statics]:
    found = (Statics.decode(e.key, e.value) for e in one.store.list(KEYS.statics).entries)
    return {record.id: record for record in found}


def extracted(one: World) -> list[str]:
    return [name for what, name in one.engine.history if what == "create"]


def ask(one: World, statics: str, offset: int = 0) -> StaticsPart:
    """As a frontend does: over the host's queue, answered directly."""
    request = StaticsRequest(sent_at=utc_now(), statics=statics, offset=offset)

    def answer(delivery: Delivery) -> None:
        one.statics.ask(decode(delivery.body), delivery)  # type: ignore[arg-type]
        one.consumer.ack(delivery)  # type: ignore[union-attr]
        one.statics._answer(*one.statics._inbox.get_nowait())  # type: ignore[arg-type]  # what the thread does

    while not one.statics._inbox.empty():
        one.statics._inbox.get_nowait()
    assert one.consumer is not None
    one.consumer.consume(queues.host(one.host), answer)
    body = one.requester.request(queues.host(one.host), Outgoing(request.encode(), "m", correlation_id="c"), 5.0)
    assert body is not None
    part = decode(body, MOST)
    assert isinstance(part, StaticsPart)
    return part


def test_a_set_is_taken_from_a_container_that_never_ran_and_is_gone_afterwards() -> None:
    one = world()
    one.statics.look()
    (record,) = records(one).values()
    assert set(record.files) == {"static/lab/main.js", "static/lab/img/a.svg"}
    assert record.files["static/lab/main.js"].sha256 == hashlib.sha256(b"main").hexdigest()
    assert [what for what, _ in one.engine.history] == ["create", "remove"]
    assert one.engine.list({}) == ()
    assert one.stored(f"{KEYS.root}locks/") == set()
    assert one.statics.notes() == {"light": (record.id, "2 files, 0.0 MB")}


def test_it_is_taken_once_in_the_cluster_and_noted_by_all() -> None:
    one = world()
    two = world(host="host-2", store=one.store)
    for _ in range(2):
        one.statics.look()
        two.statics.look()
    assert len(extracted(one)) == 1
    assert extracted(two) == []
    assert one.statics.notes() == two.statics.notes()


def test_pools_that_come_during_a_look_are_looked_at_next() -> None:
    class News(MemoryEngine):
        def create(self, image: str, name: str, labels: Mapping[str, str]) -> str:
            one.statics.use([*one.specs.values(), pool("other", static_files=[LAB])])
            return super().create(image, name, labels)

    one = world(engine=News(images={IMAGE}))
    assert one.statics._step() == 0.0
    one.statics._step()
    assert set(one.statics.notes()) == {"light", "other"}


def test_after_a_look_that_failed_nothing_is_taken_for_a_while() -> None:
    one = world()
    one.store.outage(True)
    with pytest.raises(StoreUnavailable):
        one.statics._step()
    assert one.statics._step() > 20


def test_two_hosts_that_look_at_once_do_not_both_take_it() -> None:
    class Slow(MemoryEngine):
        def create(self, image: str, name: str, labels: Mapping[str, str]) -> str:
            two.statics.look()
            return super().create(image, name, labels)

    one = world(engine=Slow(images={IMAGE}))
    two = world(host="host-2", store=one.store)
    one.statics.look()
    assert (len(records(one)), extracted(two)) == (1, [])


def test_a_lost_record_is_written_again() -> None:
    one = world()
    one.statics.look()
    before = records(one)
    one.store.delete(KEYS.statics_of(next(iter(before))))
    one.statics.look()
    assert records(one).keys() == before.keys()


def test_the_container_in_hand_is_no_leftover_and_a_forgotten_one_is() -> None:
    one = world()
    name = names.statics_name(CLUSTER, HOST, "0" * 16)
    container = one.engine.create(IMAGE, name, names.selector(CLUSTER, HOST))
    look = EngineListing(one.engine.list({}), ())
    assert plan({}, Observed((), look, in_use=frozenset({name})), 0.0) == []
    assert plan({}, Observed((), look), 0.0) == [RemoveContainer(container, "labels cannot be read")]
    one.settle()
    assert name not in one.container_names()


def test_a_server_carries_its_set_over_a_restart_and_into_its_route() -> None:
    one = world()
    one.statics.look()
    one.settle()
    (server,) = one.inventory.snapshot()
    (statics,) = records(one)
    assert (server.statics, route(one, server.user).statics) == (statics, statics)
    one.restart()
    one.settle()
    assert [s.statics for s in one.inventory.snapshot()] == [statics]


def test_an_image_that_gives_its_name_to_another_one_is_another_set() -> None:
    one = world()
    one.statics.look()
    (old,) = records(one)
    one.engine.files[IMAGE]["/opt/lab/main.js"] = b"newer"
    one.statics.look()
    assert len(records(one)) == 2
    assert one.statics.notes()["light"][0] != old


def test_pools_without_static_files_cost_no_call() -> None:
    one = World(pool())
    one.statics.use(one.specs.values())
    one.engine.down = True
    assert one.statics.set_of(one.specs["light"]) == ""
    one.statics.look()


def test_a_bundle_comes_in_parts_from_any_host_that_has_the_image() -> None:
    one = world()
    one.engine.files[IMAGE]["/opt/lab/big.bin"] = noise(3 * PART_BYTES)
    one.statics.look()
    (record,) = records(one).values()
    two = world(host="host-2", store=one.store)
    two.engine.files = one.engine.files
    for host in (one, two):
        first = ask(host, record.id)
        data = first.data
        while len(data) < first.total_bytes:
            part = ask(host, record.id, len(data))
            assert (part.bundle, part.offset, len(part.data) <= PART_BYTES) == (first.bundle, len(data), True)
            data += part.data
        assert hashlib.sha256(data).hexdigest() == first.bundle
        held = zipfile.ZipFile(io.BytesIO(data))
        assert set(held.namelist()) == {file.sha256 for file in record.files.values()}
    assert len(extracted(two)) == 1


def noise(size: int) -> bytes:
    """What cannot be compressed."""
    return b"".join(hashlib.sha256(bytes([n & 255, n >> 8])).digest() for n in range(size // 32))


def test_a_question_that_cannot_be_answered_is_answered_with_the_reason() -> None:
    one = world()
    assert "no set" in ask(one, "0" * 16).problem
    one.statics.look()
    (statics,) = records(one)
    two = world(host="host-2", store=one.store)
    two.engine.images.clear()
    assert "not on this host" in ask(two, statics).problem


def test_what_is_too_much_is_said_once_and_not_tried_again() -> None:
    one = world()
    one.restart(statics_max_bytes=5)
    one.statics.use(one.specs.values())
    one.statics.look()
    one.statics.look()
    assert len(extracted(one)) == 1
    assert records(one) == {}
    assert "statics_max_bytes" in one.statics.notes()["light"][1]
    assert one.engine.list({}) == ()


def test_an_image_without_the_files_is_said() -> None:
    one = world()
    one.engine.files.clear()
    one.statics.look()
    assert records(one) == {}
    assert "the image has no files" in one.statics.notes()["light"][1]


def test_paths_of_another_image_are_left_out_with_a_word() -> None:
    one = World(pool(static_files=[LAB, "/opt/conda/lab:/static/lab"]))
    one.engine.files[IMAGE] = dict(FILES)
    one.statics.use(one.specs.values())
    one.statics.look()
    assert one.statics.notes()["light"][1].endswith("not in the image: /opt/conda/lab")


def test_while_docker_is_away_nothing_is_concluded() -> None:
    one = world()
    one.engine.down = True
    with pytest.raises(EngineUnavailable):
        one.statics.look()
    one.engine.down = False
    one.statics.look()
    assert len(records(one)) == 1


def test_bundles_are_forgotten_when_nobody_asks() -> None:
    one = world()
    one.statics.look()
    one.clock.now += 601
    one.statics._forget_old()
    (statics,) = records(one)
    ask(one, statics)
    assert len(extracted(one)) == 2

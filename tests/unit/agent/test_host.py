"""The host's own records: session and host record, note, pools as read, settings, succession. On fakes."""

import hashlib
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent import names
from agent.commands.second_look import CLOSED_NOTE
from agent.host.lease import HostLease
from agent.host.predecessor import ProcessIdentity, is_dead
from agent.lifecycle import Server, State
from agent.records.saved_state import SavedState
from agent.records.specs import Specs
from agent.settings import AgentSettings, resolve_address
from agent.status import problem
from agent.wakeup import Wakeup
from common.errors import StartFailed, StoreUnavailable
from common.records.hosts import HostNote, HostRecord, HostState
from common.records.tickets import Ticket
from common.runtime.clock import ClusterClock, utc_now
from common.settings import load
from common.store.cluster import Cluster
from common.store.memory import MemoryStore
from common.store.port import Entry
from common.vocabulary import EndReason
from tests.unit.agent.world import CLUSTER, HOST, KEYS, World, pool

ME = ProcessIdentity.current("engine-1")


class Keeping:
    """A lease whose turns the test takes."""

    def __init__(self, store: MemoryStore, me: ProcessIdentity = ME) -> None:
        self.store, self.me = store, me
        self.restored_count = 0
        self.address = "10.0.0.1"
        hosts = Cluster(store, CLUSTER).hosts
        self.lease = HostLease(store, hosts, HOST, Wakeup(), 10, 3.0)

    def record(self) -> HostRecord:
        now = utc_now()
        return HostRecord(
            host=HOST, address=self.address, agent_version="0", instance=str(self.me),
            started_at=datetime(2026, 1, 1, tzinfo=UTC), updated_at=now,
        )  # fmt: skip

    def restored(self) -> None:
        self.restored_count += 1

    def turn(self) -> None:
        self.lease.renew(self)

    def stored(self) -> Entry | None:
        return self.store.get(KEYS.host(HOST))


def test_the_record_is_held_by_a_session_and_goes_with_it() -> None:
    keeping = Keeping(MemoryStore())
    assert not keeping.lease.holds()
    keeping.turn()
    entry = keeping.stored()
    assert entry is not None
    assert entry.session is not None
    assert keeping.lease.holds()
    keeping.lease._thread.start()
    keeping.lease.stop()
    assert keeping.stored() is None


def test_a18_an_old_record_in_place_of_ours_is_taken_for_a_snapshot_that_was_restored() -> None:
    """I6, I8: it may know our session, so that its renewal tells nothing, and servers that are no more."""
    keeping = Keeping(MemoryStore())
    keeping.turn()
    old = keeping.stored()
    keeping.address = "10.0.0.2"
    keeping.turn()
    keeping.address = "10.0.0.3"
    keeping.turn()
    assert keeping.restored_count == 0
    assert old is not None
    keeping.store.put(KEYS.host(HOST), old.value)
    keeping.address = "10.0.0.4"
    keeping.turn()
    assert keeping.restored_count == 1
    assert keeping.lease.lost()
    keeping.address = "10.0.0.5"
    keeping.turn()
    assert keeping.restored_count == 1


def test_the_record_is_written_when_it_changes_and_not_otherwise() -> None:
    keeping = Keeping(MemoryStore())
    keeping.turn()
    first = keeping.stored()
    keeping.turn()
    assert keeping.stored() == first
    keeping.address = "10.0.0.2"
    keeping.turn()
    second = keeping.stored()
    assert second is not None
    assert HostRecord.decode(second.key, second.value).address == "10.0.0.2"


def test_a_lost_session_is_opened_again_and_said() -> None:
    """I8."""
    keeping = Keeping(MemoryStore())
    keeping.turn()
    keeping.store.wipe()
    assert keeping.lease.lost()
    keeping.turn()
    assert keeping.lease.holds()
    assert keeping.restored_count == 1
    assert keeping.lease.lost(), "for a while, so that whoever asks later learns it too"


def test_a_record_deleted_under_a_living_session_is_written_again() -> None:
    """I8: somebody deleted all keys, and no session with them."""
    keeping = Keeping(MemoryStore())
    keeping.turn()
    assert not keeping.lease.lost()
    keeping.store.delete(KEYS.host(HOST))
    assert keeping.lease.lost()
    keeping.turn()
    assert keeping.stored() is not None
    assert keeping.restored_count == 1


def test_nothing_is_held_for_sure_while_the_store_is_away_or_doubted() -> None:
    keeping = Keeping(MemoryStore())
    keeping.turn()
    keeping.lease.suspect()
    assert not keeping.lease.holds()
    keeping.turn()
    assert keeping.lease.holds()
    keeping.store.outage(True)
    with pytest.raises(StoreUnavailable):
        keeping.turn()


def test_an_agent_stopped_for_longer_than_its_session_lives_knows_it_by_its_own_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keeping = Keeping(MemoryStore())
    keeping.turn()
    lease = keeping.lease._lease
    monkeypatch.setattr(lease, "_monotonic", lambda: lease._sure_until + 0.1)
    assert not keeping.lease.holds()


def test_a_name_that_another_agent_holds_is_not_taken_and_complained_about_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = MemoryStore()
    first = Keeping(store)
    first.turn()
    other = Keeping(store, ProcessIdentity.current("another-engine"))
    other.turn()
    other.turn()
    assert not other.lease.holds()
    assert first.lease.holds()
    assert [r.levelname for r in caplog.records if "another agent" in r.message] == ["ERROR"]


def test_the_session_of_a_dead_predecessor_is_ended() -> None:
    store = MemoryStore()
    dead = Keeping(store, ProcessIdentity(ME.engine, ME.hostname, ME.namespace, ME.pid, ME.started - 1))
    dead.turn()
    successor = Keeping(store)
    successor.turn()
    successor.turn()
    assert successor.lease.holds()


@pytest.mark.parametrize(
    ("change", "dead"),
    [
        ({}, False),
        ({"started": 1}, True),
        ({"pid": 2**22 + 1}, True),
        ({"engine": "another"}, False),
        ({"hostname": "another"}, False),
        ({"namespace": "another"}, False),
    ],
)
def test_only_what_is_certain_counts_as_dead(change: dict[str, str | int], dead: bool) -> None:
    fields = {"engine": ME.engine, "hostname": ME.hostname, "namespace": ME.namespace, "pid": ME.pid}
    other = ProcessIdentity(**(fields | {"started": ME.started} | change))  # type: ignore[arg-type]
    assert is_dead(other, ME) is dead


def test_in_a_container_another_namespace_under_the_same_id_was_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.host.predecessor._in_container", lambda: True)
    me = ProcessIdentity("e", "0123456789ab", "pid:[2]", 1, 20)
    assert is_dead(ProcessIdentity("e", "0123456789ab", "pid:[1]", 1, 10), me)
    named = ProcessIdentity("e", "agent", "pid:[2]", 1, 20)
    assert not is_dead(ProcessIdentity("e", "agent", "pid:[1]", 1, 10), named), "two containers may be given one name"


def test_an_instance_is_read_as_it_was_written() -> None:
    assert ProcessIdentity.parse(str(ME)) == ME
    assert ProcessIdentity.parse("") is None
    assert ProcessIdentity.parse("a|b|c|x|1") is None
    assert ME.pid == os.getpid()


# Note


def test_a_cordon_and_the_ports_are_remembered_for_the_next_agent() -> None:
    store = MemoryStore()
    first = SavedState(Cluster(store, CLUSTER), HOST)
    assert first.read() is None
    first.set_state(HostState.CORDONED)
    first.set_next_port(20256)
    second = SavedState(Cluster(store, CLUSTER), HOST)
    assert second.read() == HostNote(host=HOST, state=HostState.CORDONED, next_port=20256)
    assert second.state is HostState.CORDONED


def test_a_state_that_cannot_be_remembered_is_not_taken_on() -> None:
    store = MemoryStore()
    note = SavedState(Cluster(store, CLUSTER), HOST)
    store.outage(True)
    with pytest.raises(StoreUnavailable):
        note.set_state(HostState.DRAINING)
    assert note.state is HostState.ACTIVE


# Pools


def specs_of(store: MemoryStore, lost: Callable[[], bool] = lambda: False) -> Specs:
    return Specs(Cluster(store, CLUSTER), lost, Wakeup())


def read(specs: Specs, store: MemoryStore) -> None:
    specs.take(Cluster(store, CLUSTER).pools.list())


def test_a_pool_that_cannot_be_read_stays_as_it_was_and_others_follow() -> None:
    store = MemoryStore()
    store.put(KEYS.pool("light"), pool().encode())
    specs = specs_of(store)
    read(specs, store)
    store.put(KEYS.pool("light"), b"{")
    store.put(KEYS.pool("other"), pool("other").encode())
    store.put(KEYS.pool("wrong"), pool("other").encode())
    read(specs, store)
    assert specs.all() == {"light": pool(), "other": pool("other")}


def test_pools_lost_with_the_store_are_written_back() -> None:
    """I8."""
    store = MemoryStore()
    store.put(KEYS.pool("light"), pool().encode())
    specs = specs_of(store, lambda: True)
    read(specs, store)
    store.wipe()
    read(specs, store)
    assert specs.all() == {"light": pool()}
    assert store.get(KEYS.pool("light")) is not None


def test_pools_deleted_by_an_operator_are_gone() -> None:
    store = MemoryStore()
    store.put(KEYS.pool("light"), pool().encode())
    specs = specs_of(store)
    read(specs, store)
    store.delete(KEYS.pool("light"))
    read(specs, store)
    assert specs.all() == {}


def test_a_host_serves_the_pools_whose_labels_it_carries_and_writes_back_all_of_them() -> None:
    store = MemoryStore()
    gpu = pool("gpu", host_labels={"gpu": "yes"})
    for spec in (pool(), gpu):
        store.put(KEYS.pool(spec.name), spec.encode())
    with_gpu = Specs(Cluster(store, CLUSTER), lambda: False, Wakeup(), {"gpu": "yes", "room": "a"})
    without = Specs(Cluster(store, CLUSTER), lambda: True, Wakeup(), {"gpu": "no"})
    for specs in (with_gpu, without):
        read(specs, store)
    assert set(with_gpu.all()) == {"light", "gpu"}
    assert set(without.all()) == {"light"}
    store.wipe()
    read(without, store)
    assert store.get(KEYS.pool("gpu")) is not None, "I8: nobody else may be left to write it"


def test_labels_are_given_as_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPNB_LABELS", "gpu=yes, room=a")
    assert AgentSettings(host="h").labels == {"gpu": "yes", "room": "a"}
    for wrong in ("gpu", "gpu=yes,=a", "gpu=a b"):
        monkeypatch.setenv("TMPNB_LABELS", wrong)
        with pytest.raises(ValueError, match="labels"):
            AgentSettings(host="h")


# Status, names, settings


def test_problems_are_told_in_one_text() -> None:
    assert problem(0.0, "", "") == ""
    text = problem(-3600.4, "Docker: no answer", "RabbitMQ refuses")
    assert text.startswith("Docker: no answer; RabbitMQ refuses; ")
    assert "3600 s behind" in text


def test_a_wrong_clock_is_replaced_by_consul_s_and_a_good_one_is_not() -> None:
    store = MemoryStore()
    clock = ClusterClock(store.clock_skew_s)
    store.skew_s = 1.2
    assert abs((clock() - utc_now()).total_seconds()) < 0.5
    assert clock.wrong_by_s() == 0.0
    store.skew_s = 3600.0
    assert abs((utc_now() - clock()).total_seconds() - 3600) < 0.5
    assert clock.wrong_by_s() == 3600.0


def test_the_host_record_tells_of_a_wrong_clock_and_gives_the_right_time() -> None:
    world = World()
    world.settle()
    world.store.skew_s = -3600.0
    world.commands._culling._second_look._closed["light"] = "generation"
    record = world.agent.record()
    assert "3600 s behind" in record.problem
    assert abs((record.updated_at - utc_now()).total_seconds() - 3600) < 1
    assert record.pools["light"].ready == 3
    assert record.pools["light"].kernels_note == CLOSED_NOTE


def test_the_status_counts_servers_by_pool_and_says_when_a_pool_does_not_fit() -> None:
    world = World(pool(pool_size=3), pool("big", mem_limit="900g"))
    world.settle()
    world.send(world.request())
    world.failures.failed("light", world.specs["light"].generation, utc_now(), StartFailed(EndReason.NO_ANSWER))
    statuses = world.agent.record().pools
    light, big = statuses["light"], statuses["big"]
    assert (light.capacity, light.starting, light.ready, light.claimed) == (3, 0, 2, 1)
    assert light.generation == world.specs["light"].generation
    assert (light.failing, big.failing) == (True, False)
    assert big.capacity == 0
    assert big.last_failure is not None
    assert "900g" in big.last_failure.note
    assert (big.last_failure.reason, big.last_failure.note) == (EndReason.NO_ROOM, big.limited_by)
    assert light.limited_by == ""
    world.specs = {"light": pool(pool_size=3, environment={"V": "2"})}
    world.publish_specs()
    old = world.agent.record().pools["light"]
    assert (old.ready_old, old.claimed_old, old.failing) == (2, 1, False)
    world.specs = {}
    world.publish_specs()
    gone = world.agent.record().pools
    assert (gone["light"].capacity, gone["light"].claimed) == (0, 1), "what is left of a deleted pool still shows"


def test_what_is_written_on_a_container_is_read_again() -> None:
    world = World(pool(pool_size=1))
    world.settle()
    (server,) = world.inventory.snapshot()
    (container,) = world.engine.list(names.selector(CLUSTER, HOST))
    found = names.identity(container.labels)
    assert found is not None
    assert (found.user, found.pool, found.port, found.token) == (server.user, "light", server.port, server.token)
    assert server.state is State.READY
    assert not names.is_claimed(container.name)
    assert names.is_claimed(names.claimed_name(server))


def test_a10_no_name_of_a_container_holds_or_follows_from_its_user_or_request() -> None:
    """Docker's DNS tells the names of a network's containers to all that are on it."""
    world = World(pool(pool_size=4))
    world.settle()
    reply = world.send(world.request())
    assert reply is not None
    request, now = world.request(user="2" * 12), utc_now()
    ticket = Ticket(request_id=request.request_id, pool="light", created_at=now, seen_at=now, user="2" * 12)
    world.store.put(KEYS.ticket(request.request_id), ticket.encode())
    world.send(request)
    world.settle()
    shown = " ".join(world.container_names())
    assert "2" * 12 in world.users(State.CLAIMED)
    for server in world.inventory.snapshot():
        assert server.user not in shown
        for function in (hashlib.md5, hashlib.sha1, hashlib.sha256):
            assert function(server.user.encode()).hexdigest()[:8] not in shown
    assert reply.user not in shown
    assert request.request_id[:8] not in shown


def test_a10_a_container_named_as_before_ids_left_the_names_is_adopted_as_what_it_is() -> None:
    """I3."""
    world = World(pool(pool_size=2))
    world.settle()
    taken, free = world.inventory.snapshot()
    world.engine.rename(taken.container, f"tmpnb-test-light-{taken.user}.claimed")
    world.engine.rename(free.container, f"tmpnb-test-light-{free.user}")
    world.restart()
    world.settle()
    assert world.users(State.CLAIMED) == {taken.user}
    reply = world.send(world.request())
    assert reply is not None
    assert reply.user == free.user
    assert f"tmpnb-test-light-{free.user}.claimed" in world.container_names()


@pytest.mark.parametrize("change", [{"tmpnb.user": "Robert'); DROP"}, {"tmpnb.port": "x"}, {"tmpnb.created": "now"}])
def test_labels_that_are_not_ours_say_nothing(change: dict[str, str]) -> None:
    server = Server("a" * 12, "light", "g", 20000, "t", utc_now())
    labels = names.labels(CLUSTER, HOST, server)
    assert names.identity(labels) == server
    assert names.identity(labels | change) is None
    assert names.identity({}) is None


def test_the_gateway_is_found_in_the_kernel_s_table(tmp_path: Path) -> None:
    table = tmp_path / "route"
    head = "Iface\tDestination\tGateway\tFlags\n"
    table.write_text(head + "eth0\t000012AC\t00000000\t0001\neth0\t00000000\t010012AC\t0003\n")
    assert resolve_address("gateway", table) == "172.18.0.1"
    assert resolve_address("10.1.2.3", table) == "10.1.2.3"
    table.write_text(head)
    with pytest.raises(ValueError, match="no default route"):
        resolve_address("gateway", table)


def test_the_session_must_survive_a_late_tick_and_two_slow_calls() -> None:
    assert AgentSettings(host="h").session_ttl_s == 10
    with pytest.raises(ValueError, match="session_tick_s"):
        AgentSettings(host="h", session_tick_s=5)
    assert AgentSettings(host="h", session_tick_s=5, session_ttl_s=20).session_tick_s == 5


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("--container_ip=1.2.3", "IPv4 or IPv6 address (given: '1.2.3')"),
        ("--container-ip=gateway", "IPv4 or IPv6 address (given: 'gateway')"),
        ("--max-dock-workers=0", "greater than or equal to 1"),
        ("--max_dock_workers=many", "integer"),
        ("--docker-version=2.0", "Docker API version, or auto"),
        ("--assert_hostname=maybe", "true or false"),
        ("--allow-host-network=2", "true or false"),
        ("--allowed-host-directories=/srv,data", "not 'data'"),
        ("--allowed_host_directories=/srv/../etc", "absolute paths, comma-separated"),
        ("--allowed_host_directories=/" + "x" * 5000, "of at most 4096 bytes"),
    ],
)
def test_a_wrong_setting_of_tmpnb_s_is_named_with_its_value_and_what_is_accepted(
    argument: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        load(AgentSettings, ["--host=h", argument])
    said = capsys.readouterr().err
    name, _, value = argument.partition("=")
    assert name.replace("_", "-").replace("----", "--") in said
    assert says in said
    assert value[:80] in said


def test_settings_of_tmpnb_s_are_taken_with_dashes_and_underscores() -> None:
    argv = ["--host=h", "--container_ip=::1", "--max-dock-workers=3", "--docker_version=1.41", "--assert_hostname"]
    found = load(AgentSettings, [*argv, "--allowed-host-directories=/srv/data/, /srv/home"])
    assert (found.container_ip, found.max_dock_workers, found.docker_version) == ("::1", 3, "1.41")
    assert (found.assert_hostname, found.allow_host_network) == (True, False)
    assert found.allowed_host_directories == ("/srv/data", "/srv/home")

"""What opens a seat: made with the server, kept with its container, and known to everybody else by its digest."""

from agent import names
from agent.lifecycle import Server
from common.ids import digest, is_seat_key
from common.records.servers import Gone
from common.store.cluster import Cluster
from common.vocabulary import EndReason
from tests.unit.agent.world import CLUSTER, KEYS, World, pool


def only(world: World) -> Server:
    (server,) = world.inventory.snapshot()
    return server


def test_every_server_has_a_key_of_its_own_and_its_route_the_digest_from_the_beginning() -> None:
    world = World(pool(pool_size=3))
    world.settle()
    servers = world.inventory.snapshot()
    assert all(is_seat_key(server.key) for server in servers)
    assert len({server.key for server in servers} | {server.token for server in servers}) == 6
    routes = Cluster(world.store, CLUSTER).routes.all().values()
    assert {(route.user, route.seat) for route in routes} == {(s.user, digest(s.key)) for s in servers}


def test_claim_and_tombstone_have_the_digest_and_nothing_in_consul_has_the_key() -> None:
    world = World(pool(pool_size=1))
    world.settle()
    server = only(world)
    reply = world.send(world.request())
    assert reply is not None
    cluster = Cluster(world.store, CLUSTER)
    (claim,) = cluster.claims.all().values()
    assert claim.seat == digest(server.key)
    world.inventory.stop(server.user, EndReason.IDLE)
    world.settle()
    assert cluster.gone.all()[server.user].seat == digest(server.key)
    assert not [entry.key for entry in world.store.list(KEYS.root).entries if server.key.encode() in entry.value]


def test_a_pool_with_open_seats_has_servers_without_keys_and_digests() -> None:
    world = World(pool(pool_size=1, private_seats=False))
    world.settle()
    assert only(world).key == ""
    (container,) = world.engine.list({})
    assert not [label for label in container.labels if "seat" in label]
    (route,) = Cluster(world.store, CLUSTER).routes.all().values()
    assert route.seat == ""
    reply = world.send(world.request())
    assert reply is not None
    (claim,) = Cluster(world.store, CLUSTER).claims.all().values()
    assert claim.seat == ""


def test_switching_it_replaces_the_servers_that_are_ready() -> None:
    open_seats = pool(pool_size=1, private_seats=False)
    assert open_seats.generation != pool(pool_size=1).generation


def test_the_next_agent_knows_the_keys_of_the_servers_that_are_there() -> None:
    world = World(pool(pool_size=1))
    world.settle()
    before = only(world)
    world.restart()
    world.settle()
    assert only(world).key == before.key
    (route,) = Cluster(world.store, CLUSTER).routes.all().values()
    assert route.seat == digest(before.key)


def test_a_container_from_before_there_were_keys_or_with_one_that_makes_no_sense_is_adopted_with_an_open_seat() -> None:
    world = World(pool(pool_size=1))
    world.settle()
    labels = names.labels(CLUSTER, world.host, only(world))
    (seat,) = [name for name in labels if "seat" in name]
    for wrong in ({seat: ""}, {seat: "short"}, {seat: "x" * 31 + "/"}):
        found = names.identity(labels | wrong)
        assert found is not None
        assert found.key == ""
    found = names.identity({name: value for name, value in labels.items() if name != seat})
    assert found is not None
    assert found.seat == ""


def test_a_word_of_a_warned_learner_names_the_seat() -> None:
    world = World(pool(pool_size=1))
    world.settle()
    server = only(world)
    world.registry.leave_word(server, EndReason.HOST_DRAINED, left_s=300.0)
    (entry,) = world.store.list(KEYS.gone).entries
    assert Gone.decode(entry.key, entry.value).seat == digest(server.key)

"""The cluster's network: right, wrong, replaced, refused. On the fake, and pure."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.engine.memory import MemoryEngine
from agent.engine.network import BRIDGE, GATEWAY_MODE, ICC, MTU, ClusterNetwork, Network, assess, options, uplink_mtu
from agent.lifecycle import State
from agent.settings import AgentSettings
from common.settings import load
from tests.unit.agent.world import World, pool

NET = "tmpnb-test"
LABELS = {"tmpnb.cluster": "test"}
RIGHT = Network("n1", "bridge", options=options("net", 0), labels=LABELS, subnets=("172.18.0.0/16",))


def unlike(**fields: Any) -> Network:
    changed = fields.pop("options", {})
    return replace(RIGHT, options={**RIGHT.options, **changed}, **fields)


WRONG = [
    (unlike(options={ICC: "true"}), "reach each other"),
    (replace(RIGHT, options={BRIDGE: "tmpnb0"}), "reach each other"),
    (unlike(options={BRIDGE: "br-hand"}), "firewall"),
    (replace(RIGHT, options={ICC: "false"}), "firewall"),
    (unlike(internal=True), "internal"),
    (unlike(ipv6=True), "IPv6"),
    (unlike(driver="macvlan"), "macvlan"),
    (unlike(options={GATEWAY_MODE: "nat-unprotected"}), "gateway mode"),
]


@pytest.mark.parametrize(("found", "word"), WRONG)
def test_a15_a_network_that_keeps_nobody_apart_is_refused_with_what_is_wrong_and_what_to_do(
    found: Network, word: str
) -> None:
    for other in (replace(found, labels={}), replace(found, endpoints_count=1)):
        assessment = assess("net", [other], LABELS, "", 0)
        assert not assessment.replace
        assert not assessment.state.usable
        assert word in assessment.state.trouble
        assert "docker network rm net" in assessment.state.trouble


@pytest.mark.parametrize(("found", "word"), WRONG)
def test_a15_one_of_our_own_that_nobody_is_in_is_replaced(found: Network, word: str) -> None:
    assert word
    assert assess("net", [found], LABELS, "", 0).replace


def test_a15_one_made_by_hand_as_it_must_be_is_taken_as_it_is() -> None:
    by_hand = replace(RIGHT, labels={}, options={ICC: "0", BRIDGE: "tmpnb-by-hand", MTU: "1400"})
    state = assess("net", [by_hand], LABELS, "", 0).state
    assert (state.trouble, state.usable, state.addresses_count) == ("", True, 65533)


@pytest.mark.parametrize(
    ("subnet", "mtu", "word"), [("10.9.0.0/24", 0, "TMPNB_NETWORK_SUBNET"), ("", 1400, "TMPNB_NETWORK_MTU")]
)
def test_a15_one_in_use_that_is_only_not_as_the_settings_say_is_gone_on_with(subnet: str, mtu: int, word: str) -> None:
    """Learners are in it, and it keeps them apart."""
    assessment = assess("net", [replace(RIGHT, endpoints_count=3)], LABELS, subnet, mtu)
    assert assessment.state.usable
    assert word in assessment.state.trouble
    assert assess("net", [RIGHT], LABELS, subnet, mtu).replace


def test_a15_two_networks_of_the_name_are_refused() -> None:
    state = assess("net", [RIGHT, replace(RIGHT, id="n2")], LABELS, "", 0).state
    assert not state.usable
    assert "2 networks" in state.trouble


def test_a15_nothing_is_started_in_a_wrong_network_until_it_is_right_and_the_host_says_so() -> None:
    engine = MemoryEngine(images={"image:1"})
    engine.networks[NET] = unlike(labels={}, options={ICC: "true"})
    world = World(pool(pool_size=2), pool("elsewhere", docker_network="bridge", pool_size=1), engine=engine)
    world.network.check()
    world.settle()
    assert {s.pool for s in world.inventory.snapshot()} == {"elsewhere"}
    assert "reach each other" in world.network.state.trouble
    assert world.capacity("light") == 0
    del engine.networks[NET]
    world.clock.now += 10.0
    world.settle()
    assert world.network.state.trouble == ""
    assert len([s for s in world.inventory.snapshot() if s.pool == "light" and s.state is State.READY]) == 2


def test_a15_a_network_that_becomes_wrong_gives_nobody_a_server_and_takes_none_from_anybody() -> None:
    world = World(pool(pool_size=2))
    world.network.check()
    world.settle()
    reply = world.send(world.request())
    assert reply is not None
    world.engine.networks[NET] = unlike(options={ICC: "true"}, labels={})
    world.clock.now += 10.0
    world.settle()
    assert world.users(State.CLAIMED) == {reply.user}
    assert world.users(State.READY) == set()
    assert world.send(world.request()) is None
    assert world.waiting() == 1, "it waits in line, for a host that can"


def test_a15_a_network_that_somebody_removed_is_made_again() -> None:
    world = World(pool(pool_size=1))
    world.network.check()
    world.engine.networks.clear()
    world.clock.now += 10.0
    world.settle()
    assert set(world.engine.networks) == {NET}


def test_while_the_engine_is_away_the_network_is_as_it_was() -> None:
    world = World()
    world.network.check()
    world.engine.down = True
    world.clock.now += 10.0
    world.network.check_again()
    assert world.network.state.usable


def test_a15_the_settings_shape_the_network() -> None:
    engine = MemoryEngine()
    ClusterNetwork(engine, NET, LABELS, "10.9.0.0/24", 1400).check()
    made = engine.networks[NET]
    assert (made.options[MTU], made.subnets) == ("1400", ("10.9.0.0/24",))
    network = ClusterNetwork(engine, NET, LABELS, "10.9.0.0/28", 1400)
    network.check()
    assert network.state.addresses_count == 13


@pytest.mark.parametrize("mtu", ["67", "65536", "big"])
def test_an_mtu_out_of_range_is_refused(mtu: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load(AgentSettings, ["--network_mtu", mtu])
    assert "TMPNB_NETWORK_MTU" in capsys.readouterr().err


@pytest.mark.parametrize("subnet", ["10.9.0.1/24", "10.9.0.0/33", "fd00::/64", "10.9", "here"])
def test_a_subnet_that_is_none_is_refused_with_what_is_accepted(
    subnet: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        load(AgentSettings, ["--network_subnet", subnet])
    told = capsys.readouterr().err
    assert "TMPNB_NETWORK_SUBNET" in told
    assert "10.99.0.0/16" in told


def test_a15_the_mtu_of_a_smaller_uplink_is_found_and_a_usual_or_larger_one_is_left_to_docker(tmp_path: Path) -> None:
    routes = tmp_path / "route"
    routes.write_text("Iface\tDestination\tGateway\ntun0\t0000FEA9\t0\neth0\t00000000\t010011AC\n")
    (tmp_path / "eth0").mkdir()
    for told, expected in (("1400", 1400), ("1500", 0), ("9001", 0), ("x", 0)):
        (tmp_path / "eth0" / "mtu").write_text(told + "\n")
        assert uplink_mtu(routes, tmp_path) == expected
    assert uplink_mtu(tmp_path / "nothing", tmp_path) == 0

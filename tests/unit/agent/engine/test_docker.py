"""Whatever answers instead of the Docker Engine: the adapter says ``EngineUnavailable``, or that a start failed."""

import logging
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agent.engine.docker import DockerEngine
from agent.engine.port import ContainerSpec
from common.errors import EngineUnavailable, StartFailed
from tests.support.odd_http import ODD, Answer, Server, odd_server, said

SPEC = ContainerSpec("name", "image:1", ("serve",), {"a": "b"}, "net", 8888, "127.0.0.1", 20000, 64 << 20, 32)


@pytest.fixture
def server() -> Iterator[Server]:
    with odd_server() as server:
        yield server


@pytest.fixture
def engine(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[DockerEngine]:
    for name in ("DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.port}")
    engine = DockerEngine("1.43", 5.0)
    yield engine
    engine.close()


Call = Callable[[DockerEngine], object]
CALLS: dict[str, Call] = {
    "info": lambda engine: engine.info(),
    "ensure_network": lambda engine: engine.ensure_network("net", {}),
    "image_id": lambda engine: engine.image_id("image:1"),
    "pull": lambda engine: engine.pull("image:1"),
    "list": lambda engine: engine.list({"a": "b"}),
    "run": lambda engine: engine.run(SPEC),
    "create": lambda engine: engine.create("image:1", "name", {}),
    "archive": lambda engine: list(engine.archive("c", "/x") or ()),
    "rename": lambda engine: engine.rename("c", "name"),
    "remove": lambda engine: engine.remove("c"),
    "log_tail": lambda engine: engine.log_tail("c", 10),
    "usage": lambda engine: engine.usage("c"),
    "watch": lambda engine: engine.watch({"a": "b"}, lambda: None, lambda _container: None),
}


@pytest.mark.parametrize("answer", ODD, ids=str)
@pytest.mark.parametrize("call", CALLS)
def test_a8_a_call_to_docker_ends_with_an_error_of_ours_whatever_the_answer_is(
    call: str, answer: Answer, server: Server, engine: DockerEngine
) -> None:
    server.say(answer)
    try:
        found = CALLS[call](engine)
    except (EngineUnavailable, StartFailed):
        return
    # A list that is none would mean that all servers are gone.
    assert call != "list" or answer.body == b"[]"
    assert call not in {"run", "create"}, found


def test_a8_an_engine_whose_version_cannot_be_read_is_away(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.port}")
    for answer in ODD:
        server.say(answer)
        with pytest.raises(EngineUnavailable):
            DockerEngine("auto", 5.0).info()


GOOD = {"Id": "c", "Names": ["/name"], "State": "running", "Labels": {"a": "b"}}
CPU = {"cpu_usage": {"total_usage": 5}, "system_cpu_usage": 10, "online_cpus": 2}


@pytest.mark.parametrize(
    ("call", "what"),
    [
        ("list", [{}]),
        ("list", [GOOD | {"Id": None}]),
        ("list", [GOOD | {"Id": 7}]),
        ("list", [GOOD | {"State": {"Running": True}}]),
        ("list", [GOOD | {"Labels": {"a": 7}}]),
        ("list", [GOOD | {"Labels": ["a=b"]}]),
        ("list", [GOOD | {"Names": [None]}]),
        ("list", [GOOD, None]),
        ("info", {"MemTotal": "a lot"}),
        ("info", {"MemTotal": 1e300}),
        ("info", {"NCPU": -1}),
        ("info", []),
        ("image_id", {}),
        ("image_id", []),
        ("image_id", {"Id": None}),
        ("list", {}),
        ("list", "c"),
        ("usage", {}),
        ("usage", {"cpu_stats": CPU, "precpu_stats": None}),
        ("usage", {"cpu_stats": {"cpu_usage": {"total_usage": math.nan}}, "precpu_stats": CPU}),
        ("usage", {"cpu_stats": CPU, "precpu_stats": CPU, "networks": {"eth0": {"tx_packets": "many"}}}),
        ("usage", {"cpu_stats": CPU | {"cpu_usage": None}, "precpu_stats": CPU}),
        ("usage", {"cpu_stats": CPU | {"online_cpus": 0, "system_cpu_usage": 20}, "precpu_stats": CPU}),
        ("ensure_network", [{}]),
        ("ensure_network", [None]),
        ("create", {}),
    ],
)
def test_a8_a_field_that_is_left_out_or_odd_is_no_answer(
    call: str, what: Any, server: Server, engine: DockerEngine
) -> None:
    server.say(said("odd", what))
    with pytest.raises(EngineUnavailable):
        CALLS[call](engine)


def test_a8_what_docker_says_of_containers_is_read(server: Server, engine: DockerEngine) -> None:
    server.say(said("good", [GOOD, GOOD | {"Labels": None, "Names": None}]))
    first, second = engine.list({"a": "b"})
    assert (first.id, first.name, first.state, first.labels) == ("c", "name", "running", {"a": "b"})
    assert (second.name, second.labels) == ("", {})


@pytest.fixture(autouse=True)
def no_warnings_of_a_daemon_without_tls(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "agent.engine.connection")

"""Every number that somebody outside can set has bounds, and what is accepted can be worked with."""

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from agent import names
from agent.commands.second_look import ActivityReader
from agent.context import Host
from agent.engine.memory import MemoryEngine
from agent.lifecycle import Phase, Server
from agent.pool.capacity import capacity
from agent.records.registry import Registry
from agent.servers.launcher import container_spec
from agent.settings import AgentSettings
from common import bounds
from common.bounds import COUNT_MAX, LATEST, LONG_S, SPEC_MAX_BYTES
from common.broker import messages
from common.broker.messages import decode
from common.errors import InvalidPool, MalformedMessage, MalformedRecord, StoreUnavailable
from common.records import base, idempotency, tokens
from common.records.base import Record
from common.records.pool_fields import DIRECTORIES_MAX
from common.records.pools import PoolHistory, PoolSpec
from common.records.servers import Activity, Claim
from common.runtime.clock import utc_now
from common.settings import CommonSettings
from common.sizes import parse_bytes
from common.store.cluster import Cluster
from common.store.memory import MemoryStore
from frontend.admin import api_models
from frontend.culler.decide import cull_forecast, decide, sources
from frontend.public import api_models as public_models
from frontend.settings import AdminSettings, CliSettings, CullerSettings, PublicSettings
from proxy.acme.settings import AcmeSettings
from proxy.settings import ProxySettings
from tests.support.keys import Keys

NOW = datetime(2026, 11, 27, tzinfo=UTC)
HERE = Host("test", "host-1", "10.0.0.1", "127.0.0.1")
KEYS = Keys("test")
CONSUL_MAX_BYTES = 512 * 1024


def defined_in(module: Any, base: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__:
            yield value


STORED = [*defined_in(base, BaseModel), *defined_in(idempotency, BaseModel), *defined_in(tokens, BaseModel)]
SENT = list(defined_in(messages, BaseModel))
SETTINGS = [
    CommonSettings, PublicSettings, AdminSettings, CullerSettings, CliSettings, AgentSettings, ProxySettings,
    AcmeSettings,
]  # fmt: skip
ASKED = [
    model
    for model in (*defined_in(public_models, BaseModel), *defined_in(api_models, BaseModel))
    if model.__name__.endswith(("Body", "Query"))
]
ALL = [*STORED, *SENT, *SETTINGS, *ASKED]


def numbers(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every place in a JSON schema that takes a number."""
    if isinstance(schema, list):
        for item in schema:
            yield from numbers(item, path)
    elif isinstance(schema, dict):
        if schema.get("type") in {"number", "integer"}:
            yield path, schema
        for key, value in schema.items():
            if key == "properties":
                for name, field in value.items():
                    yield from numbers(field, f"{path}.{name}")
            elif key not in {"examples", "default", "enum", "const"}:
                yield from numbers(value, path)


@pytest.mark.parametrize("model", ALL, ids=lambda model: str(model.__name__))
def test_a9_every_number_has_a_least_and_a_most(model: type[BaseModel]) -> None:
    if model.__name__ in {"Message", "Record"}:
        return
    for path, schema in numbers(model.model_json_schema(mode="validation")):
        fixed = "const" in schema or "enum" in schema
        assert fixed or {"minimum", "exclusiveMinimum"} & schema.keys(), f"{path}: no least"
        assert fixed or {"maximum", "exclusiveMaximum"} & schema.keys(), f"{path}: no most"


def annotations(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from annotations(part)


@pytest.mark.parametrize("model", [*STORED, *SENT], ids=lambda model: str(model.__name__))
def test_a9_every_time_has_a_zone_and_is_one_that_can_be_worked_with(model: type[BaseModel]) -> None:
    for name, field in model.model_fields.items():
        whole = field.rebuild_annotation()
        if datetime in annotations(whole):
            assert bounds._time in {getattr(part, "func", None) for part in annotations(whole)}, f"{name}: no Time"


@pytest.mark.parametrize("model", ALL, ids=lambda model: str(model.__name__))
def test_a9_infinity_and_nan_are_no_numbers(model: type[BaseModel]) -> None:
    has_floats = any(schema["type"] == "number" for _, schema in numbers(model.model_json_schema()))
    assert model.model_config.get("allow_inf_nan") is False or not has_floats or model in ASKED


def spec(**fields: Any) -> PoolSpec:
    return PoolSpec.parse({"name": "p", "image": "image:1"} | fields, "pools.toml")


REFUSED: list[tuple[str, Any]] = [
    *(
        (name, value)
        for name in ("cull_max", "cull_timeout", "unvisited_timeout_s", "start_timeout_s")
        for value in (1e12, 1e300, math.inf, -math.inf, math.nan, -1, 10**400, "1e12", "inf", "nan")
    ),
    *(("mem_limit", value) for value in (
        "999999g", "99999999999999999999", "0", "1", "5m", "6291455", "-1", "1e9", "inf", "٣g", "1.5g", "65537g",
        "9" * 5000, "512 m", "", "m",
    )),
    *(("pids_limit", value) for value in (0, 7, 2**31, 2**63, 10**30, 1e300, math.inf)),
    *(("cpu_quota", value) for value in (0, 999, 2**31, 2**63, 1e300)),
    *(("cpu_shares", value) for value in (1, 262145, 2**63)),
    *(("pool_size", value) for value in (-1, 10_001, 10**30, math.nan)),
    ("ready", 10**30), ("ready", -1),
    ("container_port", 0), ("container_port", 65536), ("user_length", 33),
    ("command", "a\0b"), ("command", "x" * 65537), ("command", "{base_path}" * 5000), ("command", ""),
    ("environment", {"": "x"}), ("environment", {"A=B": "x"}), ("environment", {"A": "x\0"}),
    ("environment", {"A\0": "x"}), ("environment", {"A B": "x"}), ("environment", {"A" * 257: "x"}),
    ("environment", {"A": "x" * 33_000}), ("environment", {f"A{i}": "" for i in range(257)}),
    ("environment", {f"A{i}": "x" * 1000 for i in range(200)}),
    ("redirect_uri", "/" + "x" * 4096), ("redirect_uri", "/a\0"),
    ("host_labels", {f"l{i}": "x" for i in range(65)}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), REFUSED, ids=lambda value: repr(value)[:30])
def test_a9_a_value_that_cannot_work_is_refused_with_the_fields_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidPool) as caught:
        spec(**{name: value})
    assert name in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("name", "value"),
    [("mem_limit", "6m"), ("mem_limit", "65536g"), ("mem_limit", "6291456"), ("cull_max", LONG_S), ("cull_max", 0)],
)
def test_a9_the_ends_of_what_is_accepted_are_accepted(name: str, value: Any) -> None:
    assert getattr(spec(**{name: value}), name) == value


def test_a9_all_fields_together_fit_into_consul() -> None:
    with pytest.raises(InvalidPool, match="all fields together"):
        spec(command="x" * 60_000, environment={f"A{i}": "y" * 1000 for i in range(40)})
    largest = spec(command="é" * 30_000, environment={f"A{i}": "y" * 500 for i in range(50)})
    history = PoolHistory(pool="p", specs=(largest,) * 5)
    assert len(history.encode()) < CONSUL_MAX_BYTES


PATHS = st.integers(1, 200).map(lambda n: "/" + "d" * n)
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "command": st.text(min_size=1, max_size=3000) | st.sampled_from(["{token}" * 2000, "é" * 40_000]),
        "mem_limit": st.integers(1, 2**50).map(str) | st.sampled_from(["6m", "64g", "65536g", "1k"]),
        "environment": st.dictionaries(st.text(max_size=30), st.text(max_size=100), max_size=20),
        "cpu_shares": st.integers(-5, 2**40),
        "cpu_quota": st.integers(-5, 2**40),
        "pids_limit": st.integers(-5, 2**40),
        "pool_size": st.integers(-5, 20_000),
        "user_length": st.integers(0, 40),
        "redirect_uri": st.text(max_size=200).map(lambda text: "/" + text),
        "cull_timeout": st.floats(),
        "cull_max": st.floats() | st.integers(),
        "unvisited_timeout_s": st.floats(),
        "start_timeout_s": st.floats(),
        "host_directories": st.lists(PATHS, max_size=DIRECTORIES_MAX + 1),
        "extra_hosts": st.lists(st.just("name:10.0.0.1"), max_size=70),
        "host_labels": st.dictionaries(st.sampled_from([f"l{i}" for i in range(80)]), st.just("x"), max_size=80),
        "static_files": st.lists(PATHS, max_size=20),
        "use_tokens": st.booleans(),
    },
)


@given(SPECS, st.floats(0, 2**40))
@settings(max_examples=400, deadline=None)
def test_a9_what_is_accepted_can_be_stored_claimed_started_and_culled(fields: dict[str, Any], age_s: float) -> None:
    try:
        pool = spec(**fields)
    except InvalidPool:
        return
    stored = pool.encode()
    assert len(stored) <= SPEC_MAX_BYTES
    assert PoolSpec.decode("k", stored) == pool
    assert PoolSpec.decode("k", stored).generation == pool.generation

    user = "a" * pool.user_length
    server = Server(
        user=user, pool="p", generation=pool.generation, container="c", port=20000, token="t" * 32, phase=Phase.READY,
        created_at=NOW,
    )  # fmt: skip
    made = container_spec(server, pool, HERE)
    assert all(len(argument.encode()) < 128 * 1024 for argument in made.command)
    assert 6 * 2**20 <= made.mem_limit_bytes < 2**63
    assert not any("\0" in text for text in (*made.command, *made.environment, *made.environment.values()))
    engine = MemoryEngine(images={"image:1"})
    assert engine.run(made)
    assert capacity(pool, 0).count >= 0
    assert names.identity(made.labels) is not None

    registry = Registry(Cluster(MemoryStore(), "test"), HERE, None, lambda: NOW)  # type: ignore[arg-type]
    claim = registry.new_claim(server, pool, "0" * 32)
    assert Claim.decode("k", claim.encode()) == claim
    later = NOW + timedelta(seconds=min(age_s, 160 * 365 * 86400))
    source = Activity(source="proxy-1", since=NOW, updated_at=later, users={user: int(NOW.timestamp())})
    for activity in ([], sources([source])):
        decide([claim], activity, ["host-1"], later)
        cull_forecast(claim, activity, ["host-1"], later)


ODD_NUMBERS = (
    "1e300",
    "-1e300",
    "1e999",
    "NaN",
    "Infinity",
    "-1",
    "1" + "0" * 400,
    "1" + "0" * 5000,
    "null",
    '"x"',
    "[]",
)
ACTIVITY = (
    '{"source": "proxy-1", "since": "2026-11-27T00:00:00Z", "updated_at": "2026-11-27T00:00:00Z", "users": {"u": 5}}'
)


@pytest.mark.parametrize("number", ODD_NUMBERS, ids=lambda number: str(number)[:12])
@pytest.mark.parametrize("place", ['"u": 5', '"since": "2026-11-27T00:00:00Z"', '"updated_at": "2026-11-27T00:00:00Z"'])
def test_a9_an_activity_record_with_an_odd_time_is_malformed_and_nothing_worse(place: str, number: str) -> None:
    name = place.partition(":")[0]
    with pytest.raises(MalformedRecord) as caught:
        Activity.decode("k", ACTIVITY.replace(place, f"{name}: {number}").encode())
    assert len(str(caught.value)) < 1000


def test_a9_while_activity_cannot_be_read_an_agent_says_that_it_cannot_look() -> None:
    store = MemoryStore()
    store.put(KEYS.activity_of("proxy-1", 0), ACTIVITY.replace("5}", "1e300}").encode())
    reader = ActivityReader(Cluster(store, "test"))
    with pytest.raises(StoreUnavailable):
        reader.last("u")
    store.put(KEYS.activity_of("proxy-1", 0), ACTIVITY.encode())
    assert reader.last("u") == 5


JSONS = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20) | st.just("2026-11-27T00:00:00"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
MODELS = [model for model in STORED if issubclass(model, Record) and model is not Record]


@given(st.sampled_from(MODELS), st.data())
@settings(max_examples=400, deadline=None)
def test_a9_a_record_is_read_or_malformed_whatever_it_holds(model: type[Record], data: st.DataObject) -> None:
    fields = {name: data.draw(JSONS) for name in model.model_fields if data.draw(st.booleans())}
    try:
        model.decode("k", json.dumps(fields).encode()).encode()
    except MalformedRecord:
        return


@given(st.sampled_from([model for model in SENT if "type" in model.model_fields]), st.data())
@settings(max_examples=400, deadline=None)
def test_a9_a_message_is_read_or_malformed_whatever_it_holds(model: type[BaseModel], data: st.DataObject) -> None:
    fields = {name: data.draw(JSONS) for name in model.model_fields if data.draw(st.booleans())}
    fields["type"] = model.model_fields["type"].default
    try:
        body = decode(json.dumps(fields).encode()).encode()
    except MalformedMessage:
        return
    json.loads(body, parse_constant=lambda name: pytest.fail(f"{name}, which no browser reads"))


@pytest.mark.parametrize("number", ["NaN", "1e999", "1e300", "1" + "0" * 400, "[[1, NaN]]", '{"a": Infinity}'])
def test_a9_an_event_with_a_number_that_no_page_can_read_is_malformed(number: str) -> None:
    body = '{"type": "event", "sent_at": "2026-11-27T00:00:00Z", "name": "a.b", "detail": {"x": %s}}'
    assert decode((body % "1.5").encode())
    with pytest.raises(MalformedMessage):
        decode((body % number).encode())


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "2026-11-27T00:00:00", LATEST])
def test_a9_a_time_without_a_zone_or_out_of_the_world_is_refused(moment: Any) -> None:
    fields = {"user": "u", "host": "h", "pool": "p", "request_id": "r", "idle_limit_s": 1}
    with pytest.raises(ValidationError):
        Claim.model_validate(fields | {"claimed_at": moment})
    assert Claim.model_validate(fields | {"claimed_at": utc_now()})


def test_a9_a_size_is_a_number_that_somebody_can_mean() -> None:
    assert parse_bytes("512m") == 512 * 2**20
    for text in ("9" * 19, "9" * 5000, "٣", "1_000", "+5", "0x10", "1e3", "nan", "inf"):
        with pytest.raises(ValueError, match="positive size"):
            parse_bytes(text)
    assert COUNT_MAX == 2**53

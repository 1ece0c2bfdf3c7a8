from datetime import UTC, datetime

import pytest

from common.broker.messages import MAX_BYTES, CullRequest, SpawnRequest, decode
from common.errors import InvalidPool, MalformedMessage, MalformedRecord
from common.records.pools import PoolSpec
from common.records.servers import Route

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def route(**changes: object) -> Route:
    fields: dict[str, object] = {
        "user": "u" * 12,
        "host": "host-1",
        "target": "10.0.0.1:20001",
        "container": "c" * 64,
        "pool": "default",
        "generation": "g",
        "created_at": NOW,
    }
    return Route.model_validate(fields | changes)


def test_a_record_survives_its_encoding() -> None:
    assert Route.decode("k", route().encode()) == route()


def test_a_record_is_readable_in_consuls_ui() -> None:
    assert b'\n  "target": "10.0.0.1:20001"' in route().encode()


@pytest.mark.parametrize(
    ("target", "address", "port"), [("10.0.0.1:80", "10.0.0.1", 80), ("[fd00::1]:80", "fd00::1", 80)]
)
def test_a_target_has_an_address_and_a_port(target: str, address: str, port: int) -> None:
    assert (route(target=target).address, route(target=target).port) == (address, port)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"", "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"[]", "object"),
        (b"{}", "user"),
        (route().encode().replace(b'"v": 1', b'"v": 2'), "v: "),
        (route().encode().replace(b"10.0.0.1:20001", b"10.0.0.1:20001\\nset"), "target"),
    ],
)
def test_bytes_that_are_no_record_name_the_key_and_the_field(value: bytes, said: str) -> None:
    with pytest.raises(MalformedRecord, match=r"^tmpnb/main/routes/x: ") as caught:
        Route.decode("tmpnb/main/routes/x", value)
    assert said in str(caught.value)


def test_a_field_of_a_later_minor_version_is_ignored() -> None:
    assert Route.decode("k", route().encode().replace(b'"v": 1', b'"v": 1, "new": true')) == route()


def pool(**changes: object) -> PoolSpec:
    return PoolSpec.parse({"name": "default", "image": "img"} | changes, "pools.toml")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pool_sise": 3}, "unknown field 'pool_sise'"),
        ({"pool_size": "many"}, "pool_size: "),
        ({"pool_size": -1}, "pool_size: "),
        ({"mem_limit": "lots"}, "mem_limit: "),
        ({"mem_limit": "0"}, "mem_limit: "),
        ({"ready": 20, "pool_size": 10}, "ready (20) may not exceed pool_size (10)"),
        ({"name": "Default"}, "name: "),
        ({"name": "a/b"}, "name: "),
        ({"image": "${NOWHERE}"}, "image: "),
        ({"image": "img; rm -rf"}, "image: "),
        ({"redirect_uri": "https://elsewhere"}, "redirect_uri: "),
        ({"redirect_uri": "//elsewhere"}, "redirect_uri: "),
        ({"command": ""}, "command: "),
        ({"user_length": 4}, "user_length: "),
        ({"cpu_quota": 1}, "cpu_quota: "),
        ({"environment": ["A=1"]}, "environment: "),
    ],
)
def test_a_wrong_pool_names_the_file_the_field_and_the_value(changes: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidPool, match=r"^pools.toml: ") as caught:
        pool(**changes)
    assert said in str(caught.value)


@pytest.mark.parametrize(("given", "kept"), [
    ("", ""), ("/", ""), ("api/status", "api/status"), ("/_stcore/health", "_stcore/health"), ("x?a=..&b", "x?a=..&b"),
])  # fmt: skip
def test_c2_a_path_to_probe_is_below_the_server_s_own(given: str, kept: str) -> None:
    assert pool(probe_path=given).probe_path == kept


@pytest.mark.parametrize(
    "given", ["../x", "a/../../x", "a/%2e%2E/x", ".", "//host/x", "a b", "a#b", "a\nb", "\u00e9", "x" * 1025, 7]
)
def test_c2_a_path_to_probe_that_leads_elsewhere_is_refused(given: object) -> None:
    with pytest.raises(InvalidPool, match="probe_path"):
        pool(probe_path=given)


@pytest.mark.parametrize(("given", "kept"), [
    ("", ()), ("events/, some-ext/status", ("events/", "some-ext/status")), (["/a", "b/"], ("a", "b/")),
])  # fmt: skip
def test_c3_background_paths_are_a_list_or_comma_separated(given: object, kept: tuple[str, ...]) -> None:
    assert pool(background_paths=given).background_paths == kept


@pytest.mark.parametrize("given", ["/", ["a?b"], ["../x"], ["a b"], ["x" * 201], ["a"] * 21, [7], 7, [""]])
def test_c3_background_paths_that_name_everything_or_nothing_are_refused(given: object) -> None:
    with pytest.raises(InvalidPool, match="background_paths"):
        pool(background_paths=given)


def test_c3_background_paths_make_no_generation() -> None:
    assert pool(background_paths="events/").generation == pool().generation


def test_c2_a_path_to_probe_makes_a_generation_only_where_it_is_used() -> None:
    assert pool(probe_path="").generation == pool().generation != pool(probe_path="api/status").generation


def test_registry_ports_and_digests_are_image_names() -> None:
    assert pool(image="registry:5000/team/img:1.0@sha256:" + "0" * 64).image


def test_a_generation_follows_what_shapes_a_container_and_nothing_else() -> None:
    assert pool().generation == pool(pool_size=99, cull_timeout=1, redirect_uri="/lab").generation
    assert pool().generation != pool(image="other").generation
    assert pool().generation != pool(environment={"A": "1"}).generation


def test_all_of_a_pool_is_kept_ready_unless_it_says_otherwise() -> None:
    assert pool(pool_size=7).ready_target == 7
    assert pool(pool_size=7, ready=2).ready_target == 2


def test_a_message_survives_its_encoding() -> None:
    message = SpawnRequest(sent_at=NOW, request_id="0" * 32, pool="default", window_s=2.0, path="lab/tree/a?b=1")
    assert decode(message.encode()) == message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{",
        b"\x00" * 10,
        b'{"type": "spawn"}',
        b'{"type": "what", "sent_at": "2026-01-01T00:00:00Z"}',
        CullRequest(sent_at=NOW, user="u", reason="idle").encode().replace(b'"v":1', b'"v":7'),
        b" " * (MAX_BYTES + 1),
    ],
)
def test_bytes_that_are_no_message_are_malformed(body: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode(body)

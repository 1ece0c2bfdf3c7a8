"""The API answers as its OpenAPI document says, whatever it is asked: schemathesis tries it."""

from typing import Any

import pytest

from common.records.hosts import HostState, PoolStatus
from tests.support.api_check import CHECKS, check, is_beyond_schema, serving
from tests.unit.frontend.fakes import (
    ADMIN_TOKEN,
    Admin,
    FakeCluster,
    put_claim,
    put_host,
    put_pool,
    put_route,
    settings,
    user_id,
)


@pytest.mark.parametrize("token", [None, "let-me-in"])
def test_the_public_api_answers_as_its_document_says(token: str | None) -> None:
    cluster = FakeCluster(settings(API_AUTH_TOKEN=token) if token else settings())
    cluster.parts.tokens.load()
    with serving(cluster.client.application) as url:
        found = check(url, token, max_examples=10)
    assert found.problems == []
    assert set(found.checks) >= (CHECKS | {"ignored_auth"} if token else CHECKS)
    assert found.untried == set()


def test_a_full_cluster_answers_as_its_document_says() -> None:
    cluster = FakeCluster(settings(wait_max_s=0.06))
    cluster.agent.serving = False
    with serving(cluster.client.application) as url:
        found = check(url, None, max_examples=15)
    assert found.problems == []
    assert cluster.tickets()


def test_the_admin_api_answers_as_its_document_says() -> None:
    admin = Admin()
    admin.app.extensions["tmpnb"].tokens.load()
    put_pool(admin.store, "default")
    put_host(admin.store, "host-1", state=HostState.DRAINING, default=PoolStatus(capacity=4, ready=2))
    for number in range(5):
        put_route(admin.store, user_id(number))
    put_claim(admin.store, user_id(1))
    with serving(admin.app) as url:
        found = check(url, "secret", max_examples=10)
    assert found.problems == []
    assert set(found.checks) >= CHECKS | {"ignored_auth"}
    assert found.untried == set()


@pytest.mark.parametrize(
    ("body", "is_beyond"),
    [
        ({"environment": {"": "x"}}, True),
        ({"background_paths": ["?"]}, True),
        ({"mem_limit": "1"}, True),
        ({"mem_limit": "900g"}, True),
        ({"ready": 9, "pool_size": 1}, True),
        ({"host_network": True, "docker_network": "n"}, True),
        ({"environment": {"A": "x" * 30_000, "B": "x" * 30_000}, "command": "x" * 60_000}, True),
        ({"name": "b"}, True),
        ({"pool_size": -1}, False),
        ({"placement": "x"}, False),
        ({"environment": {"": "x"}, "pool_size": -1}, False),
        ({"nope": 1}, False),
        ({"image": "--help"}, False),
        ({"command": 7}, False),
    ],
)
def test_only_what_no_schema_can_say_excuses_a_pool_that_is_refused(body: dict[str, Any], is_beyond: bool) -> None:
    admin = Admin()
    put_host(admin.store, "host-1", memory_bytes=2**34)
    path = "/api/v1/pools/a"
    answer = admin.client.put(path, headers=ADMIN_TOKEN, json={"image": "x:1"} | body)
    assert answer.status_code == 400
    assert is_beyond_schema("PUT /api/v1/pools/{pool}", answer.data) is is_beyond
    assert not is_beyond_schema("POST /api/v1/images", answer.data)


@pytest.mark.parametrize("model", ["HostProgress", "Failure"])
def test_what_an_answer_always_has_is_required_in_the_document(model: str) -> None:
    """Or programs that are generated from it take a field for one that may be missing."""
    document = Admin().client.get("/api/v1/openapi.json").json
    assert document is not None
    schema = document["components"]["schemas"][model]
    assert set(schema["required"]) == set(schema["properties"])

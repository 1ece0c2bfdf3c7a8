"""Scoped tokens: what each opens, how one stops working, and that nobody sees or waits for anything because of them."""

import logging
from datetime import timedelta

import pytest
from flask.testing import FlaskClient

from common.ids import digest
from common.records.tokens import Scope, Token, new_token, split
from tests.support.waiting import wait_until
from tests.unit.frontend.fakes import KEYS, START, Admin, FakeCluster, settings, user_id


def put_token(cluster: FakeCluster | Admin, scope: Scope, name: str = "", expires_s: float | None = None) -> str:
    """A token that the application knows; what its holder has of it."""
    expires_at = None if expires_s is None else START + timedelta(seconds=expires_s)
    token, record = new_token(name or f"a-{scope.value}", scope, START, expires_at)
    cluster.store.put(KEYS.token(record.name), record.encode())
    tokens = cluster.parts.tokens if isinstance(cluster, FakeCluster) else cluster.app.extensions["tmpnb"].tokens
    tokens.load()
    return token


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def closed() -> FakeCluster:
    cluster = FakeCluster(settings(API_AUTH_TOKEN="let-me-in"))
    cluster.parts.tokens.load()
    return cluster


@pytest.fixture
def admin() -> Admin:
    return Admin()


def test_a_token_is_kept_as_a_hash_of_its_256_random_bits() -> None:
    token, record = new_token("lms", Scope.SPAWN, START)
    assert split(token) is not None
    name, secret = split(token) or ("", "")
    assert (name, record.digest) == ("lms", digest(secret))
    assert len(secret) == 43
    assert secret not in record.encode().decode()
    assert record.opens_with(secret, START)
    assert not record.opens_with(secret + "x", START)
    assert len({new_token("lms", Scope.SPAWN, START)[0] for _ in range(100)}) == 100


@pytest.mark.parametrize("text", ["", "tmpnb", "tmpnb_x", "other_x_y", "let-me-in"])
def test_what_is_no_token_of_ours_is_not_taken_for_one(text: str) -> None:
    assert split(text) is None


@pytest.mark.parametrize("scheme", ["token", "Token", "Bearer", "bearer"])
def test_both_schemes_are_accepted_on_addresses_of_tmpnb(closed: FakeCluster, scheme: str) -> None:
    token = put_token(closed, Scope.SPAWN)
    assert closed.client.post("/api/spawn", headers={"Authorization": f"{scheme} {token}"}).status_code == 200


@pytest.mark.parametrize(
    ("scope", "spawn", "stats"), [(Scope.SPAWN, 200, 200), (Scope.READ, 403, 200), (Scope.ADMIN, 200, 200)]
)
def test_a_scope_opens_what_it_is_for_in_the_public_api(
    closed: FakeCluster, scope: Scope, spawn: int, stats: int
) -> None:
    headers = bearer(put_token(closed, scope))
    refused = closed.client.post("/api/spawn", headers=headers)
    assert refused.status_code == spawn
    assert closed.client.get("/api/stats", headers=headers).status_code == stats
    if spawn == 403:
        assert refused.json == {"status": "forbidden", "message": "the token is not for this"}


@pytest.mark.parametrize(
    ("scope", "look", "act"), [(Scope.SPAWN, 403, 403), (Scope.READ, 200, 403), (Scope.ADMIN, 200, 200)]
)
def test_a_scope_opens_what_it_is_for_in_the_admin_application(admin: Admin, scope: Scope, look: int, act: int) -> None:
    headers = bearer(put_token(admin, scope))
    assert admin.client.get("/api/v1/hosts", headers=headers).status_code == look
    assert admin.client.delete("/api/pool", headers=headers).status_code == act


def test_an_expired_token_is_no_token(closed: FakeCluster) -> None:
    headers = bearer(put_token(closed, Scope.SPAWN, expires_s=60))
    assert closed.client.post("/api/spawn", headers=headers).status_code == 200
    closed.clock.advance(60)
    assert closed.client.post("/api/spawn", headers=headers).status_code == 403


def test_a_token_of_the_same_name_with_another_secret_is_no_token(closed: FakeCluster) -> None:
    put_token(closed, Scope.SPAWN, "lms")
    other, _ = new_token("lms", Scope.SPAWN, START)
    assert closed.client.post("/api/spawn", headers=bearer(other)).status_code == 403


def test_a_revoked_token_stops_working_by_itself_and_a_new_one_begins(closed: FakeCluster) -> None:
    closed.parts.tokens.start()
    token, record = new_token("lms", Scope.SPAWN, START)

    def status() -> int:
        return closed.client.post("/api/spawn", headers=bearer(token)).status_code

    assert status() == 403
    closed.store.put(KEYS.token("lms"), record.encode())
    wait_until(lambda: status() == 200, "the new token to work")
    closed.store.delete(KEYS.token("lms"))
    wait_until(lambda: status() == 403, "the revoked token to stop working")
    closed.parts.tokens.stop()


def test_tokens_go_on_working_while_consul_is_away(closed: FakeCluster) -> None:
    headers = bearer(put_token(closed, Scope.SPAWN))
    closed.parts.tokens.start()
    closed.store.outage(True)
    assert closed.client.post("/api/spawn", headers=headers, json={"pool": "nope"}).status_code == 404
    assert closed.client.post("/api/spawn", headers=bearer("tmpnb_no_one")).status_code == 403
    closed.store.outage(False)
    closed.parts.tokens.stop()


def test_before_consul_has_told_the_tokens_nobody_is_turned_away_for_good() -> None:
    cluster = FakeCluster(settings(API_AUTH_TOKEN="let-me-in"))
    token, _ = new_token("lms", Scope.SPAWN, START)
    assert cluster.client.post("/api/spawn", headers=bearer(token)).status_code == 503
    assert cluster.client.post("/api/spawn", headers=bearer("let-me-in")).status_code == 200


def test_checking_a_token_asks_no_store(closed: FakeCluster) -> None:
    headers = bearer(put_token(closed, Scope.SPAWN))
    asked: list[str] = []
    for name in ("get", "list", "watch"):
        setattr(closed.store, name, lambda *_: asked.append("asked"))
    assert closed.client.post("/api/spawn", headers=headers).status_code == 200
    assert closed.client.post("/api/spawn", headers=bearer("tmpnb_no_one")).status_code == 403
    assert asked == []


def test_an_open_api_stays_open_but_a_bad_token_of_ours_is_refused(browser: FlaskClient, cluster: FakeCluster) -> None:
    token = put_token(cluster, Scope.READ)
    assert browser.post("/api/spawn").status_code == 200
    assert browser.post("/api/spawn", headers=bearer("something else, as tmpnb did not mind")).status_code == 200
    assert browser.post("/api/spawn", headers=bearer("tmpnb_no_one")).status_code == 403
    assert browser.post("/api/spawn", headers=bearer(token)).status_code == 403
    assert browser.get(f"/user/{user_id(9)}/api", headers=bearer("a server's own")).status_code == 404


def test_a_malformed_record_is_nobodys_token(closed: FakeCluster) -> None:
    closed.store.put(KEYS.token("lms"), b"{")
    closed.parts.tokens.load()
    assert closed.client.post("/api/spawn", headers=bearer("tmpnb_lms_x")).status_code == 403


def test_the_log_holds_the_tokens_name_and_never_the_token(
    closed: FakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    token = put_token(closed, Scope.READ, "grafana")
    with caplog.at_level(logging.DEBUG):
        closed.client.get("/api/stats", headers=bearer(token))
        closed.client.post("/api/spawn", headers=bearer(token))
        closed.client.post("/api/spawn", headers=bearer(token + "x"))
    lines = [vars(record) for record in caplog.records if record.message == "request"]
    assert [line.get("token_name") for line in lines] == ["grafana", "grafana", None]
    assert token.removeprefix("tmpnb_grafana_") not in str([vars(record) for record in caplog.records])


def test_records_refuse_what_is_no_token() -> None:
    with pytest.raises(ValueError, match="digest"):
        Token(name="x", scope=Scope.READ, digest="", created_at=START)

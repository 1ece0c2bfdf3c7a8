"""Wrong tokens: whoever guesses waits, nobody else does; and secrets that could be guessed are refused at the start."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from common.records.tokens import Scope, new_token
from common.settings import guessable, load
from frontend.http.auth import GUESSES
from frontend.http.guess_throttle import Throttle
from frontend.http.guesses import Guesses, client_of
from frontend.settings import AdminSettings, CullerSettings, PublicSettings
from tests.unit.frontend.admin.test_page import Desk
from tests.unit.frontend.fakes import START, Clock, FakeCluster, settings

FREE_LOGINS, FREE = AdminSettings().wrong_logins_max, settings().wrong_tokens_max

ROOT = Path(__file__).parents[4]
KNOWN = "tmpnb-operator-main-known"


class Town:
    """The admin application, and browsers at several addresses. ``where`` None: one address for all."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.desk.parts.logins._clock = self.desk.clock.monotonic

    def browser(self) -> Any:
        return self.desk.app.test_client()

    def log_in(self, browser: Any, token: str, address: str = "192.0.2.1") -> int:
        answer = browser.post("/login", data={"token": token}, environ_base={"REMOTE_ADDR": address})
        return int(answer.status_code)


@pytest.fixture
def town() -> Town:
    return Town()


def test_a14_who_guesses_at_the_login_waits_and_other_addresses_do_not(town: Town) -> None:
    guesser = town.browser()
    assert [town.log_in(guesser, f"guess-{n}") for n in range(10)] == [403] * FREE_LOGINS + [429] * (10 - FREE_LOGINS)
    assert town.log_in(town.browser(), "secret") == 429, "nor from another browser there"
    assert town.log_in(town.browser(), "secret", "192.0.2.2") == 303


def test_a14_an_operator_who_was_in_before_is_not_locked_out_by_somebody_at_the_same_address(town: Town) -> None:
    """As behind Docker's gateway, where all visitors have one address."""
    mine, guesser = town.browser(), town.browser()
    assert town.log_in(mine, "secret") == 303
    mine.post("/logout")
    for number in range(50):
        town.log_in(guesser, f"guess-{number}")
    assert town.log_in(guesser, "secret") == 429
    assert town.log_in(mine, "secret") == 303
    # The browser's own errors count for itself, and not for the address.
    assert [town.log_in(mine, "wrong") for _ in range(5)] == [403] * 3 + [429] * 2


def test_a14_what_a_browser_is_known_by_opens_nothing_and_cannot_be_made_up(town: Town) -> None:
    mine, other = town.browser(), town.browser()
    town.log_in(mine, "secret")
    cookie = mine.get_cookie(KNOWN, path="/login")
    assert cookie is not None
    other.set_cookie(KNOWN, cookie.value, path="/login")
    assert other.get("/api/v1/hosts", headers={"Cookie": f"{KNOWN}={cookie.value}"}).status_code == 401
    assert other.get("/api/v1/hosts", headers={"Cookie": f"tmpnb-operator-main={cookie.value}"}).status_code == 401
    forger = town.browser()
    for number in range(FREE_LOGINS + 1):
        forger.set_cookie(KNOWN, f"made-up-{number}", path="/login")
        last = town.log_in(forger, "wrong")
    assert last == 429, "a made-up one is the address's"


def test_a14_a_token_of_ours_is_always_looked_at(town: Town) -> None:
    text = town.desk.token("anna", Scope.READ)
    guesser = town.browser()
    for number in range(20):
        town.log_in(guesser, f"guess-{number}")
    assert town.log_in(town.browser(), text) == 303
    assert town.log_in(town.browser(), text[:-1] + "x") == 429


def test_a14_who_has_a_token_of_ours_guesses_no_faster_with_it(town: Town) -> None:
    text = town.desk.token("anna", Scope.READ)
    told = []
    for number in range(20):
        browser = town.browser()
        assert town.log_in(browser, text) == 303
        told.append(town.log_in(browser, f"guess-{number}"))
    assert told == [403] * FREE_LOGINS + [429] * (20 - FREE_LOGINS)


def test_a14_the_wait_at_the_login_ends(town: Town) -> None:
    guesser = town.browser()
    for number in range(FREE_LOGINS):
        town.log_in(guesser, f"guess-{number}")
    assert town.log_in(guesser, "secret") == 429
    town.desk.clock.advance(3)
    assert town.log_in(guesser, "secret") == 303


@pytest.mark.parametrize("kind", ["admin", "public"])
def test_a14_a_program_that_guesses_is_told_to_wait_and_others_are_served(kind: str) -> None:
    clock = Clock()
    if kind == "admin":
        desk = Desk(ADMIN_AUTH_TOKEN="9f27c1d84ab60e35")
        app, path, refused = desk.app, "/api/v1/hosts", 401
    else:
        cluster = FakeCluster(settings(API_AUTH_TOKEN="9f27c1d84ab60e35"), clock)
        app, path, refused = cluster.client.application, "/api/stats", 403
    app.extensions[GUESSES] = Guesses(settings(), clock.monotonic)
    client = app.test_client()

    def ask(token: str, address: str) -> Any:
        headers = {"Authorization": f"token {token}"}
        if kind == "public":
            return client.get(path, headers=headers | {"X-Forwarded-For": f"10.9.9.9, {address}"})
        headers["X-Forwarded-For"] = "203.0.113.200"  # nobody is asked to believe it there
        return client.get(path, headers=headers, environ_base={"REMOTE_ADDR": address})

    assert ask("9f27c1d84ab60e35", "192.0.2.1").status_code == 200
    assert {ask(f"guess-{n}", "192.0.2.1").status_code for n in range(FREE)} == {refused}
    held = ask("guess", "192.0.2.1")
    assert held.status_code == 429
    assert int(held.headers["Retry-After"]) >= 1
    assert held.json["status"] == "too many wrong tokens"
    assert ask("9f27c1d84ab60e35", "192.0.2.1").status_code == 200, "whoever had it there before"
    assert ask("9f27c1d84ab60e35", "192.0.2.2").status_code == 200
    assert {ask(f"guess-{n}", "192.0.2.3").status_code for n in range(FREE)} == {refused}
    assert ask("9f27c1d84ab60e35", "192.0.2.3").status_code == 429, "the first time it is seen there"
    clock.advance(60)
    assert ask("9f27c1d84ab60e35", "192.0.2.3").status_code == 200


def test_a14_a_revoked_token_that_is_sent_over_and_over_holds_up_nobody() -> None:
    desk = Desk(ADMIN_AUTH_TOKEN="9f27c1d84ab60e35")
    client = desk.app.test_client()
    old, _ = new_token("anna", Scope.READ, START)
    fresh = desk.token("otto", Scope.READ)
    told = [client.get("/api/v1/hosts", headers={"Authorization": f"Bearer {old}"}).status_code for _ in range(120)]
    assert told == [401] * FREE + [429] * (120 - FREE)
    for token in (fresh, "9f27c1d84ab60e35"):
        assert client.get("/api/v1/hosts", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_a14_what_is_remembered_is_bounded() -> None:
    clock = Clock()
    guesses = Guesses(settings(wrong_tokens_addresses_max=50, right_tokens_max=100), clock.monotonic)
    for number in range(200):
        guesses.right(f"10.0.{number % 256}.1", f"token-{number}")
        guesses.wrong(f"address-{number}", f"token-{number}")
    assert len(guesses._known) == 100
    assert len(guesses._throttle._failures) == 50


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"), (" 192.0.2.7", "192.0.2.7"), ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"), ("[2001:db8:1:2::9]", "2001:db8:1:2::/64"),
        (None, "unknown"), ("", "unknown"), ("x" * 10_000, "unknown"),
    ],
)  # fmt: skip
def test_a14_a_client_is_an_address_or_the_network_that_one_machine_has(address: str | None, client: str) -> None:
    assert client_of(address) == client


def test_the_wait_of_one_client_is_not_anothers() -> None:
    throttle = Throttle(2, settings(), Clock().monotonic)
    throttle.failed("a")
    assert throttle.pause_s("a") == 0
    throttle.failed("a")
    assert throttle.pause_s("a") == 2
    assert throttle.pause_s("b") == 0


EASY = ("short", "12345678", "a" * 16, "ab" * 20, "passwordpassword", "hunter2hunter2hunter2", "111122223333444455")
PLACES = (
    (AdminSettings, "ADMIN_AUTH_TOKEN"),
    (PublicSettings, "API_AUTH_TOKEN"),
    (PublicSettings, "TMPNB_SECRET_KEY"),
    (PublicSettings, "TMPNB_RABBITMQ_PASSWORD"),
    (CullerSettings, "TMPNB_RABBITMQ_PASSWORD"),
)


@pytest.mark.parametrize("secret", EASY)
@pytest.mark.parametrize(("model", "variable"), PLACES)
def test_a14_a_secret_that_can_be_guessed_is_refused_at_the_start_by_name_and_not_shown(
    model: Any, variable: str, secret: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TMPNB_SECRET_KEY", "9f27c1d84ab60e35")
    monkeypatch.setenv(variable, secret)
    with pytest.raises(SystemExit) as ended:
        load(model)
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert variable in said
    assert "16 characters" in said
    assert secret not in said
    assert said.count("\n") == 1


def test_a14_good_secrets_are_accepted() -> None:
    assert not any(map(guessable, ("9f27c1d84ab60e35", "correct horse battery staple", "s3cret'$(touch x)\"word")))


@pytest.mark.parametrize(
    ("secret", "accepted"), [("short", False), ("a" * 30, False), ("", False), ("9f27c1d84ab60e35", True)]
)
def test_a14_make_up_says_so_first(secret: str, accepted: bool) -> None:
    script = '. deploy/lib.sh; check_secret ADMIN_AUTH_TOKEN "$1"'
    done = subprocess.run(
        ["bash", "-c", script, "check", secret], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode == 0) == accepted
    assert accepted or "ADMIN_AUTH_TOKEN" in done.stderr
    assert not secret or secret not in done.stderr

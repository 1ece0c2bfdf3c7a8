"""The pages by which the owner of a seat lets somebody in, and the page that a link leads to."""

import re
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from common.ids import digest, is_seat_key, new_seat_key, server_token_of
from common.urls import seat_key_of
from tests.unit.frontend.fakes import BROWSER, Clock, FakeCluster, put_claim, settings, user_id

ANNA = user_id(7)
HERE = {
    "Host": "lab.example",
    "Origin": "http://lab.example",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Site": "same-origin",
}


class Owner:
    """Anna, in her browser."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster, self.key = cluster, new_seat_key()
        put_claim(cluster.store, ANNA, seat=digest(self.key), token_digest=digest(server_token_of(self.key)))
        self.browser = cluster.browser()
        know(self.browser, ANNA, self.key)

    def look(self) -> TestResponse:
        return self.browser.get("/seat", headers=BROWSER | {"Host": "lab.example"})

    def post(self, headers: dict[str, str] = HERE, **fields: str) -> TestResponse:
        form = {"form": form_of(self.look())} | fields
        return self.browser.post("/seat", data=form, headers=BROWSER | headers)

    def link(self, note: str = "") -> str:
        """The path of a new link."""
        answer = self.post(do="link", note=note)
        found = re.search(r'value="http://lab\.example(/link/[0-9a-f]{32})"', answer.text)
        assert found is not None, answer.text
        return found[1]


def know(browser: FlaskClient, user: str, key: str) -> None:
    with browser.session_transaction(base_url="http://lab.example") as session:
        session.update(user=user, key=key)


def form_of(page: TestResponse) -> str:
    found = re.search(r'name="form" value="([0-9a-f]+)"', page.text)
    return found[1] if found else ""


def open_link(cluster: FakeCluster, path: str, headers: dict[str, str] = HERE) -> TestResponse:
    return cluster.browser().post(path, headers=BROWSER | headers)


@pytest.fixture
def owner(cluster: FakeCluster) -> Owner:
    return Owner(cluster)


def test_a_link_is_shown_once_and_opens_the_server_in_a_second_browser(owner: Owner) -> None:
    link = owner.link("Bert")
    assert link not in owner.look().text
    friend = owner.cluster.browser()
    page = friend.get(link, headers=BROWSER)
    assert (page.status_code, "shared with you" in page.text) == (200, True)
    answer = friend.post(link, headers=BROWSER | HERE)
    assert answer.status_code == 303
    place = answer.headers["Location"]
    key = seat_key_of(place)
    assert place == f"/user/{ANNA}/~{key}/lab?token={server_token_of(owner.key)}"
    assert is_seat_key(key)
    assert key != owner.key
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert "Bert</b> in for less than a minute" in owner.look().text


def test_looking_at_a_link_does_not_use_it_up(owner: Owner) -> None:
    link = owner.link()
    preview = {"User-Agent": "Slackbot-LinkExpanding 1.0", "Accept": "*/*"}
    for ask in (owner.cluster.browser().get, owner.cluster.browser().head):
        for headers in (BROWSER, preview, BROWSER | {"Sec-Purpose": "prefetch"}):
            answer = ask(link, headers=headers)
            assert answer.status_code == 200
            assert "Set-Cookie" not in answer.headers
    assert open_link(owner.cluster, link).status_code == 303


def test_a_link_that_was_opened_or_never_made_says_so(owner: Owner) -> None:
    link = owner.link()
    open_link(owner.cluster, link)
    for path in (link, "/link/" + "0" * 32, "/link/x"):
        for answer in (open_link(owner.cluster, path), owner.cluster.browser().get(path, headers=BROWSER)):
            assert answer.status_code == 404
            assert "opens nothing" in answer.text


def test_a_link_that_has_expired_says_so(owner: Owner) -> None:
    link = owner.link()
    owner.cluster.clock.advance(3600)
    for answer in (open_link(owner.cluster, link), owner.cluster.browser().get(link, headers=BROWSER)):
        assert answer.status_code == 410
        assert "expired" in answer.text


def test_a_guest_who_has_a_server_is_not_led_to_somebody_else_s_by_the_start_page(owner: Owner) -> None:
    friend = owner.cluster.browser()
    own = friend.get("/spawn?tmpnb-start=1", headers=BROWSER).headers["Location"].split("/")[2]
    friend.post(owner.link(), headers=BROWSER | HERE)
    assert friend.get("/spawn", headers=BROWSER).headers["Location"].startswith(f"/user/{own}/")


def test_a_guest_without_a_server_gets_one_of_their_own_later(owner: Owner) -> None:
    friend = owner.cluster.browser()
    friend.post(owner.link(), headers=BROWSER | HERE)
    assert "Return to your server" not in friend.get("/", headers=BROWSER).text
    assert friend.get("/seat", headers=BROWSER).status_code == 403, "guests let nobody in"


def test_the_owner_does_not_use_up_the_link_that_was_to_be_sent(owner: Owner) -> None:
    link = owner.link()
    assert "for somebody else" in owner.browser.get(link, headers=BROWSER | {"Host": "lab.example"}).text
    assert owner.browser.post(link, headers=BROWSER | HERE).headers["Location"] == link
    assert open_link(owner.cluster, link).status_code == 303


def test_guests_and_links_are_listed_and_shut_out_one_by_one_or_all(owner: Owner) -> None:
    open_link(owner.cluster, owner.link("Bert"))
    unused, third = owner.link("Carl"), owner.link("Dora")
    page = owner.look().text
    assert "Carl</b> not opened yet, good for 1 hour" in page
    guests = re.findall(r'name="guest" value="([0-9a-f]{16})"', page)
    assert len(guests) == 3
    answer = owner.post(do="revoke", guest=guests[1])
    assert (answer.status_code, answer.headers["Location"]) == (303, "/seat")
    assert "Carl" not in owner.look().text
    assert open_link(owner.cluster, unused).status_code == 404
    owner.post(do="revoke all")
    assert "Who may come in" not in owner.look().text
    assert open_link(owner.cluster, third).status_code == 404


def test_what_a_guest_is_called_is_text_and_nothing_else(owner: Owner) -> None:
    owner.link('<script>alert("x")</script>')
    assert "<script>alert" not in owner.look().text
    for note in ("x" * 61, "a\x00b", "a\nb"):
        answer = owner.post(do="link", note=note)
        assert answer.status_code == 400
        assert "note: up to 60 printable characters are accepted" in answer.text


def test_too_many_links_and_guests_are_refused_with_a_word(clock: Clock) -> None:
    owner = Owner(FakeCluster(settings(seat_links_max=1, seat_guests_max=1), clock))
    open_link(owner.cluster, owner.link())
    link = owner.link()
    answer = owner.post(do="link")
    assert (answer.status_code, "1 links are not opened yet" in answer.text) == (429, True)
    assert open_link(owner.cluster, link).status_code == 409
    assert owner.cluster.browser().get(link, headers=BROWSER).status_code == 200, "it was not used up"


@pytest.mark.parametrize("known", [{}, {"user": ANNA}, {"user": ANNA, "key": "x" * 32}, {"user": user_id(8)}])
def test_only_the_owner_shares(owner: Owner, known: dict[str, str]) -> None:
    other = owner.cluster.browser()
    with other.session_transaction(base_url="http://lab.example") as session:
        session.update(known)
    for answer in (
        other.get("/seat", headers=BROWSER | {"Host": "lab.example"}),
        other.post("/seat", data={"do": "link", "form": form_of(owner.look())}, headers=BROWSER | HERE),
    ):
        assert answer.status_code == 403
        assert "/link/" not in answer.text


FOREIGN: dict[str, dict[str, str]] = {
    "another site's form": HERE | {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
    "a neighbour's form, another server's": HERE | {"Sec-Fetch-Site": "same-site", "Origin": "http://a.lab.example"},
    "plain http, a neighbour's form": {"Host": "lab.example", "Origin": "http://a.lab.example"},
    "plain http, a form that hides its page": {"Host": "lab.example", "Origin": "null"},
    "a script of the same origin": HERE | {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
    "a frame in the same origin": HERE | {"Sec-Fetch-Dest": "iframe"},
}


@pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN)
def test_a12_no_page_but_ours_makes_a_link_shuts_out_or_opens(owner: Owner, headers: dict[str, str]) -> None:
    link = owner.link("Bert")
    for answer in (
        owner.post(headers, do="link"),
        owner.post(headers, do="revoke all"),
        open_link(owner.cluster, link, headers),
    ):
        assert answer.status_code == 403
        assert "/link/" not in answer.text
    assert "Bert" in owner.look().text
    assert open_link(owner.cluster, link).status_code == 303


def test_a12_a_script_of_the_same_origin_does_not_read_the_page(owner: Owner) -> None:
    asked: dict[str, Any] = {"Host": "lab.example", "Sec-Fetch-Site": "same-origin", "Accept": "text/html"}
    for mode, dest in (("cors", "empty"), ("same-origin", "empty"), ("navigate", "iframe"), ("no-cors", "object")):
        headers = asked | {"Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
        answer = owner.browser.get("/seat", headers=headers)
        assert answer.status_code == 403
        assert not form_of(answer)
    page = owner.look()
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    assert page.headers["Cross-Origin-Opener-Policy"] == "same-origin", "nor does one that opened it"


@pytest.mark.parametrize("form", ["", "0" * 32])
def test_a12_a_form_that_is_not_ours_changes_nothing(owner: Owner, form: str) -> None:
    assert owner.post(do="link", form=form).status_code == 403
    assert "Who may come in" not in owner.look().text


def test_a_program_opens_a_link_and_reads_where_to(owner: Owner) -> None:
    link = owner.link()
    program = owner.cluster.browser()
    assert program.get(link).json["status"] == "link"  # type: ignore[index]
    answer = program.post(link)
    assert answer.status_code == 200
    assert answer.json is not None
    assert answer.json["url"].startswith(f"/user/{ANNA}/~")
    assert program.post(link).status_code == 404


def test_the_start_page_leads_quietly_to_sharing_for_whoever_has_a_private_server(owner: Owner) -> None:
    assert 'href="/seat"' in owner.browser.get("/", headers=BROWSER | {"Host": "lab.example"}).text
    other = owner.cluster.browser()
    other.get("/spawn?tmpnb-start=1", headers=BROWSER)
    page = other.get("/", headers=BROWSER).text
    assert "Return to your server" in page
    assert 'href="/seat"' not in page


def test_with_a_token_of_the_api_there_are_links_and_no_page_for_owners(clock: Clock) -> None:
    cluster = FakeCluster(settings(API_AUTH_TOKEN="let-me-in-and-nobody-else"), clock)
    owner = Owner(cluster)
    assert owner.look().status_code == 404
    code, _ = cluster.parts.sharing.make_link(cluster.parts.sharing.own_seat(ANNA, owner.key), owner.key, "", "", "r")  # type: ignore[arg-type]
    assert "shared with you" in cluster.browser().get(f"/link/{code}", headers=BROWSER).text
    assert open_link(cluster, f"/link/{code}").status_code == 303


def test_while_consul_is_away_a_link_is_not_used_up(owner: Owner) -> None:
    link = owner.link()
    owner.cluster.store.outage(True)
    assert open_link(owner.cluster, link).status_code == 503
    owner.cluster.store.outage(False)
    assert open_link(owner.cluster, link).status_code == 303

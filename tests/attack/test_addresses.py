"""Addresses: what the victim's id opens for a stranger, where an address made up by the attacker leads, and to whom."""

from collections.abc import Callable
from contextlib import closing
from urllib.parse import urljoin, urlsplit

import pytest
import websocket
from playwright.sync_api import BrowserContext

from common.ids import new_user
from tests.attack.arena import ELSEWHERE, Arena, Learner
from tests.attack.test_pages import READ
from tests.support.waiting import wait_until

Judge = Callable[[bool], None]

PAGE = {"Accept": "text/html", "User-Agent": "Mozilla/5.0"}
EVIL = "evil.example"
# What has led other sites' redirects astray.
ASTRAY = (
    "//evil.example", "/%2f%2fevil.example", "/\\evil.example", "/%5cevil.example", "///evil.example/..",
    "https://evil.example/", "/https:/evil.example", "/@evil.example", "/.evil.example", "//evil.example%2f..",
    "/%0d%0aLocation:%20https://evil.example", "?next=https://evil.example", "?path=//evil.example", "/;@evil.example",
    "?url=https://evil.example", "/%09/evil.example", "/lab?//evil.example", "#@evil.example",
)  # fmt: skip


@pytest.mark.tries("A stranger who knows the victim's address opens their pages, files and API")
def test_a_stranger_opens_the_victims_address(
    arena: Arena, victim: Learner, attacker: Learner, stranger: BrowserContext, judge: Judge
) -> None:
    page = stranger.new_page()
    found = []
    for path in ("", "files/secret.txt", "api/contents"):
        page.goto(victim.base + path)
        found.append(page.text_content("body") or "")
        cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in attacker.cookies().items())}
        ways: tuple[dict[str, str], ...] = (
            {},
            {"Accept": "application/json"},
            cookie | {"Origin": victim.base.rstrip("/")},
        )
        found += [arena.ask("GET", victim.base + path, headers).body for headers in ways]
    arena.ask("POST", victim.base + "by-a-stranger", {"Content-Type": "text/plain"}, "x")
    judge(any(victim.secret in text for text in found) or victim.heard("by-a-stranger") != [])


@pytest.mark.tries("A stranger who knows the victim's address opens a WebSocket")
def test_a_stranger_opens_a_websocket(arena: Arena, victim: Learner, judge: Judge) -> None:
    try:
        with closing(arena.websocket(victim.base + "ws")) as opened:
            found = str(opened.recv())
    except websocket.WebSocketBadStatusException as refused:
        found = str(refused)
    judge(found == victim.secret)


@pytest.mark.tries("A stranger reads at an ended seat's address why it ended")
def test_a_stranger_opens_an_ended_seat(
    arena: Arena, new_learner: Callable[..., Learner], stranger: BrowserContext, judge: Judge
) -> None:
    victim = new_learner()
    arena.end(victim.user)
    mine = victim.open(victim.base)
    wait_until(lambda: mine.reload() and "gone" in mine.title(), "the owner to be told")
    page = stranger.new_page()
    page.goto(victim.base)
    judge("gone" in page.title())


@pytest.mark.tries("A stranger gets a server of their own at an ended seat's address")
def test_a_stranger_takes_over_an_ended_address(
    arena: Arena, new_learner: Callable[..., Learner], stranger: BrowserContext, judge: Judge
) -> None:
    victim = new_learner()
    arena.end(victim.user)
    page = stranger.new_page()
    page.goto(f"{arena.front}/spawn/user/{victim.user}/")
    page.wait_for_url(lambda url: victim.user_in(url) != "")
    judge(victim.user_in(page.url) == victim.user)


@pytest.mark.tries("A page of a foreign name that resolves to us (DNS rebinding) reads the victim's server")
def test_a_foreign_name_opens_nothing(arena: Arena, victim: Learner, judge: Judge) -> None:
    front = arena.front.replace(urlsplit(arena.front).hostname or "", ELSEWHERE)
    page = victim.open(front + "/info")
    found = [page.evaluate(READ, f"{front}/user/{victim.user}/files/secret.txt")]
    found += [arena.ask("GET", f"{front}/files/secret.txt", {"Host": host}).body for host in (ELSEWHERE, victim.user)]
    judge(victim.secret in found)


@pytest.mark.tries("A forged `Host` or `X-Forwarded-Host` leads the victim's key to another host")
def test_a_forged_host_leads_nowhere(arena: Arena, victim: Learner, judge: Judge) -> None:
    cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in victim.cookies(arena.front).items())}
    forged: list[dict[str, str]] = [
        {"Host": EVIL}, {"Host": f"{victim.user}.{EVIL}"}, {"Host": f"{urlsplit(arena.front).hostname}.{EVIL}"},
        {"X-Forwarded-Host": EVIL}, {"X-Forwarded-Host": f"x, {EVIL}"}, {"Forwarded": f"host={EVIL};proto=https"},
        {"X-Forwarded-Server": EVIL}, {"X-Host": EVIL}, {"X-Original-Host": EVIL}, {"X-Original-URL": f"//{EVIL}/"},
        {"X-Rewrite-URL": f"//{EVIL}/"}, {"X-Forwarded-Port": f"80@{EVIL}"}, {"X-Forwarded-Proto": f"https://{EVIL}/?"},
        {"X-Forwarded-Prefix": f"//{EVIL}"}, {"X-Script-Name": f"//{EVIL}"}, {"Script-Name": f"//{EVIL}"},
    ]  # fmt: skip
    astray = []
    for path in ("/spawn", "/spawn/lab", "/", "/seat", f"/seat/{victim.user}/lab", f"/user/{victim.user}"):
        asked = [(arena.front + path, PAGE | cookie | headers) for headers in forged]
        for headers, answer in zip(forged, arena.ask_in_turn(asked), strict=True):
            # A page may link to the name it was asked for by, which is in the visitor's address bar; a redirect may not
            # carry a key there.
            location = urljoin(arena.front, answer.header("Location"))
            leads = EVIL in (urlsplit(location).hostname or "")
            if leads and ((victim.key and victim.key in location) or "Host" not in headers):
                astray.append((path, headers, location))
            if "Host" not in headers and EVIL in answer.body:
                astray.append((path, headers, answer.body))
    judge(astray != [])


@pytest.mark.tries("An address of the front leads on to another site (open redirect)")
def test_no_address_leads_to_another_site(arena: Arena, victim: Learner, judge: Judge) -> None:
    cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in victim.cookies(arena.front).items())}
    begun = (
        "/spawn", "/spawn/user", f"/spawn/user/{victim.user}", "/hub/login", "/hub/user-redirect", "/user-redirect",
        f"/user/{victim.user}", f"/user/{new_user()}", "/seat", f"/seat/{victim.user}", f"/seat/{new_user()}", "/link",
        "/link/x", "/waiting", "",
    )  # fmt: skip
    astray = []
    for start in begun:
        urls = [f"{arena.front}{start}{rest}" for rest in ASTRAY]
        for url, answer in zip(urls, arena.ask_in_turn([(url, PAGE | cookie) for url in urls]), strict=True):
            # As a browser reads it: a backslash is a slash, control characters are none.
            location = answer.header("Location").replace("\\", "/").replace("\t", "")
            leads_to = urlsplit(urljoin(arena.front, location)).hostname or ""
            if location and not arena.is_ours(leads_to):
                astray.append((url, location))
    judge(astray != [])


@pytest.mark.tries("A script in an address runs in one of the front's pages")
def test_no_script_runs_in_the_fronts_pages(arena: Arena, stranger: BrowserContext, judge: Judge) -> None:
    said: list[str] = []
    stranger.on("console", lambda message: said.append(message.text))
    stranger.route("**/*tmpnb-start=1*", lambda route: route.abort())  # the landing page would go on
    script = "<script>console.log('ran')</script><img src=x onerror=console.log('ran')>\"'onload=console.log('ran')"
    somebody = new_user()
    weak = []
    for path in ("/user/", f"/user/{somebody}/", "/spawn/", "/seat/", f"/seat/{somebody}/", "/link/", "/waiting/", "/"):
        answer = stranger.new_page().goto(f"{arena.front}{path}{script}")
        assert answer is not None
        policy = answer.headers.get("content-security-policy", "")
        if "default-src 'none'" not in policy or "unsafe" in policy:
            weak.append((path, policy))
    judge(weak != [] or "ran" in said)

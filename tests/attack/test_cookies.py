"""Cookies: what the attacker's server and its pages plant in the victim's browser, and what a copied one opens."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Error

from tests.attack.arena import ELSEWHERE, FRONT, SEAT_COOKIES, Arena, Learner

Judge = Callable[[bool], None]

# Cookies of all paths and hosts that a page may set them for: each domain that its own host is in.
TOSS = """([names, value, paths = ["/", "/spawn", "/seat", "/user", location.pathname]]) => {
  const labels = location.hostname.split(".");
  const domains = ["", ...labels.map((_, n) => `; Domain=${labels.slice(n).join(".")}`)];
  for (const name of names) {
    for (const domain of domains) {
      for (const path of paths) {
        document.cookie = `${name}=${value}; Path=${path}${domain}`;
        document.cookie = `${name}=${value}; Path=${path}${domain}; Secure`;
      }
    }
  }
}"""
PREFIXES = ("", "__Host-", "__Secure-", "__Http-", "__Host-Http-")


def our_names(arena: Arena) -> list[str]:
    """Of the front's session and of a seat, in all their forms."""
    return [prefix + name for name in (f"tmpnb-{arena.proxy.cluster}", "tmpnb-seat") for prefix in PREFIXES]


def copied(victim: Learner) -> dict[str, str]:
    """The header of whoever has copied the cookie of a seat."""
    pairs = [f"{name}={value}" for name, value in victim.cookies().items() if name in SEAT_COOKIES]
    assert pairs
    return {"Cookie": "; ".join(pairs)}


def apart(arena: Arena) -> str:
    """The front by a name in a domain of its own, which is none that servers are in."""
    return arena.front.replace(FRONT, ELSEWHERE)


@pytest.mark.tries("The attacker's server gets the victim's cookies of the front, or of their seat")
def test_a_server_gets_no_cookie_of_ours(arena: Arena, victim: Learner, attacker: Learner, judge: Judge) -> None:
    victim.visits(attacker, "a-visit")
    victim.open(attacker.base + "another-visit")
    requests = [*attacker.heard("a-visit"), *attacker.heard("another-visit")]
    assert requests, "the visits"
    secrets = [name + "=" for name in our_names(arena)] + [value for value in (victim.key, attacker.key) if value]
    judge(any(secret in str(request) for request in requests for secret in secrets))


@pytest.mark.tries("A script reads the victim's cookies of the front, or of their seat")
def test_a_script_reads_no_cookie_of_ours(arena: Arena, victim: Learner, attacker: Learner, judge: Judge) -> None:
    page = victim.visits(attacker)
    judge("tmpnb-" in page.evaluate("() => document.cookie"))


@pytest.mark.tries("`Set-Cookie` of the attacker's server, also in a 103 or a WebSocket's 101, plants a cookie of ours")
def test_a_server_sets_no_cookie_of_ours(
    arena: Arena, new_learner: Callable[..., Learner], attacker: Learner, judge: Judge
) -> None:
    victim = new_learner()
    host = arena.front.partition("://")[2].partition(":")[0]
    lines = [
        f"{name}=planted; Path={path}{rest}"
        for name in our_names(arena)
        for path in ("/", "/user/", "/spawn")
        for rest in ("", "; Secure; HttpOnly", f"; Domain={host}", f"; Domain={host.partition('.')[2]}; Secure")
    ]
    headers = "".join(f"Set-Cookie: {line}\r\n" for line in lines)
    ok = f"HTTP/1.1 200 OK\r\n{headers}Content-Type: text/html\r\nContent-Length: 2\r\n\r\nok"
    attacker.say("planted", raw=ok)
    attacker.say("planted-early", raw=f"HTTP/1.1 103 Early Hints\r\n{headers}\r\n{ok}")
    attacker.say("planted-ws", Set_Cookie=lines[0])
    page = victim.visits(attacker, "planted")
    page.goto(attacker.base + "planted-early")
    page.evaluate(
        "(url) => new Promise((done) => { const s = new WebSocket(url.replace('http', 'ws')); s.onclose = s.onerror = "
        "s.onmessage = done; })",
        attacker.base + "planted-ws",
    )
    assert attacker.heard("planted-early")
    cookies = victim.context.cookies()
    judge(any(cookie["value"] == "planted" for cookie in cookies if "tmpnb-" in str(cookie["name"])))


@pytest.mark.tries("A script plants the attacker's own cookies, so that the victim is led to the attacker's server")
def test_a_script_has_the_victim_led_to_the_attackers_server(
    arena: Arena, new_learner: Callable[..., Learner], attacker: Learner, judge: Judge
) -> None:
    victim = new_learner()
    page = victim.visits(attacker)
    for name, value in attacker.cookies(arena.front).items():
        page.evaluate(TOSS, [[prefix + name.rpartition("-Http-")[2] for prefix in PREFIXES], value])
    judge(victim.own_server() == attacker.user)


@pytest.mark.tries("A script plants so many cookies that the victim's browser forgets its server")
def test_a_script_makes_the_browser_forget(
    arena: Arena, new_learner: Callable[..., Learner], attacker: Learner, judge: Judge
) -> None:
    victim, other = new_learner(), new_learner(front=apart(arena))
    for learner in (victim, other):
        page = learner.visits(attacker)
        page.evaluate(TOSS, [our_names(arena), "planted"])
        # A browser keeps 180 of a site, and gives up the oldest.
        page.evaluate(TOSS, [[f"crumb{n}" for n in range(40)], "x"])
    assert arena.mode == "paths" or other.own_server() == other.user, "they are of the servers' domain"
    judge(victim.own_server() != victim.user)


@pytest.mark.tries("A script plants such large cookies that the front refuses the victim's requests")
def test_a_script_locks_the_browser_out(
    arena: Arena, new_learner: Callable[..., Learner], attacker: Learner, judge: Judge
) -> None:
    def is_locked_out(learner: Learner) -> bool:
        learner.visits(attacker).evaluate(TOSS, [[f"crumb{n}" for n in range(20)], "x" * 3500, ["/"]])
        try:
            return learner.open(learner.front + "/info").locator("#main").count() == 0
        except Error:  # no answer at all
            return True

    assert arena.mode == "paths" or not is_locked_out(new_learner(front=apart(arena))), (
        "they are of the servers' domain"
    )
    judge(is_locked_out(new_learner()))


@pytest.mark.tries("A script plants a cookie that the application of the victim's server gets")
def test_a_script_plants_a_cookie_of_an_application(
    new_learner: Callable[..., Learner], attacker: Learner, judge: Judge
) -> None:
    victim = new_learner()
    victim.visits(attacker).evaluate(TOSS, [["_xsrf"], "planted"])
    victim.open(victim.base + "after-that")
    (heard,) = victim.heard("after-that")
    judge("planted" in str(heard["headers"]))


@pytest.mark.tries("A link of the attacker's has the front take their server for the victim's from then on")
def test_a_link_changes_nobodys_own_server(
    new_learner: Callable[..., Learner], attacker: Learner, judge: Judge
) -> None:
    victim = new_learner()
    victim.visits(attacker)
    judge(victim.own_server() == attacker.user)


@pytest.mark.tries("A cookie that was copied from the victim's browser opens the seat it is of")
def test_a_copied_cookie_is_the_secret_itself(arena: Arena, victim: Learner, judge: Judge) -> None:
    answer = arena.ask("GET", victim.base + "files/secret.txt", copied(victim))
    judge(answer.body == victim.secret)


@pytest.mark.tries("A cookie that was copied opens what is at the same address after the seat has ended")
def test_a_copied_cookie_opens_no_later_seat(arena: Arena, new_learner: Callable[..., Learner], judge: Judge) -> None:
    victim = new_learner()
    cookie, url = copied(victim), victim.base + "files/secret.txt"
    assert arena.ask("GET", url, cookie).body == victim.secret, "as long as the seat is there"
    arena.end(victim.user)
    page = victim.open(f"{arena.front}/spawn/user/{victim.user}/")
    page.wait_for_url(lambda url: victim.user_in(url) == victim.user)
    assert victim.open(url).text_content("body") == victim.secret, "its owner is in"
    judge(arena.ask("GET", url, cookie).body == victim.secret)

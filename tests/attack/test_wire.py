"""Bytes: requests that two readers take for different ones, and answers that are more than one."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from common.ids import new_user
from tests.attack.arena import FRONT, Arena, Learner
from tests.support.waiting import wait_until

Judge = Callable[[bool], None]

# Framings of which one reader may see the end earlier than another. Each is followed by what would be a request then.
LENGTHS = (
    "Content-Length: {n}\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nContent-Length: {n}",
    "Content-Length: 0\r\nContent-Length: {n}",
    "Content-Length: {n}\r\nContent-Length: 0",
    "Content-Length: 0, {n}",
    "Content-Length: +{n}",
    "Content-Length: 0{n}\r\nContent-Length: 0",
    "Content-Length : {n}",
    "Content-Length: 0x0",
    "Content_Length: {n}",
    " Content-Length: {n}",
    "X: y\r\n Content-Length: {n}",
    "X: y\nContent-Length: {n}",
    "X: y\rContent-Length: {n}",
    "Transfer-Encoding: xchunked\r\nContent-Length: {n}",
    "Transfer-Encoding: chunked, identity\r\nContent-Length: {n}",
    "Transfer-Encoding: identity, chunked\r\nContent-Length: {n}",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\nContent-Length: {n}",
    "Transfer-Encoding:\x0bchunked\r\nContent-Length: {n}",
    "Transfer-Encoding: \tchunked\r\nContent-Length: {n}",
    "Transfer-Encoding : chunked\r\nContent-Length: {n}",
    "Transfer_Encoding: chunked\r\nContent-Length: {n}",
    "Connection: Content-Length\r\nContent-Length: {n}",
    "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\nContent-Length: {n}",
    "Expect: 100-continue\r\nContent-Length: {n}",
    "Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: {n}",
)
# Bodies: none that counts, or one chunk whose size two readers may read differently.
BODIES = (
    "",
    "0\r\n\r\n",
    "0;x=\n\r\n\r\n",
    "0\n\n",
    "00000000000000000\r\n\r\n",
    "0_0\r\n\r\n",
    "0x0\r\n\r\n",
    "-0\r\n\r\n",
)


def send(arena: Arena, request: str) -> None:
    """Some bytes, and a moment for an answer."""
    with suppress(OSError), arena.connect(FRONT) as connection:
        connection.sendall(request.encode("latin-1"))
        connection.settimeout(0.5)
        while connection.recv(65536):
            pass


@pytest.mark.tries("A request hides a second one from HAProxy, on a connection that all share (request smuggling)")
def test_no_request_is_smuggled_to_the_frontends(arena: Arena, judge: Judge) -> None:
    """HAProxy refuses what is hidden (a dot segment), so whatever of it a frontend sees was not seen by HAProxy."""
    host = arena.front.partition("://")[2]
    hidden, requests = set(), []
    for length in LENGTHS:
        for body in BODIES if "chunked" in length else BODIES[:1]:
            for method in ("POST /leaving/somebody", "GET /info"):
                user = new_user()
                hidden.add(user)
                inner = f"GET /user/{user}/%2e%2e/ HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\n\r\n"
                head = length.format(n=len(body) + len(inner))
                requests.append(f"{method} HTTP/1.1\r\nHost: {host}\r\nX-Y: z\r\n{head}\r\n\r\n{body}{inner}")
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda request: send(arena, request), requests))
    last = new_user()
    arena.ask("GET", arena.base(last), {"Accept": "text/html"})
    wait_until(lambda: last in arena.frontend_log(), "the frontend's log to be written")
    log = arena.frontend_log()
    judge(any(user in log for user in hidden))


@pytest.mark.tries("An answer of the attacker's server holds a second one, for the next request (response splitting)")
def test_no_second_answer_reaches_another(arena: Arena, victim: Learner, attacker: Learner, judge: Judge) -> None:
    stolen = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nnot yours"
    ok = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
    early = "HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n"
    wild = {
        "two": ok + stolen * 3,
        "early": early * 5 + ok + stolen,
        "unasked": "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n" + stolen * 3,
        "chunks": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n0\r\n\r\n" + stolen,
        "lengths": "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 99\r\n\r\n" + stolen,
        "none": "HTTP/1.1 204 No Content\r\nContent-Length: 99\r\n\r\n" + stolen,
        "continued": "HTTP/1.1 100 Continue\r\n\r\n" * 3 + ok + stolen,
    }
    for path, raw in wild.items():
        attacker.say(path, raw=raw)
    cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in victim.cookies().items())}
    mine = {"Cookie": "; ".join(f"{name}={value}" for name, value in attacker.cookies().items())}
    others = [(arena.front + "/info", {}), (victim.base + "files/secret.txt", cookie)]
    got: list[str] = []
    for path in wild:
        # On one connection with the attacker's, as behind a proxy that many share, and on others.
        asked = [(attacker.base + path, mine), *others, (attacker.base + path, mine), *others]
        got += [answer.body for answer in arena.ask_in_turn(asked)]
        got += [arena.ask("GET", url, headers).body for url, headers in others]
    assert attacker.heard("two"), "the attacker's server was asked"
    assert any("ok" in body for body in got)
    judge(any("not yours" in body for body in got))

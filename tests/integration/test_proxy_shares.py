"""A seat that is shared: by a link that opens once, to a second browser, until its owner says otherwise. The frontends'
application, Consul, the sync and HAProxy are real."""

import contextlib
import re
import time
from collections.abc import Callable

import pytest
import requests
import websocket
from flask.testing import FlaskClient

from common.broker.memory import MemoryBroker
from common.ids import digest, server_token_of
from common.records.servers import Claim, Pointer
from common.runtime.clock import utc_now
from common.store.cluster import Cluster
from common.urls import seat_key_of
from frontend.public.app import create_app
from frontend.public.dependencies import Dependencies
from frontend.settings import PublicSettings
from proxy.runtime_api.unix_socket import SocketRouteMap
from tests.support.proxy_rig import Rig, Server
from tests.support.waiting import wait_until

BROWSER = {
    "Accept": "text/html",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Site": "same-origin",
}
# A revoked guest is refused within it.
SOON_S = 1.0


class Owner:
    """A private server, whose owner has a browser at a frontend."""

    def __init__(self, rig: Rig, **changes: object) -> None:
        self.rig = rig
        self.server: Server = rig.server().publish(private=True).wait_routed()
        self.cluster = Cluster(rig.store, rig.cluster)
        self.claim()
        settings = PublicSettings.model_validate(
            {"secret_key": "a key only for tests", "cluster": rig.cluster, **changes}
        )
        self.app = create_app(Dependencies(settings, rig.store, MemoryBroker().publisher))
        self.browser = self.app.test_client()
        with self.browser.session_transaction() as session:
            session.update(user=self.server.user, key=self.server.key)

    def claim(self) -> None:
        user, key, now = self.server.user, self.server.key, utc_now()
        seat, token = digest(key), digest(server_token_of(key))
        fields = {"user": user, "host": "host-1", "pool": "default"}
        self.cluster.claims.put(
            Claim(**fields, request_id="0" * 32, claimed_at=now, token_digest=token, seat=seat, idle_limit_s=0)
        )
        self.cluster.users.put(Pointer(**fields, created_at=now))

    def post(self, **fields: str) -> str:
        page = self.browser.get("/seat", headers=BROWSER).text
        form = re.findall(r'name="form" value="([0-9a-f]+)"', page)[0]
        answer = self.browser.post("/seat", data={"form": form, **fields}, headers=BROWSER)
        assert answer.status_code in {200, 303}, answer.text
        return answer.text

    def link(self) -> str:
        return re.findall(r"/link/[0-9a-f]{32}", self.post(do="link", note="Bert"))[0]

    def open(self, link: str) -> tuple[int, str]:
        """In a second browser: the status, and where it leads."""
        friend: FlaskClient = self.app.test_client()
        answer = friend.post(link, headers=BROWSER)
        return answer.status_code, answer.headers.get("Location", "")

    def guest(self) -> "Guest":
        status, place = self.open(self.link())
        assert status == 303
        return Guest(self, place)


class Guest:
    """A second browser that was led to the server by a link. HAProxy knows its key in an instant: before the link is
    opened, unless that is done by a program."""

    def __init__(self, owner: Owner, place: str) -> None:
        self.owner, self.place, self.key = owner, place, seat_key_of(place)
        wait_until(self.is_in, "the guest's key at HAProxy", timeout_s=5)

    def get(self, place: str, **headers: str) -> requests.Response:
        return requests.get(self.owner.rig.url + place, headers=headers, timeout=10, allow_redirects=False)

    def is_in(self) -> bool:
        answer = self.get(self.owner.server.path, Cookie=f"tmpnb-seat={self.key}")
        return answer.status_code == 200 and answer.json()["name"] == self.owner.server.user

    def connect(self, cookie: str = "") -> websocket.WebSocket:
        url = f"ws://127.0.0.1:{self.owner.rig.port}{self.owner.server.path}ws"
        connection = websocket.create_connection(url, timeout=5, cookie=cookie or f"tmpnb-seat={self.key}")
        connection.send("hello")
        assert connection.recv() == "hello"
        return connection


@pytest.fixture
def owner(shared_rig: Rig) -> Owner:
    return Owner(shared_rig)


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_a_link_opened_in_a_second_browser_leads_in_and_a_second_time_nowhere(owner: Owner) -> None:
    link = owner.link()
    status, place = owner.open(link)
    assert status == 303
    guest = Guest(owner, place)
    arrived = guest.get(place, **BROWSER)
    assert arrived.status_code == 302
    assert arrived.headers["Set-Cookie"].startswith(f"tmpnb-seat={guest.key}; Path={owner.server.path}")
    assert arrived.headers["Location"] == f"{owner.server.path}?token={server_token_of(owner.server.key)}"
    assert owner.open(link) == (404, "")


def test_a_link_that_was_never_made_and_one_that_expired_lead_nowhere(owner: Owner) -> None:
    assert owner.open("/link/" + "0" * 32) == (404, "")
    link = owner.link()
    stored = owner.cluster.links.get(digest(link.rpartition("/")[2]))
    assert stored is not None
    owner.cluster.links.put(stored.model_copy(update={"expires_at": utc_now()}))
    assert owner.open(link) == (410, "")


def test_a_guest_who_is_shut_out_is_refused_within_a_second_and_others_stay(owner: Owner) -> None:
    guest, other = owner.guest(), owner.guest()
    found = re.findall(r'name="guest" value="([0-9a-f]+)"', owner.browser.get("/seat", headers=BROWSER).text)
    owner.post(do="revoke", guest=found[0])
    assert within(SOON_S, lambda: not guest.is_in())
    assert guest.get(guest.place).status_code == 403
    assert other.is_in()
    owner.post(do="revoke all")
    assert within(SOON_S, lambda: not other.is_in())
    assert owner.server.is_routed(), "the owner's key is another one"


def test_a_websocket_of_a_guest_ends_when_they_are_shut_out_and_the_owner_s_stays(owner: Owner) -> None:
    guest = owner.guest()
    with (
        contextlib.closing(guest.connect()) as theirs,
        contextlib.closing(guest.connect(f"tmpnb-seat={owner.server.key}")) as own,
    ):
        owner.post(do="revoke all")
        theirs.settimeout(5)
        with pytest.raises((websocket.WebSocketConnectionClosedException, ConnectionError)):
            theirs.recv()
        own.send("still here")
        assert own.recv() == "still here"
        with pytest.raises(websocket.WebSocketBadStatusException):
            guest.connect()


def test_a_share_ends_with_its_seat(owner: Owner) -> None:
    guest = owner.guest()
    owner.server.publish(private=True)  # made again at the same address: another key
    assert within(5 * SOON_S, lambda: not guest.is_in())


def test_guests_stay_when_haproxy_or_the_sync_is_restarted(rig: Rig) -> None:
    guest = Owner(rig).guest()
    rig.restart_haproxy()
    wait_until(lambda: rig.answerer("/") == "frontend", "HAProxy again")
    assert guest.is_in(), "before the sync had told it"
    assert rig.sync is not None
    rig.sync.kill()
    rig.start_sync()
    time.sleep(2 * SOON_S)  # nothing that could be waited for: that nothing happens
    assert guest.is_in()


def test_what_haproxy_has_is_what_the_shares_say(owner: Owner) -> None:
    guest = owner.guest()
    owner.link()
    table = SocketRouteMap(owner.rig.run_dir / "haproxy.sock", "shares.map")

    def kinds() -> list[str]:
        table.connect()
        found = [value for key, value in table.show() if key.startswith(f"{owner.server.user}/")]
        table.close()
        return sorted("guest" if value == "guest" else "link" for value in found)

    wait_until(lambda: kinds() == ["guest", "link"], "both entries")
    assert guest.is_in()

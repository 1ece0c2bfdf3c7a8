"""Who the proxy reports as active: people, not the polling of their tabs."""

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
import websocket

from common.records.pools import PoolSpec
from common.records.servers import Activity
from proxy.runtime_api.port import Counters
from proxy.runtime_api.unix_socket import SocketTraffic
from tests.support.proxy_rig import Rig, Server
from tests.support.waiting import wait_until


def reports(rig: Rig) -> Activity:
    """The proxy's record; an empty one while there is none."""
    entry = rig.store.get(rig.keys.activity_of("proxy-1", 0))
    assert entry is not None
    return Activity.decode(entry.key, entry.value)


def last_active(server: Server) -> int:
    return reports(server.rig).users.get(server.user, 0)


def wait_watching(rig: Rig) -> None:
    wait_until(lambda: rig.store.get(rig.keys.activity_of("proxy-1", 0)), "the first report")


def wait_periods(rig: Rig, count: int) -> None:
    """Until the proxy has certainly read its counters again: an unchanged report is refreshed every other period."""
    for _ in range(count):
        before = reports(rig).updated_at
        wait_until(lambda seen=before: reports(rig).updated_at > seen, "another report")  # type: ignore[misc]


@pytest.fixture
def server(shared_rig: Rig) -> Server:
    wait_watching(shared_rig)
    return shared_rig.server().publish().wait_routed()


def idle_servers(rig: Rig, names: Iterable[str]) -> dict[str, Server]:
    """Servers whose users, active a moment ago, are idle now."""
    wait_watching(rig)
    servers = {name: rig.server().publish() for name in names}
    for server in servers.values():
        server.wait_routed()
    for server in servers.values():
        wait_until(lambda server=server: last_active(server), "the user's first activity")  # type: ignore[misc]
    wait_periods(rig, 1)
    return servers


@pytest.fixture
def idle(shared_rig: Rig) -> Server:
    return idle_servers(shared_rig, ["one"])["one"]


def test_opening_a_page_is_activity(server: Server) -> None:
    server.rig.get(server.path + "lab").raise_for_status()
    at = wait_until(lambda: last_active(server), "the activity")
    assert abs(at - time.time()) < 60


POLLED = (
    "api/kernels?1700000000",
    "api/kernels/0",
    "api/sessions",
    "api/terminals?token=x",
    "api/kernelspecs",
    "api/contents/a/b.ipynb?content=0",
    "api/status",
    "api/metrics/v1",
    "api/me",
)


def test_polling_is_no_activity(shared_rig: Rig) -> None:
    idle = idle_servers(shared_rig, POLLED)
    before = {path: last_active(server) for path, server in idle.items()}
    for path, server in idle.items():
        for _ in range(10):
            shared_rig.get(server.path + path)
    wait_periods(shared_rig, 2)
    assert {path: last_active(server) for path, server in idle.items()} == before


USED = (
    "POST api/kernels",
    "PUT api/contents/a.ipynb",
    "PATCH api/sessions/1",
    "DELETE api/terminals/1",
    "GET lab",
    "GET files/api/kernels",
    "GET api",
    "GET api/nbconvert/html/a.ipynb",
)


def test_what_people_do_is_activity(shared_rig: Rig) -> None:
    idle = idle_servers(shared_rig, USED)
    before = {use: last_active(server) for use, server in idle.items()}
    wait_until(lambda: time.time() > max(before.values()) + 1, "another second")
    for use, server in idle.items():
        method, path = use.split()
        requests.request(method, shared_rig.url + server.path + path, timeout=10).raise_for_status()
    wait_until(lambda: all(last_active(idle[use]) > before[use] for use in USED), "the activity of every use")


@contextlib.contextmanager
def open_tab(server: Server, method: str, path: str, every_s: float) -> Iterator[None]:
    """A page of that server that nobody touches."""
    closed = threading.Event()

    def ask() -> None:
        while not closed.wait(every_s):
            # Like JupyterLab's: an address that no cache has seen.
            query = f"?{time.time_ns()}" if method == "GET" else ""
            requests.request(method, server.rig.url + server.path + path + query, data=b"{}", timeout=10)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    try:
        yield
    finally:
        closed.set()
        asking.join(15)


TABS = {
    "POST events/get_events": {"Accept": "text/html,*/*"},
    "GET some-ext/status": {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-User": "?1"},
}


def test_c3_a_page_that_asks_by_itself_is_no_activity_and_a_person_beside_it_is(shared_rig: Rig) -> None:
    idle = idle_servers(shared_rig, TABS)
    with ThreadPoolExecutor(len(TABS)) as together:
        for seen in [together.submit(tell_apart, idle[tab], *tab.split(), TABS[tab]) for tab in TABS]:
            seen.result()


def tell_apart(idle: Server, method: str, path: str, visit: dict[str, str]) -> None:
    rig = idle.rig
    with open_tab(idle, method, path, 1.5):
        began = time.time()
        wait_until(lambda: last_active(idle) > began, "the page's first requests")
        wait_until(lambda: last_active(idle) < time.time() - 12, "the page seen as one that nobody touches", 90)
        rig.get(idle.path + "lab", **visit).raise_for_status()
        visited = int(time.time())
        wait_until(lambda: last_active(idle) >= visited - 2, "somebody's visit")
        wait_until(lambda: time.time() > visited + 12, "some more of the page's requests", 30)
        assert last_active(idle) < visited + 10, "the page is known"


def test_c3_what_a_pool_names_is_no_activity_and_nothing_else_is_named_by_it(shared_rig: Rig) -> None:
    rig = shared_rig
    named = ("GET events/get_events", "POST events/get_events", "GET poll?x=1", "POST poll/more")
    others = ("GET eventsx", "POST other/events/", "PUT api/contents/events/")
    spec = PoolSpec(name="default", image="img", background_paths=("events/", "poll"))
    servers = idle_servers(rig, [*named, *others])
    rig.store.put(rig.keys.pool("default"), spec.encode())
    try:
        traffic = SocketTraffic(rig.run_dir / "haproxy.sock")

        def count(use: str) -> int:
            user = servers[use].user
            asked, certain = traffic.asked().get(user, Counters()), traffic.counters().get(user, Counters())
            return sum(asked.kinds) // 2 + certain.requests

        def ask(use: str) -> int:
            """How many it counted of one request."""
            before = count(use)
            method, path = use.split()
            requests.request(method, rig.url + servers[use].path + path, timeout=10).raise_for_status()
            return count(use) - before

        wait_until(lambda: ask(named[0]) == 0, "the table of the paths that the pool names", 30)
        assert {use: ask(use) for use in named} == dict.fromkeys(named, 0)
        assert {use: ask(use) for use in others} == dict.fromkeys(others, 1)
    finally:
        rig.store.delete(rig.keys.pool("default"))


def test_an_open_websocket_is_activity_only_while_it_is_used(idle: Server) -> None:
    url = f"ws://127.0.0.1:{idle.rig.port}{idle.path}ws"
    with contextlib.closing(websocket.create_connection(url, timeout=10)) as connection:
        connection.send("kernel_info_request" * 20)
        assert connection.recv()
        wait_periods(idle.rig, 3)
        before = last_active(idle)
        for _ in range(4):
            connection.ping()
            wait_periods(idle.rig, 1)
        assert last_active(idle) == before, "opening and pings are no use"

        def runs_a_cell() -> bool:
            connection.send("execute_request" * 1000)
            assert connection.recv()
            return last_active(idle) > before

        wait_until(runs_a_cell, "the cell seen as activity", every_s=0.5)


def test_a_server_that_is_gone_is_dropped_from_the_report(idle: Server) -> None:
    idle.withdraw()
    wait_until(lambda: idle.user not in reports(idle.rig).users, "the user dropped")


def test_since_survives_the_syncs_restart_and_nobody_is_forgotten(rig: Rig) -> None:
    wait_watching(rig)
    server = rig.server().publish().wait_routed()
    at = wait_until(lambda: last_active(server), "the activity")
    since = reports(rig).since
    assert rig.sync is not None
    rig.sync.kill()
    server.rig.get(server.path + "lab").raise_for_status()
    stopped = reports(rig).updated_at
    rig.start_sync()
    wait_until(lambda: reports(rig).updated_at > stopped, "the new sync's report")
    assert reports(rig).since == since
    assert last_active(server) >= at


def test_haproxys_restart_ends_no_report(rig: Rig) -> None:
    wait_watching(rig)
    server = rig.server().publish().wait_routed()
    wait_until(lambda: last_active(server), "the activity")
    since = reports(rig).since
    rig.restart_haproxy()
    server.wait_routed()
    before = last_active(server)

    def visits() -> bool:
        rig.get(server.path + "lab")
        return last_active(server) > before

    wait_until(visits, "activity after the restart", every_s=0.5)
    assert reports(rig).since == since

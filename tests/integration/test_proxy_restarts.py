"""Routes stay right while HAProxy, its sync or Consul is restarted, killed or loses everything (I4, I5, I8)."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import websocket

from tests.support.proxy_rig import Rig, Server, free_port
from tests.support.waiting import wait_until


class OwnConsul:
    """A Consul server that a test may stop; it forgets everything when it stops if it is ``forgetful``."""

    def __init__(self, forgetful: bool) -> None:
        from testcontainers.core.container import DockerContainer

        from tests.conftest import CONSUL_IMAGE

        self.port = free_port("127.0.0.1")
        self.url = f"http://127.0.0.1:{self.port}"
        mode = "-dev" if forgetful else "-server -bootstrap-expect=1 -bind=127.0.0.1"
        self._container: Any = DockerContainer(CONSUL_IMAGE).with_command(f"agent {mode} -client=0.0.0.0")
        self._container.with_bind_ports(8500, self.port)
        self._container.start()
        self.wait_ready()

    def wait_ready(self) -> None:
        wait_until(self._has_leader, "Consul's leader")

    def _has_leader(self) -> bool:
        try:
            answer = requests.get(f"{self.url}/v1/kv/tmpnb/?keys", timeout=2)
        except requests.RequestException:
            return False
        return answer.status_code in (200, 404)

    def stop(self) -> None:
        self._container.get_wrapped_container().stop(timeout=5)

    def start(self) -> None:
        self._container.get_wrapped_container().start()
        self.wait_ready()

    def remove(self) -> None:
        self._container.stop()


@pytest.fixture
def lasting_consul() -> Iterator[OwnConsul]:
    consul = OwnConsul(forgetful=False)
    yield consul
    consul.remove()


@pytest.fixture
def forgetful_consul() -> Iterator[OwnConsul]:
    consul = OwnConsul(forgetful=True)
    yield consul
    consul.remove()


@contextlib.contextmanager
def asking(server: Server) -> Iterator[list[str]]:
    """Ask for the server's path over and over on new connections; the names of all who answered."""
    answers: list[str] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                response = requests.get(server.rig.url + server.path, timeout=5)
                answers.append(str(response.json().get("name", response.status_code)))
            except (requests.RequestException, ValueError):
                done.wait(0.002)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        done.set()
        for thread in threads:
            thread.join()


def logged(rig: Rig, event: str) -> int:
    return rig.sync_log().count(f'"event": "{event}"')


def test_haproxy_accepts_nobody_before_it_has_the_whole_table(rig: Rig) -> None:
    server = rig.server().publish().wait_routed()
    with asking(server) as answers:
        for _ in range(3):
            count = len(answers)
            rig.restart_haproxy()
            wait_until(lambda seen=count: len(answers) > seen + 20, "answers after the restart")  # type: ignore[misc]
    assert set(answers) == {server.user}


def test_a_killed_haproxy_comes_back_with_what_changed_meanwhile(rig: Rig) -> None:
    old, new = rig.server().publish().wait_routed(), rig.server()
    rig.kill_haproxy()
    old.withdraw()
    new.publish()
    rig.revive_haproxy()
    new.wait_routed()
    wait_until(lambda: rig.answerer(old.path) == "frontend", "the withdrawn route gone")


def test_a_route_written_while_haproxy_starts_is_not_missed(rig: Rig) -> None:
    servers = [rig.server() for _ in range(5)]
    rig.kill_haproxy()
    reviving = threading.Thread(target=rig.revive_haproxy)
    reviving.start()
    for server in servers:
        server.publish()
        time.sleep(0.05)  # spread over HAProxy's start
    reviving.join()
    for server in servers:
        server.wait_routed()


def test_a_killed_sync_cuts_nobody_off_and_its_successor_catches_up(rig: Rig) -> None:
    old, kept, new = (rig.server() for _ in range(3))
    old.publish().wait_routed()
    kept.publish().wait_routed()
    assert rig.sync is not None
    with asking(kept) as answers:
        rig.sync.kill()
        old.withdraw()
        new.publish()
        assert rig.answerer(old.path) == old.user
        rig.start_sync()
        new.wait_routed()
        wait_until(lambda: rig.answerer(old.path) == "frontend", "the withdrawn route gone")
    assert set(answers) == {kept.user}


def test_haproxy_starts_with_the_last_table_when_the_sync_is_gone(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(TMPNB_TABLE_WAIT_S="1")
    sync = rig.start_sync()
    rig.start_haproxy()
    rig.wait_ready()
    server = rig.server().publish().wait_routed()
    assert sync.terminate() == 0
    rig.restart_haproxy()
    server.wait_routed()
    assert "starting with the table it wrote last" in rig.haproxy_log()


def test_haproxy_starts_without_routes_when_there_was_never_a_sync(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(TMPNB_TABLE_WAIT_S="1")
    rig.start_haproxy()
    rig.wait_ready()
    server = rig.server().publish()
    rig.start_sync()
    server.wait_routed()


def test_a_restarted_consul_interrupts_nobody(make_rig: Callable[..., Rig], lasting_consul: OwnConsul) -> None:
    rig = make_rig(lasting_consul.url)
    rig.start_sync()
    rig.start_haproxy()
    rig.wait_ready()
    kept, withdrawn, new = rig.server().publish().wait_routed(), rig.server().publish().wait_routed(), rig.server()
    with asking(kept) as answers:
        lasting_consul.stop()
        wait_until(lambda: logged(rig, "consul unreachable, routes kept"), "the outage noticed")
        rig.restart_haproxy()  # and the data plane can be restarted without it
        kept.wait_routed()
        lasting_consul.start()
        new.publish().wait_routed()
        withdrawn.withdraw()
        wait_until(lambda: rig.answerer(withdrawn.path) == "frontend", "a route withdrawn after the outage")
    assert set(answers) == {kept.user}


def test_the_sync_may_be_restarted_while_consul_is_away(
    make_rig: Callable[..., Rig], lasting_consul: OwnConsul
) -> None:
    rig = make_rig(lasting_consul.url)
    sync = rig.start_sync()
    rig.start_haproxy()
    rig.wait_ready()
    kept, new = rig.server().publish().wait_routed(), rig.server()
    with asking(kept) as answers:
        lasting_consul.stop()
        sync.kill()
        rig.start_sync()
        wait_until(lambda: logged(rig, "haproxy connected") == 2, "the new sync")
        rig.restart_haproxy()
        kept.wait_routed()
        lasting_consul.start()
        new.publish().wait_routed()
    assert set(answers) == {kept.user}


def test_a_consul_that_lost_everything_takes_no_route_that_is_written_again(
    make_rig: Callable[..., Rig], forgetful_consul: OwnConsul
) -> None:
    rig = make_rig(forgetful_consul.url)
    rig.start_sync(vanish_grace_s="6")
    rig.start_haproxy()
    rig.wait_ready()
    kept, forgotten = rig.server().publish().wait_routed(), rig.server().publish().wait_routed()
    with asking(kept) as answers:
        forgetful_consul.stop()
        forgetful_consul.start()
        wait_until(lambda: logged(rig, "routes vanished in bulk, kept for now"), "the loss noticed")
        kept.publish()
        wait_until(lambda: rig.answerer(forgotten.path) == "frontend", "what nobody wrote again gone")
    assert set(answers) == {kept.user}


def test_routes_deleted_in_bulk_and_written_again_are_never_missing(rig: Rig) -> None:
    servers = [rig.server().publish() for _ in range(4)]
    for server in servers:
        server.wait_routed()
    with asking(servers[0]) as answers:
        requests.delete(f"{rig.consul_url}/v1/kv/{rig.keys.routes}?recurse", timeout=10).raise_for_status()
        wait_until(lambda: logged(rig, "routes vanished in bulk, kept for now"), "the loss noticed")
        for server in servers:
            server.publish()
        count = len(answers)
        wait_until(lambda: len(answers) > count + 20, "more answers")
    assert set(answers) == {servers[0].user}


def test_an_open_websocket_survives_everything_but_haproxy(rig: Rig) -> None:
    server, other = rig.server().publish().wait_routed(), rig.server()
    assert rig.sync is not None
    url = f"ws://127.0.0.1:{rig.port}{server.path}ws"
    with contextlib.closing(websocket.create_connection(url, timeout=10)) as connection:

        def still_echoes(text: str) -> None:
            connection.send(text)
            assert connection.recv() == text

        still_echoes("one")
        other.publish().wait_routed()
        still_echoes("while routes change")
        rig.sync.kill()
        rig.start_sync()
        wait_until(lambda: logged(rig, "haproxy connected") >= 2, "the new sync")
        still_echoes("after the sync's restart")
        server.withdraw()
        wait_until(lambda: rig.answerer(server.path) == "frontend", "the withdrawn route gone")
        still_echoes("until its server stops")


def test_a_port_that_is_used_again_leads_to_its_new_user_only(rig: Rig) -> None:
    first = rig.server().publish().wait_routed()
    first.process.kill()
    second = rig.server(port=first.port).publish().wait_routed()
    # The first one's record is still in Consul: its agent was too slow.
    assert rig.store.get(rig.keys.route(first.user)) is not None
    assert rig.answerer(first.path) == "frontend"
    second.withdraw()
    wait_until(lambda: rig.answerer(second.path) == "frontend", "the second route gone")


def test_a_connection_to_a_former_server_is_not_used_for_the_next(rig: Rig) -> None:
    first = rig.server().publish().wait_routed()
    with requests.Session() as session:
        assert session.get(rig.url + first.path, timeout=10).json()["name"] == first.user
        first.process.kill()
        second = rig.server(port=first.port).publish()
        second.wait_routed()
        assert session.get(rig.url + first.path, timeout=10).json()["name"] == "frontend"
        assert session.get(rig.url + second.path, timeout=10).json()["name"] == second.user


def test_malformed_records_stop_nothing(rig: Rig) -> None:
    good = rig.server().publish().wait_routed()
    rig.store.put(rig.keys.routes + "Not A User", b"{}")
    rig.store.put(rig.keys.route("aaaaaaaaaaaa"), b"\xff\x00 not json")
    rig.store.put(rig.keys.route(good.user), b'{"v": 1, "user": "' + good.user.encode() + b'"}')
    after = rig.server().publish().wait_routed()
    assert good.is_routed(), "the previous good target stays"
    assert rig.answerer("/user/aaaaaaaaaaaa/") == "frontend"
    assert logged(rig, "malformed record skipped") == 3
    assert after.is_routed()


def test_the_sync_stops_cleanly_and_leaves_the_catalogue(rig: Rig) -> None:
    def registered() -> bool:
        found = requests.get(f"{rig.consul_url}/v1/health/service/tmpnb-proxy?passing", timeout=5).json()
        return any(entry["Service"]["ID"] == f"tmpnb-proxy-{rig.cluster}-proxy-1" for entry in found)

    wait_until(registered, "the proxy in Consul's catalogue")
    assert rig.sync is not None
    assert rig.sync.terminate() == 0
    assert not registered()
    assert logged(rig, "stopped") == 1

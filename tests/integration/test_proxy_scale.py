"""Ten thousand routes, several frontends, and addresses of both kinds."""

import socket
import subprocess
from collections.abc import Callable

import requests

from common.ids import new_user
from tests.integration.conftest import DockerImages
from tests.support.proxy_rig import Rig, free_port
from tests.support.waiting import wait_until


def table(rig: Rig) -> dict[str, str]:
    """HAProxy's table, asked of HAProxy."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(rig.run_dir / "haproxy.sock"))
        connection.sendall(b"show map /run/tmpnb/routes.map\n")
        text = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    return {fields[1]: fields[2] for line in text.splitlines() if len(fields := line.split(" ")) == 3}


def test_ten_thousand_routes_come_change_and_outlive_haproxy(rig: Rig) -> None:
    users = [new_user() for _ in range(10_000)]
    targets = {user: f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}:8888" for n, user in enumerate(users)}
    expected = {user: f"8888@{target.partition(':')[0]}" for user, target in targets.items()}
    rig.write_routes(targets)
    wait_until(lambda: table(rig) == expected, "the whole table", timeout_s=60, every_s=0.5)

    server = rig.server().publish().wait_routed()
    for user in users[:20]:
        rig.store.delete(rig.keys.route(user))
        del expected[user]
    moved = {user: f"10.200.0.{n}:9999" for n, user in enumerate(users[20:40])}
    rig.write_routes(moved)
    expected |= {user: f"9999@{target.partition(':')[0]}" for user, target in moved.items()}
    expected[server.user] = f"{server.port}@{rig.gateway}"
    # Routes that move while others of their shard come or go are seen with the next whole reading.
    wait_until(lambda: table(rig) == expected, "the changes", timeout_s=60, every_s=0.5)

    rig.restart_haproxy()
    server.wait_routed()
    assert table(rig) == expected
    assert rig.sync is not None
    connected = '"event": "haproxy connected"'
    # HAProxy routes from its file before the sync is connected again.
    wait_until(lambda: rig.sync_log().count(connected) >= 2, "the sync connected to the restarted HAProxy")
    count = rig.sync_log().count(connected)
    rig.sync.kill()
    rig.start_sync()
    wait_until(lambda: rig.sync_log().count(connected) > count, "the new sync")
    assert table(rig) == expected


def test_an_ipv6_server_is_reached(rig: Rig) -> None:
    """HAProxy's own loopback has IPv6 where the kernel has: it is its own server here."""
    user = new_user()
    rig.write_route(user, "[::1]:8000")
    wait_until(lambda: table(rig).get(user) == "8000@::1", "the route")
    # It listens on IPv4 only, so that the refusal comes from ::1.
    assert rig.get(f"/user/{user}/").json() == {"status": "unreachable"}


def test_without_a_frontend_people_and_programs_are_told(rig: Rig) -> None:
    server = rig.server().publish().wait_routed()
    rig.frontend.kill()
    wait_until(lambda: rig.get("/api/stats").status_code == 503, "the frontend's end noticed")
    wait_until(lambda: "unavailable" in rig.get("/api/stats").text, "programs told in JSON")
    answer = rig.get("/api/stats", Accept="application/json")
    assert (answer.status_code, answer.json(), answer.headers["Retry-After"]) == (503, {"status": "unavailable"}, "5")
    answer = rig.get("/", Accept="text/html")
    assert answer.status_code == 503
    assert "cluster is not reachable" in answer.text
    assert 'http-equiv="refresh"' in answer.text
    assert server.is_routed(), "users' servers stay reachable"
    rig.echo("frontend", "/", rig.frontend_port)
    wait_until(lambda: rig.answerer("/") == "frontend", "the frontend back")


def test_every_address_of_the_frontends_name_is_a_replica(
    make_rig: Callable[..., Rig], docker_images: DockerImages
) -> None:
    rig = make_rig(TMPNB_FRONTEND="replicas:9999", TMPNB_TABLE_WAIT_S="0")
    rig.start_haproxy()

    def replica(name: str) -> str:
        """One more frontend, under the name that all share on the rig's network."""
        where = ["--network", rig.network, "--network-alias", "replicas"]
        run = ["docker", "run", "--rm", "-d", *where, docker_images.echo, "echo-server", "--port", "9999"]
        return subprocess.run([*run, "--name", name], check=True, capture_output=True, text=True).stdout.strip()

    def answerers() -> set[str | None]:
        return {rig.answerer("/") for _ in range(20)}

    containers = [replica("one"), replica("two")]
    try:
        wait_until(lambda: answerers() == {"one", "two"}, "both replicas")
        containers.append(replica("three"))
        wait_until(lambda: answerers() == {"one", "two", "three"}, "a replica that joined")
        subprocess.run(["docker", "rm", "-f", containers.pop(0)], check=True, capture_output=True)
        wait_until(lambda: answerers() == {"two", "three"}, "a replica that left")
    finally:
        subprocess.run(["docker", "rm", "-f", *containers], check=True, capture_output=True)


def test_the_light_server_runs_in_its_image(docker_images: DockerImages) -> None:
    port = free_port("127.0.0.1")
    command = ["echo-server", "--base-path", "/user/aaaaaaaaaaaa/", "--name", "boxed"]
    run = ["docker", "run", "--rm", "-d", "-p", f"127.0.0.1:{port}:8888", docker_images.echo, *command]
    container = subprocess.run(run, check=True, capture_output=True, text=True).stdout.strip()
    try:

        def name() -> str | None:
            try:
                return str(requests.get(f"http://127.0.0.1:{port}/user/aaaaaaaaaaaa/", timeout=2).json()["name"])
            except requests.RequestException:
                return None

        assert wait_until(name, "the light server") == "boxed"
        assert requests.get(f"http://127.0.0.1:{port}/", timeout=2).status_code == 404
    finally:
        subprocess.run(["docker", "rm", "-f", container], check=True, capture_output=True)

"""A routed request over TLS with the seat check, against the same HAProxy with TLS and without our rules.

    python -m tests.bench.bench_edge [rounds]

10,000 routes, each with a seat; keep-alive connections of wrk. Both ways lead to the same origin, through the same
process, with the same certificate and the same request: once a browser's, with its cookie among its usual headers, and
once a program's, with its header. Needs Docker, the images and wrk (a Debian package).
"""

import contextlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from common.ids import digest, new_seat_key, new_user
from tests.bench.bench_proxy import CONNECTIONS, HERE, ROUTES, address_of, container, requests_per_s
from tests.bench.figures import heading, rounds_asked, show
from tests.conftest import CONSUL_IMAGE
from tests.support.proxy_rig import CONFIG, HAPROXY_IMAGE, Rig
from tests.support.waiting import wait_until

NAME = "workshop.example.org"
PORTS = {"bare": 8445, "ours": 8443}
# As ours listens; in its place where the static server listens without TLS.
PLAIN = "bind :8001"
TLS = f'bind :{PORTS["bare"]} tcp-ut 15m ssl crt-list "${{TMPNB_RUN_DIR}}/certs/list" alpn h2,http/1.1'


@dataclass(frozen=True)
class Seat:
    """A server with a key."""

    user: str
    key: str

    @property
    def path(self) -> str:
        return f"/user/{self.user}/"

    def browser(self, site: str) -> list[str]:
        """What Chromium sends with a request of JupyterLab's page; wrk adds Host."""
        return [
            "Connection: keep-alive",
            'sec-ch-ua-platform: "Linux"',
            "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 "
            "Safari/537.36",
            'sec-ch-ua: "Chromium";v="142", "Not_A Brand";v="99"',
            "Content-Type: application/json",
            "sec-ch-ua-mobile: ?0",
            "Accept: */*",
            "Sec-Fetch-Site: same-origin",
            "Sec-Fetch-Mode: cors",
            "Sec-Fetch-Dest: empty",
            f"Referer: {site}{self.path}lab/tree/Untitled.ipynb",
            "Accept-Encoding: gzip, deflate, br, zstd",
            "Accept-Language: en-GB,en;q=0.9",
            f"Cookie: __Http-tmpnb-seat={self.key}; _xsrf=2|0a1b2c3d|{'0123456789abcdef' * 2}|1764230000; "
            f"username-{self.user}=2|1:0|10:1764230000|{'A' * 100}",
            f"X-XSRFToken: 2|0a1b2c3d|{'0123456789abcdef' * 2}|1764230000",
        ]

    def program(self) -> list[str]:
        return [f"X-Tmpnb-Seat: {self.key}", "Accept: application/json"]


def write_config(rig: Rig, origin: str) -> None:
    """Our configuration, and the static server beside it with the same TLS."""
    shutil.copytree(CONFIG, rig.config)
    ours = (rig.config / "haproxy.cfg").read_text()
    bare = (HERE / "proxy_static.cfg").read_text().replace("${BENCH_ORIGIN}", f"{origin}:8080")
    for what, text in ((PLAIN, bare), (TLS.replace(f":{PORTS['bare']}", f":{PORTS['ours']}"), ours)):
        if what not in text:
            raise RuntimeError(f"the configuration has changed: no {what!r} in it")
    (rig.config / "haproxy.cfg").write_text("\n".join((ours, bare.replace(PLAIN, TLS))))
    rig.env["TMPNB_FRONTEND"] = f"{origin}:9999"


def bench_edge(rig: Rig, seat: Seat, rounds: int) -> None:
    """In turns, so that whatever else the machine does meets both."""
    address = rig.haproxy_address()
    for who, headers in (
        ("a browser", seat.browser(f"https://{address}:{PORTS['ours']}")),
        ("a program", seat.program()),
    ):
        found: dict[str, list[float]] = {name: [] for name in PORTS}
        for _ in range(rounds):
            for name, port in PORTS.items():
                found[name].append(requests_per_s(f"https://{address}:{port}{seat.path}", *headers))
        show(f"requests of {who} over TLS, no rules, {CONNECTIONS} connections", found["bare"], "1/s")
        show(f"requests of {who} over TLS, {ROUTES} routes with seats", found["ours"], "1/s")
        ratios = [100 * ours / bare for ours, bare in zip(found["ours"], found["bare"], strict=True)]
        show("ours : no rules, of the same round", ratios, "%", ">= 85")


def main() -> None:
    rounds = rounds_asked(9)
    origin_config = f"{HERE / 'proxy_origin.cfg'}:/usr/local/etc/haproxy/haproxy.cfg:ro"
    with (
        tempfile.TemporaryDirectory() as name,
        container(CONSUL_IMAGE, "agent", "-dev", "-client=0.0.0.0") as consul,
    ):
        (Path(name) / "rig").mkdir()
        env = {"TMPNB_DOMAIN": NAME, "TMPNB_TLS": "files"}
        rig = Rig(f"http://{address_of(consul)}:8500", Path(name) / "rig", env, config=Path(name) / "haproxy")
        with (
            contextlib.closing(rig),
            container("--network", rig.network, "-v", origin_config, HAPROXY_IMAGE) as identity,
        ):
            origin = address_of(identity)
            write_config(rig, origin)
            measure(rig, origin, rounds)


def measure(rig: Rig, origin: str, rounds: int) -> None:
    rig.start_sync(activity_period="30")
    wait_until(lambda: '"event": "service registered"' in rig.sync_log(), "the sync and its Consul")
    rig.start_haproxy()
    seats = [Seat(new_user(), new_seat_key()) for _ in range(ROUTES)]
    rig.write_routes(
        {seat.user: f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}:8080" for n, seat in enumerate(seats)},
        {seat.user: digest(seat.key) for seat in seats},
    )
    mine = seats[0]
    rig.write_route(mine.user, f"{origin}:8080", seat=digest(mine.key))
    wait_until(
        lambda: rig.get(mine.path, **{"X-Tmpnb-Seat": mine.key}).text == "server", "the first route", timeout_s=60
    )
    heading(f"The edge over TLS, {rounds} rounds")
    bench_edge(rig, mine, rounds)


if __name__ == "__main__":
    main()

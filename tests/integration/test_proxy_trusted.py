"""Somebody else's terminator in front: who is believed, and what limits, applications and the log then know.

The terminators are real: nginx with TLS, one and two in a row, and an HAProxy that speaks the PROXY protocol.
"""

import contextlib
import json
import os
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
import requests
import websocket
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.conftest import DockerImages
from tests.support.proxy_rig import HAPROXY_IMAGE, Rig, Server, free_port
from tests.support.terminator import INNER, OUTERMOST, certificate, client, terminator
from tests.support.waiting import wait_until

# Loopback addresses of this file's own, so that port 8443 is free there.
OUTER, MIDDLE, VISITOR = "127.0.77.1", "127.0.77.2", "127.0.77.7"
SITE = f"https://{OUTER}:8443"
FORGED = {
    "X-Forwarded-For": "203.0.113.66",
    "X-Forwarded-Proto": "ftp",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Port": "1",
    "X-Real-IP": "203.0.113.66",
    "Forwarded": "for=203.0.113.66;proto=ftp;host=evil.example",
}


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("certificate"), "DNS:lab.example", f"IP:{OUTER}", "IP:127.0.0.1")


def running(rig: Rig) -> Rig:
    rig.start_sync()
    rig.start_haproxy()
    rig.wait_ready()
    return rig


@pytest.fixture(scope="module")
def behind(consul_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server behind a proxy tier that believes this machine and the terminators of this file, and nobody else."""
    rig = Rig(
        consul_url,
        tmp_path_factory.mktemp("rig"),
        {"TMPNB_TRUSTED_PROXIES": f"gateway, {OUTER},{MIDDLE}/32,2001:db8::/32"},
    )
    try:
        yield running(rig).server().publish().wait_routed()
    finally:
        rig.close()


@contextlib.contextmanager
def one(rig: Rig, folder: Path, certified: Path) -> Iterator[None]:
    """nginx with TLS in front of the proxy tier."""
    target = f"{rig.haproxy_address()}:8000"
    with terminator(folder, f"{OUTER}:8443", target, OUTERMOST, leaves_from=rig.gateway, certified=certified):
        yield


@contextlib.contextmanager
def two(rig: Rig, folder: Path, certified: Path) -> Iterator[None]:
    """nginx with TLS in front of another nginx in front of the proxy tier."""
    inner = f"{rig.gateway}:{free_port(rig.gateway)}"
    folder.mkdir(exist_ok=True)
    with (
        terminator(folder / "inner", inner, f"{rig.haproxy_address()}:8000", INNER, leaves_from=rig.gateway),
        terminator(folder / "outer", f"{OUTER}:8443", inner, OUTERMOST, leaves_from=MIDDLE, certified=certified),
    ):
        yield


@pytest.fixture(params=[one, two], ids=["one", "two in a row"])
def site(request: pytest.FixtureRequest, behind: Server, tmp_path: Path, certified: Path) -> Iterator[Server]:
    """The server, reachable at ``SITE`` through terminators."""
    with request.param(behind.rig, tmp_path, certified):
        yield behind


Told = tuple[str, str, str, str]
HTTPS: Told = (VISITOR, "https", "lab.example:8443", "8443")


def told(headers: dict[str, str]) -> Told:
    """What an application was told: the client, the scheme, the host, the port."""
    said = ("for", "proto", "host", "port")
    return tuple(headers[f"x-forwarded-{name}"] for name in said)  # type: ignore[return-value]


def test_b9_applications_and_frontends_know_client_scheme_and_port(site: Server, certified: Path) -> None:
    visitor = client(VISITOR, certified)
    for path in (site.path, "/"):
        assert told(visitor.get(SITE + path, headers={"Host": "lab.example:8443"}).json()["headers"]) == HTTPS
    assert visitor.get(SITE + site.path, headers={"Host": "lab.example:8443"}).json()["name"] == site.user


def test_b9_a_websocket_arrives_with_them(site: Server, certified: Path) -> None:
    url = f"wss://{OUTER}:8443{site.path}ws"
    tunnel = websocket.create_connection(url, timeout=20, sslopt={"ca_certs": str(certified)}, host="lab.example:8443")
    with contextlib.closing(tunnel):
        tunnel.send("there and back")
        assert tunnel.recv() == "there and back"


def test_what_a_client_says_about_itself_is_not_believed(site: Server, certified: Path) -> None:
    headers = (
        client(VISITOR, certified)
        .get(SITE + site.path, headers=FORGED | {"Host": "lab.example:8443"})
        .json()["headers"]
    )
    assert told(headers) == HTTPS
    assert not {"x-real-ip", "forwarded"} & set(headers)
    assert "203.0.113.66" not in json.dumps(headers)


def test_requests_of_one_kept_connection_are_of_the_clients_that_it_names(behind: Server) -> None:
    """A terminator uses its connections for everybody."""
    session = requests.Session()
    for address in ("192.0.2.1", "192.0.2.2", None, "2001:db7::3"):
        headers = {"X-Forwarded-For": address} if address else {}
        seen = session.get(behind.rig.url + behind.path, headers=headers).json()["headers"]["x-forwarded-for"]
        assert seen == (address or behind.rig.gateway)


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("203.0.113.66, 192.0.2.7", "192.0.2.7"),
        (f"203.0.113.66, 192.0.2.7, {OUTER}", "192.0.2.7"),
        (f"203.0.113.66,192.0.2.7,{MIDDLE},2001:db8::1,{OUTER},{MIDDLE}", "192.0.2.7"),
        (f"192.0.2.7,{OUTER},{OUTER},{OUTER},{OUTER},{OUTER}", OUTER),
        ("192.0.2.7:50123", "192.0.2.7"),
        ("2001:db9::7", "2001:db9::7"),
        (f"2001:db9::7, ::ffff:{OUTER}", "2001:db9::7"),
        (f"{OUTER}", OUTER),
        (f"{MIDDLE}, {OUTER}", MIDDLE),
        ("192.0.2.7, unknown", None),
        (f"192.0.2.7, unknown, {OUTER}", OUTER),
        ("", None),
        ("203.0.113.66, 999.0.0.1", None),
    ],
)
def test_the_client_is_the_last_address_that_is_no_terminators(behind: Server, sent: str, found: str | None) -> None:
    """What is no address ends the search: what stands before it may be anybody's claim."""
    seen = behind.rig.get(behind.path, **{"X-Forwarded-For": sent}).json()["headers"]["x-forwarded-for"]
    assert seen == (found or behind.rig.gateway)


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ({"Host": "lab.example:8443", "X-Forwarded-Proto": "https"}, ("https", "lab.example:8443", "8443")),
        ({"Host": "a:8443", "X-Forwarded-Proto": "https,http"}, ("https", "a:8443", "8443")),
        (
            {"Host": "a", "X-Forwarded-Proto": "https, http", "X-Forwarded-For": f"192.0.2.7, {OUTER}"},
            ("https", "a", "443"),
        ),
        ({"Host": "inner", "X-Forwarded-Host": "a.example:444, b"}, ("http", "a.example:444", "444")),
        ({"Host": "a", "X-Forwarded-Proto": "wss"}, ("https", "a", "443")),
        ({"Host": "a", "X-Forwarded-Proto": "gopher", "X-Forwarded-Port": "70000"}, ("http", "a", "80")),
        ({"Host": "a"}, ("http", "a", "80")),
    ],
)
def test_b9_a_terminator_may_say_little(behind: Server, sent: dict[str, str], seen: tuple[str, str, str]) -> None:
    assert told(behind.rig.get(behind.path, **sent).json()["headers"])[1:] == seen


def from_elsewhere(rig: Rig, image: str, headers: dict[str, str], path: str = "/") -> dict[str, str]:
    """What the frontend is told of a request from a container of the rig's network: it is no terminator."""
    program = (
        "import json, sys, urllib.request as u\n"
        "url, headers = json.loads(sys.argv[1])\n"
        "print(u.urlopen(u.Request(url, headers=headers), timeout=20).read().decode())"
    )
    url = f"http://{rig.haproxy_address()}:8000{path}"
    run = [
        "docker",
        "run",
        "--rm",
        "--network",
        rig.network,
        image,
        "python3",
        "-c",
        program,
        json.dumps([url, headers]),
    ]
    answer = json.loads(subprocess.run(run, check=True, capture_output=True, text=True).stdout)
    found: dict[str, str] = answer["headers"]
    return found


def test_who_is_not_listed_is_not_believed(behind: Server, docker_images: DockerImages) -> None:
    lies = FORGED | {"X-Forwarded-Proto": "https", "Host": "lab.example"}
    network = ip_network(f"{behind.rig.gateway}/16", strict=False)
    for path in ("/", behind.path):
        seen, *others = told(from_elsewhere(behind.rig, docker_images.echo, lies, path))
        assert others == ["http", "lab.example", "80"]
        assert ip_address(seen) in network
        assert seen != behind.rig.gateway


def test_the_log_names_the_client(behind: Server) -> None:
    behind.rig.get("/missing?status=500", **{"X-Forwarded-For": "203.0.113.1, 192.0.2.99"})
    line = wait_until(
        lambda: next((line for line in behind.rig.haproxy_log().splitlines() if "/missing" in line), ""), "the log line"
    )
    assert json.loads(line)["client"] == "192.0.2.99"


def test_a5_clients_of_a_terminator_are_limited_one_by_one(make_rig: Callable[..., Rig]) -> None:
    """And by the address that is theirs, whatever they claim."""
    rig = running(make_rig(TMPNB_ADDRESS_MAX="10", TMPNB_TRUSTED_PROXIES=f"gateway,{OUTER}"))
    server = rig.server().publish().wait_routed()

    def connect(said: str) -> websocket.WebSocket:
        url = f"ws://127.0.0.1:{rig.port}{server.path}ws"
        return websocket.create_connection(url, timeout=20, header=[f"X-Forwarded-For: {said}"])

    with contextlib.ExitStack() as open_ones:
        for number in range(10):
            open_ones.enter_context(contextlib.closing(connect(f"203.0.113.{number}, 192.0.2.7")))
        status = {
            said: rig.get("/", **{"X-Forwarded-For": said}).status_code
            for said in (f"203.0.113.200, 192.0.2.7, {OUTER}", "192.0.2.7", "192.0.2.8", "192.0.2.7, 192.0.2.8")
        }
        assert list(status.values()) == [429, 429, 200, 200]


# --- the PROXY protocol

V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 50123 443\r\n"
V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def v2(source: str, port: int, tlvs: bytes = b"") -> bytes:
    """Version 2, for a TCP connection over IPv6."""
    addresses = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, "2001:db9::1")
    body = addresses + struct.pack("!HH", 50123, port) + tlvs
    return V2_SIGNATURE + b"\x21\x21" + struct.pack("!H", len(body)) + body


def asked(rig: Rig, first: bytes, path: str, *headers: str) -> tuple[int, dict[str, str]]:
    """Status (0: closed without one) and told headers of a request on a connection that begins with ``first``."""
    lines = [f"GET {path} HTTP/1.1", "Host: lab.example", "Connection: close", *headers, "", ""]
    answer = b""
    connection = socket.create_connection(("127.0.0.1", rig.port), timeout=10)
    with contextlib.closing(connection), contextlib.suppress(ConnectionError):
        connection.sendall(first + "\r\n".join(lines).encode())
        while piece := connection.recv(65536):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1]) if head else 0
    return status, json.loads(body)["headers"] if status == 200 else {}


@pytest.fixture(scope="module")
def proxied(consul_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server behind a proxy tier to which this machine has to speak the PROXY protocol."""
    env = {"TMPNB_TRUSTED_PROXIES": f"gateway,{OUTER},10.9.0.0/16", "TMPNB_PROXY_PROTOCOL": "1"}
    rig = Rig(consul_url, tmp_path_factory.mktemp("rig"), env)
    try:
        rig.start_sync()
        rig.start_haproxy()
        wait_until(lambda: asked(rig, V1, "/")[0] == 200, "HAProxy and the frontend behind it")
        server = rig.server().publish()
        wait_until(lambda: asked(rig, V1, server.path)[0] == 200, "the route")
        yield server
    finally:
        rig.close()


PP2_TLS = b"\x20\x00\x05\x01\x00\x00\x00\x00"
PP2_NO_TLS = b"\x20\x00\x05\x00\x00\x00\x00\x00"


@pytest.mark.parametrize(
    ("first", "seen"),
    [
        (V1, ("192.0.2.7", "https", "lab.example", "443")),
        (V1.replace(b" 443", b" 80"), ("192.0.2.7", "http", "lab.example", "80")),
        (v2("2001:db9::7", 8443), ("2001:db9::7", "https", "lab.example", "443")),
        (v2("2001:db9::7", 7777, PP2_TLS), ("2001:db9::7", "https", "lab.example", "443")),
        (v2("2001:db9::7", 7777, PP2_NO_TLS), ("2001:db9::7", "http", "lab.example", "80")),
    ],
    ids=["version 1", "version 1, port 80", "version 2", "version 2 with TLS", "version 2 without"],
)
def test_the_proxy_protocol_says_who_the_client_is(proxied: Server, first: bytes, seen: Told) -> None:
    for path in (proxied.path, "/"):
        status, headers = asked(proxied.rig, first, path, *(f"{name}: {value}" for name, value in FORGED.items()))
        assert (status, told(headers)) == (200, seen)


def test_behind_another_terminator_its_headers_count(proxied: Server) -> None:
    first = V1.replace(b"192.0.2.7", OUTER.encode())
    said = ("X-Forwarded-For: 203.0.113.66, 192.0.2.8", "X-Forwarded-Proto: https", "X-Forwarded-Host: a.example:8443")
    assert told(asked(proxied.rig, first, proxied.path, *said)[1]) == ("192.0.2.8", "https", "a.example:8443", "8443")


@pytest.mark.parametrize(
    "first", [b"", b"PROXY nonsense\r\n", b"PROXY TCP4 1.2.3.4\r\n", V2_SIGNATURE + b"\xff\xff\x00\x00"]
)
def test_a_terminator_that_does_not_speak_it_is_cut_off(proxied: Server, first: bytes) -> None:
    assert asked(proxied.rig, first, "/")[0] == 0


def test_who_is_not_listed_cannot_speak_it(proxied: Server, docker_images: DockerImages) -> None:
    """Nor needs to: a host of the same network is served as the one that it is."""
    program = (
        "import socket, sys\n"
        "c = socket.create_connection((sys.argv[1], 8000), 10)\n"
        "c.sendall(bytes.fromhex(sys.argv[2]) + b'GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n')\n"
        "print(c.makefile('rb').read().decode())"
    )
    address = proxied.rig.haproxy_address()
    run = [
        "docker",
        "run",
        "--rm",
        "--network",
        proxied.rig.network,
        docker_images.echo,
        "python3",
        "-c",
        program,
        address,
    ]
    for first, status in ((V1, "400"), (v2("2001:db9::7", 443), "400"), (b"", "200")):
        answer = subprocess.run([*run, first.hex()], check=True, capture_output=True, text=True).stdout
        assert answer.split(" ")[1] == status
        assert "192.0.2.7" not in answer


TERMINATOR_CFG = """
resolvers docker
    parse-resolv-conf
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend tls
    bind :8443 ssl crt /certificate.pem
    default_backend site
backend site
    server site tmpnb-{cluster}-haproxy:8000 send-proxy-v2-ssl resolvers docker init-addr none
"""


@contextlib.contextmanager
def balancer(rig: Rig, folder: Path, certified: Path) -> Iterator[tuple[str, int]]:
    """HAProxy as a TCP balancer that ends TLS, in a container: its address, and its port on 127.0.0.1."""
    config, port = folder / "balancer.cfg", free_port("127.0.0.1")
    config.write_text(TERMINATOR_CFG.format(cluster=rig.cluster))
    certified.chmod(0o644)
    mounts = ["-v", f"{config}:/balancer.cfg:ro", "-v", f"{certified}:/certificate.pem:ro"]
    run = ["docker", "run", "--detach", "--network", rig.network, "-p", f"127.0.0.1:{port}:8443", *mounts]
    command = [*run, HAPROXY_IMAGE, "haproxy", "-W", "-db", "-f", "/balancer.cfg"]
    container = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    where = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    try:
        inspect = ["docker", "inspect", "--format", where, container]
        yield subprocess.run(inspect, check=True, capture_output=True, text=True).stdout.strip(), port
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", container], check=True, capture_output=True)


def test_a_terminator_that_cannot_add_headers(make_rig: Callable[..., Rig], certified: Path, tmp_path: Path) -> None:
    rig = make_rig(TMPNB_PROXY_PROTOCOL="1")
    with balancer(rig, tmp_path, certified) as (address, port):
        rig.env["TMPNB_TRUSTED_PROXIES"] = address
        running(rig)
        server = rig.server().publish().wait_routed()
        visitor = client("127.0.0.1", certified)

        def headers() -> dict[str, str]:
            with contextlib.suppress(requests.RequestException):
                sent = FORGED | {"Host": "lab.example"}
                found: dict[str, str] = visitor.get(f"https://127.0.0.1:{port}{server.path}", headers=sent).json()[
                    "headers"
                ]
                return found
            return {}

        # Docker's own port proxy is the client here.
        assert told(wait_until(headers, "the balancer")) == (rig.gateway, "https", "lab.example", "443")
        url = f"wss://127.0.0.1:{port}{server.path}ws"
        tunnel = websocket.create_connection(url, timeout=20, sslopt={"ca_certs": str(certified)})
        with contextlib.closing(tunnel):
            tunnel.send("there and back")
            assert tunnel.recv() == "there and back"


# --- settings

START = Path(__file__).parents[2] / "proxy" / "haproxy" / "start.sh"


def start(folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """start.sh where there is no HAProxy: it ends at a setting, or for want of it."""
    paths = {"PATH": os.environ["PATH"], "TMPNB_RUN_DIR": str(folder), "TMPNB_TABLE_WAIT_S": "0"}
    return subprocess.run(["sh", str(START)], env=paths | env, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("localhost", "localhost"),
        ("10.0.0.256", "10.0.0.256"),
        ("10.0.0", "10.0.0"),
        ("10.0.0.010", "10.0.0.010"),
        ("10.0.0.0/33", "10.0.0.0/33"),
        ("10.0.0.0/", "10.0.0.0/"),
        ("::/129", "::/129"),
        ("1::2::3", "1::2::3"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("10.0.0.1,*", "*"),
        ("10.0.0.1; id", "10.0.0.1;"),
        ("[::1]", "[::1]"),
        ("10.0.0.1:80", "10.0.0.1:80"),
        ("10.0.0.1-10.0.0.9", "10.0.0.1-10.0.0.9"),
        ("!10.0.0.1", "!10.0.0.1"),
        ("-f/etc/passwd", "-f/etc/passwd"),
    ],
)
def test_an_address_that_is_none_is_refused_at_the_start(tmp_path: Path, value: str, named: str) -> None:
    done = start(tmp_path, TMPNB_TRUSTED_PROXIES=value)
    assert done.returncode == 2
    assert done.stderr.startswith(f"settings: TMPNB_TRUSTED_PROXIES: '{named}'; accepted: addresses and networks, ")


@pytest.mark.parametrize("value", ["yes", "2", "-1"])
def test_so_is_a_switch_that_is_none(tmp_path: Path, value: str) -> None:
    done = start(tmp_path, TMPNB_PROXY_PROTOCOL=value)
    assert (done.returncode, done.stderr) == (
        2,
        f"settings: TMPNB_PROXY_PROTOCOL: '{value}'; accepted: a whole number from 0 to 1\n",
    )


def test_the_proxy_protocol_of_nobody_is_refused(tmp_path: Path) -> None:
    done = start(tmp_path, TMPNB_PROXY_PROTOCOL="1", TMPNB_TRUST_FORWARDED="1")
    assert done.returncode == 2
    assert "TMPNB_PROXY_PROTOCOL: '1'; accepted: 1 together with TMPNB_TRUSTED_PROXIES" in done.stderr


def test_trusting_everybody_is_warned_of(tmp_path: Path) -> None:
    warning = '"level": "WARNING", "event": "TMPNB_TRUST_FORWARDED=1 '
    assert warning + "believes whoever" in start(tmp_path, TMPNB_TRUST_FORWARDED="1").stdout
    both = start(tmp_path, TMPNB_TRUST_FORWARDED="1", TMPNB_TRUSTED_PROXIES="10.0.0.1")
    assert warning + "is not needed" in both.stdout
    assert warning not in start(tmp_path, TMPNB_TRUSTED_PROXIES="10.0.0.1").stdout


def test_addresses_are_those_that_others_call_so() -> None:
    """Python's own reading of the same texts, in one run of the shell."""
    script = (
        f'. {START.with_name("addresses.sh")}; while read -r text; do is_network "$text" && echo yes || echo no; done'
    )
    texts: list[str] = []

    @given(
        st.one_of(
            st.ip_addresses().map(str),
            st.ip_addresses(v=6).map(lambda address: address.exploded.upper()),
            st.from_regex(r"\A[0-9a-f:.]{1,20}(/[0-9]{1,3})?\Z"),
            st.from_regex(r"\A([0-9a-f]{0,4}:){2,8}[0-9a-f]{0,5}(/[0-9]{1,3})?\Z"),
            st.from_regex(r"\A([0-9]{1,3}\.){3}[0-9]{1,3}(/[0-9]{1,2})?\Z"),
            st.from_regex(r"\A([0-9a-f]{0,4}:){2,7}([0-9]{1,3}\.){3}[0-9]{1,3}\Z"),
        )
    )
    def collect(text: str) -> None:
        texts.append(text)

    collect()
    shell = subprocess.run(
        ["sh", "-euf", "-c", script], input="\n".join(texts) + "\n", check=True, capture_output=True, text=True
    )
    assert dict(zip(texts, shell.stdout.split(), strict=True)) == {text: said(text) for text in texts}


def said(text: str) -> str:
    # Python takes a mask in place of a length, and lengths with noughts in front.
    prefix = text.partition("/")[2]
    if prefix and (not prefix.isdigit() or (prefix.startswith("0") and prefix != "0")):
        return "no"
    try:
        ip_network(text, strict=False)
    except ValueError:
        return "no"
    return "yes"

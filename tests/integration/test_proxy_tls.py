"""TLS at the edge, with a real HAProxy: what it speaks, where plain http leads, and what becomes of certificates."""

import contextlib
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
import websocket
from cryptography import x509

from common.ids import new_user
from proxy.certificates.made import MAKER
from tests.support.authority import Authority, key_pem, new_key
from tests.support.proxy_rig import Rig, Server
from tests.support.waiting import wait_until

DOMAIN, USERS = "workshop.example", "users.example"
FILES = {"TMPNB_DOMAIN": DOMAIN, "TMPNB_TLS": "files"}
YEAR = "max-age=31536000"


@pytest.fixture(scope="module")
def edge(consul_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A proxy tier that speaks TLS, for tests that leave its parts and its certificates alone."""
    rig = Rig(consul_url, tmp_path_factory.mktemp("rig"), FILES)
    try:
        rig.start_sync()
        rig.start_haproxy()
        rig.wait_ready()
        yield rig
    finally:
        rig.close()


@pytest.fixture
def own_edge(make_rig: Callable[..., Rig]) -> Rig:
    """The same for one test that changes them."""
    rig = make_rig(**FILES)
    rig.start_sync()
    rig.start_haproxy()
    rig.wait_ready()
    return rig


@pytest.fixture(scope="module")
def alice(edge: Rig) -> Server:
    return edge.server().publish().wait_routed()


def shown(rig: Rig, name: str | None = DOMAIN) -> x509.Certificate:
    """The certificate that HAProxy shows who asks for that name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", rig.https_port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as connection,
    ):
        der = connection.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der)


def serial(pem: bytes) -> int:
    return x509.load_pem_x509_certificate(pem).serial_number


def handshake(rig: Rig, *options: str) -> str:
    """What OpenSSL says about a handshake with these options."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{rig.https_port}", "-servername", DOMAIN, *options]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=20)
    return (done.stdout + done.stderr).decode("utf-8", "replace")


# --- what is spoken


@pytest.mark.parametrize(("option", "version"), [("--http2", 20), ("--http1.1", 11)])
def test_http_2_and_1_1_lead_to_the_frontends_and_to_servers(
    edge: Rig, alice: Server, option: str, version: int
) -> None:
    for path, name in (("/", "frontend"), (alice.path, alice.user)):
        answer = edge.curl(path, option)
        assert (answer.status_code, answer.raw.version) == (200, version)
        assert answer.json()["name"] == name
        assert answer.headers["Strict-Transport-Security"] == YEAR


def test_servers_and_frontends_are_told_the_scheme_and_the_port_of_the_browser(edge: Rig, alice: Server) -> None:
    for path in ("/", alice.path):
        headers = edge.curl(path, "-H", "X-Forwarded-Proto: http", "-H", "X-Forwarded-Port: 1").json()["headers"]
        assert headers["x-forwarded-proto"] == "https"
        assert headers["x-forwarded-port"] == str(edge.https_port)
        assert headers["x-forwarded-host"] == f"{DOMAIN}:{edge.https_port}"
        # A browser leaves the default port out.
        headers = edge.curl(path, "-H", f"Host: {DOMAIN}").json()["headers"]
        assert (headers["x-forwarded-host"], headers["x-forwarded-port"]) == (DOMAIN, "443")


@pytest.mark.parametrize("option", ["-tls1", "-tls1_1"])
def test_old_tls_is_refused(edge: Rig, option: str) -> None:
    """Our own client is asked to have no scruples, so that it is HAProxy that refuses."""
    said = handshake(edge, option, "-cipher", "ALL:@SECLEVEL=0")
    assert "protocol version" in said, said
    assert "BEGIN CERTIFICATE" not in said


@pytest.mark.parametrize(
    "cipher", ["AES128-SHA", "AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384", "aNULL"]
)
def test_weak_ciphers_are_refused(edge: Rig, cipher: str) -> None:
    """Without forward secrecy, with CBC, without a certificate."""
    said = handshake(edge, "-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0")
    assert "handshake failure" in said, said
    assert "BEGIN CERTIFICATE" not in said


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_session_is_resumed_without_a_ticket(edge: Rig, tmp_path: Path, version: str) -> None:
    """A ticket's key would live as long as HAProxy, and open what was recorded all that time."""
    kept = str(tmp_path / "session")
    command = [
        "curl", "--silent", "--output", "/dev/null", "--cacert", str(edge.root_file), "--noproxy", "*",
        "--write-out", "%{http_code}\\n", "--connect-to", f"::127.0.0.1:{edge.https_port}", f"{edge.https_url}/",
    ]  # fmt: skip
    assert subprocess.run(command, capture_output=True, text=True, timeout=20).stdout == "200\n"
    request = f"GET /_health HTTP/1.1\r\nHost: {DOMAIN}\r\nConnection: close\r\n\r\n".encode()
    base = ["openssl", "s_client", "-connect", f"127.0.0.1:{edge.https_port}", "-servername", DOMAIN, version]
    subprocess.run([*base, "-sess_out", kept, "-ign_eof"], input=request, capture_output=True, timeout=20)
    again = subprocess.run([*base, "-sess_in", kept, "-ign_eof"], input=request, capture_output=True, timeout=20)
    assert b"Reused, TLS" in again.stdout
    session = subprocess.run(["openssl", "sess_id", "-in", kept, "-text", "-noout"], capture_output=True, text=True)
    ticket = [line for line in session.stdout.splitlines() if line.lstrip().startswith(("0020", "0010 - "))]
    # A stateful one is the session's number; an encrypted state is hundreds of bytes.
    assert len(ticket) <= 2, session.stdout


def test_a_websocket_passes_over_tls(edge: Rig, alice: Server) -> None:
    with contextlib.closing(opened(edge, alice)) as tunnel:
        tunnel.send("hello")
        assert tunnel.recv() == "hello"


def opened(rig: Rig, server: Server) -> websocket.WebSocket:
    return websocket.create_connection(
        f"wss://127.0.0.1:{rig.https_port}{server.path}ws",
        host=f"{DOMAIN}:{rig.https_port}",
        sslopt={"ca_certs": str(rig.root_file), "server_hostname": DOMAIN, "check_hostname": False},
        timeout=20,
    )


def test_plain_http_at_the_port_of_tls_is_closed_and_said_in_the_log_as_json(edge: Rig) -> None:
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{edge.https_port}/", timeout=10)
    lines = wait_until(
        lambda: [line for line in edge.haproxy_log().splitlines() if '"event": "connection"' in line], "a line about it"
    )
    assert "SSL handshake" in json.loads(lines[-1])["error"]


def test_an_address_s_requests_are_counted_as_well_where_one_connection_carries_many(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig(**FILES, TMPNB_ADDRESS_MAX="10")
    rig.start_sync()
    rig.start_haproxy()
    rig.wait_ready()
    server = rig.server().publish().wait_routed()
    # The first request makes the connection that the others share.
    each = ["--output", "/dev/null", f"{rig.https_url}{server.path}stream?n=15&every_ms=200&[1-30]"]
    command = [
        "curl",
        "--http2",
        "--parallel",
        "--parallel-max",
        "30",
        "--cacert",
        str(rig.root_file),
        "--noproxy",
        "*",
    ]
    connect = ["--connect-to", f"::127.0.0.1:{rig.https_port}", "--write-out", "%{http_code} %{num_connects}\n"]
    done = subprocess.run([*command, *connect, *each], capture_output=True, text=True, timeout=60)
    answers = [line.split() for line in done.stdout.splitlines()]
    assert sum(int(connects) for _, connects in answers) <= 10, done.stdout
    assert [status for status, _ in answers].count("200") == 10, done.stdout
    assert [status for status, _ in answers].count("429") == 20


# --- SNI and Host


@pytest.mark.parametrize("host", ["other.example", "127.0.0.1", f"{new_user()}.{USERS}"])
def test_the_host_alone_decides_whatever_the_name_of_the_handshake_is(edge: Rig, alice: Server, host: str) -> None:
    """Browsers share a connection between names that one certificate covers."""
    answer = edge.curl("/", "-H", f"Host: {host}")
    assert answer.json()["headers"]["x-forwarded-host"] == host
    assert edge.curl(alice.path, host="elsewhere.example", secure=False).json()["name"] == alice.user


def test_who_asks_for_no_name_or_an_unknown_one_is_shown_the_front_s(edge: Rig) -> None:
    front = shown(edge).serial_number
    assert {shown(edge, name).serial_number for name in (None, "127.0.0.1", "unknown.example")} == {front}


@pytest.mark.parametrize("option", ["--http2", "--http1.1"])
@pytest.mark.parametrize("host", ["", "a b", "a/b", "[::1", "a:99999999"])
def test_a_host_that_is_none_is_refused(edge: Rig, option: str, host: str) -> None:
    try:
        assert edge.curl("/", option, "-H", f"Host: {host}" if host else "Host;").status_code == 400
    except requests.ConnectionError as exc:
        assert "PROTOCOL_ERROR" in str(exc)  # noqa: PT017 the other way of HTTP/2 to say it


# --- plain http


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/spawn?a=1&b=%20", "/user/x/lab?token=1#f", "//double", "/.well-known/x"])
def test_plain_http_leads_to_tls_and_nowhere_else(edge: Rig, method: str, path: str) -> None:
    answer = requests.request(method, edge.url + path, headers={"Host": DOMAIN}, allow_redirects=False, timeout=10)
    assert answer.status_code == (302 if method in ("GET", "HEAD") else 308)
    assert answer.headers["Location"] == edge.https_url + path.partition("#")[0]
    assert "Strict-Transport-Security" not in answer.headers, "over plain http it says nothing"


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("workshop.example:80", DOMAIN),
        ("WORKSHOP.example", DOMAIN),
        (f"abc.{USERS}:8000", f"abc.{USERS}"),
        ("10.0.0.1:8000", "10.0.0.1"),
        ("[fd00::1]:80", "[fd00::1]"),
    ],
)
def test_it_leads_to_the_name_that_was_asked_for(edge: Rig, host: str, name: str) -> None:
    answer = requests.get(f"{edge.url}/x", headers={"Host": host}, allow_redirects=False, timeout=10)
    assert answer.headers["Location"] == f"https://{name}:{edge.https_port}/x"


def test_health_is_answered_at_both_ports(edge: Rig) -> None:
    assert requests.get(f"{edge.url}/_health", timeout=10).json() == {"status": "ok"}
    assert edge.curl("/_health").json() == {"status": "ok"}


@pytest.mark.parametrize("host", ["evil.example/x", "a@b", "a b"])
def test_it_leads_nowhere_for_a_host_that_is_none(edge: Rig, host: str) -> None:
    answer = requests.get(f"{edge.url}/x", headers={"Host": host}, allow_redirects=False, timeout=10)
    assert answer.status_code == 400
    assert "Location" not in answer.headers


class Challenges(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, *_: Any) -> None:
        pass


def test_an_authority_s_challenge_reaches_the_acme_client_over_plain_http(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(TMPNB_DOMAIN=DOMAIN)
    path = "/.well-known/acme-challenge/some-token"
    with HTTPServer((rig.gateway, 0), Challenges) as client:
        rig.env["TMPNB_ACME"] = f"{rig.gateway}:{client.server_port}"
        rig.start_sync()
        rig.start_haproxy()
        rig.wait_ready()
        threading.Thread(target=client.serve_forever, daemon=True).start()
        answer = rig.plain(path)
        assert (answer.status_code, answer.text) == (200, path)
        assert rig.plain("/.well-known/other").status_code == 302
        client.shutdown()
    assert rig.plain(path).status_code == 503, "it listens only while it is asked"


# --- Strict-Transport-Security


def test_hsts_is_on_every_answer_over_tls_and_a_server_has_no_say(edge: Rig, alice: Server) -> None:
    answers = [
        edge.curl("/_health"),
        edge.curl(f"/user/{new_user()}/"),
        edge.curl(f"{alice.path}?header=Strict-Transport-Security:%20max-age=0;%20includeSubDomains"),
        edge.curl("/", "-X", "TRACE"),
        edge.curl(alice.path[:-1]),
    ]
    assert [answer.raw.headers.getlist("Strict-Transport-Security") for answer in answers] == [[YEAR]] * len(answers)


def test_hsts_may_be_another_one(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(**FILES, TMPNB_HSTS_S="0")
    rig.start_sync()
    rig.start_haproxy()
    rig.wait_ready()
    assert rig.curl("/").headers["Strict-Transport-Security"] == "max-age=0", "browsers forget it"


def test_self_signed_ones_are_made_at_once_and_without_hsts(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(TMPNB_DOMAIN="localhost", TMPNB_USER_DOMAIN="localhost", TMPNB_TLS="self-signed")
    rig.start_sync()
    rig.start_haproxy()
    wait_until(lambda: answers(rig, secure=False), "HAProxy with a certificate of our own making")
    answer = rig.curl("/", secure=False)
    assert answer.json()["headers"]["x-forwarded-proto"] == "https"
    assert "Strict-Transport-Security" not in answer.headers
    for name in ("localhost", f"{new_user()}.localhost"):
        assert MAKER in shown(rig, name).subject.rfc4514_string()
    with pytest.raises(requests.ConnectionError, match="certificate"):
        rig.curl("/")


def answers(rig: Rig, **options: Any) -> bool:
    try:
        return rig.curl("/_health", **options).ok
    except requests.ConnectionError:
        return False


# --- certificates that change


def test_a_renewed_certificate_is_taken_up_under_load_without_a_failed_request_or_a_cut_websocket(
    own_edge: Rig,
) -> None:
    rig, server = own_edge, own_edge.server().publish().wait_routed()
    stop, failed, done = threading.Event(), [], []

    def visit(option: str) -> None:
        while not stop.is_set():
            try:
                answer = rig.curl(server.path, option)
                (done if answer.status_code == 200 else failed).append(answer.status_code)
            except requests.ConnectionError as exc:
                failed.append(str(exc))

    def stay() -> None:
        with requests.Session() as session:
            session.mount("https://", _Named())
            while not stop.is_set():
                try:
                    answer = session.get(
                        f"https://127.0.0.1:{rig.https_port}{server.path}", timeout=10, verify=str(rig.root_file)
                    )
                    (done if answer.ok else failed).append(answer.status_code)
                except requests.RequestException as exc:
                    failed.append(str(exc))

    with contextlib.closing(opened(rig, server)) as tunnel, ThreadPoolExecutor(5) as visitors:
        tasks = [visitors.submit(visit, option) for option in ("--http2", "--http1.1")] + [
            visitors.submit(stay) for _ in range(2)
        ]
        try:
            for _ in range(3):
                before, count = shown(rig).serial_number, len(done)
                rig.authority.file(rig.certs_dir / "cluster.pem", DOMAIN)
                wait_until(lambda old=before: shown(rig).serial_number != old, "the renewed certificate")
                wait_until(lambda old=count: len(done) > old + 20, "requests after it")
                tunnel.send("still there")
                assert tunnel.recv() == "still there"
        finally:
            stop.set()
        for task in tasks:
            task.result(30)
    assert failed == []
    assert len(done) > 60
    assert "New worker" in rig.haproxy_log()
    assert rig.haproxy_log().count("New worker") == 1, "no reload"
    assert "PRIVATE" not in rig.haproxy_log() + rig.sync_log()


class _Named(requests.adapters.HTTPAdapter):
    """Asks 127.0.0.1 by the cluster's name."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, server_hostname=DOMAIN, assert_hostname=DOMAIN, **options)


def bad_file(rig: Rig, kind: str) -> bytes:
    authority = rig.authority
    leaf, key = authority.certificate(DOMAIN)
    match kind:
        case "expired":
            return b"".join(authority.certificate(DOMAIN, begins_s=-90000, lasts_s=3600))
        case "foreign":
            return b"".join(authority.certificate("elsewhere.example"))
        case "key":
            return leaf + authority.chain + key_pem(new_key())
        case _:
            return (leaf + authority.chain + key)[:400]


@pytest.mark.parametrize("kind", ["expired", "foreign", "key", "malformed"])
def test_a_bad_certificate_in_the_place_of_the_good_one_is_not_used_and_said(own_edge: Rig, kind: str) -> None:
    rig, file = own_edge, own_edge.certs_dir / "cluster.pem"
    good = shown(rig).serial_number
    file.write_bytes(bad_file(rig, kind))
    wait_until(lambda: f"! cluster.pem: {kind}: " in status(rig), "a line about it")
    assert shown(rig).serial_number == good
    # Not even a restart of both makes a difference.
    assert rig.sync is not None
    rig.sync.terminate()
    rig.start_sync()
    rig.restart_haproxy()
    rig.wait_ready()
    assert shown(rig).serial_number == good
    assert '"certificate problem"' in rig.sync_log()
    assert f'"reason": "{kind}"' in rig.sync_log()
    rig.authority.file(file, DOMAIN)
    wait_until(lambda: shown(rig).serial_number != good, "the good one that follows")
    wait_until(lambda: "!" not in status(rig), "nothing to complain about")


def status(rig: Rig) -> str:
    with contextlib.suppress(OSError):
        return (rig.run_dir / "certificates.txt").read_text()
    return ""


@pytest.mark.parametrize("kind", ["expired", "foreign", "key", "malformed", "none"])
def test_with_nothing_but_a_bad_certificate_haproxy_starts_with_one_of_our_own_making(
    make_rig: Callable[..., Rig], kind: str
) -> None:
    rig = make_rig(**FILES)
    (rig.certs_dir / "cluster.pem").unlink()
    if kind != "none":
        (rig.certs_dir / "cluster.pem").write_bytes(bad_file(rig, kind))
    rig.start_sync()
    rig.start_haproxy()
    wait_until(lambda: answers(rig, secure=False), "HAProxy")
    assert MAKER in shown(rig).subject.rfc4514_string()
    assert f"! {DOMAIN}: missing: " in status(rig)
    rig.authority.file(rig.certs_dir / "cluster.pem", DOMAIN)
    rig.wait_ready()


def test_somebody_s_own_self_signed_certificate_is_used_and_said(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(**FILES)
    subject = ["-subj", "/CN=x", "-addext", f"subjectAltName=DNS:{DOMAIN}"]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "k.pem",
        "-out",
        "c.pem",
        *subject,
    ]
    subprocess.run(command, cwd=rig.folder, check=True, capture_output=True)
    own = (rig.folder / "c.pem").read_bytes()
    (rig.certs_dir / "cluster.pem").write_bytes(own + (rig.folder / "k.pem").read_bytes())
    rig.root_file.write_bytes(own)
    rig.start_sync()
    rig.start_haproxy()
    rig.wait_ready()
    assert shown(rig).serial_number == serial(own)
    assert "! cluster.pem: self-signed: " in status(rig)


def test_a_missing_wildcard_is_said_and_the_front_has_its_own(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(**FILES, TMPNB_USER_DOMAIN=USERS)
    rig.authority.file(rig.certs_dir / "cluster.pem", DOMAIN, USERS)
    rig.start_sync()
    rig.start_haproxy()
    rig.wait_ready()
    assert f"! *.{USERS}: missing: " in status(rig)
    user = f"{new_user()}.{USERS}"
    assert MAKER in shown(rig, user).subject.rfc4514_string()
    rig.authority.file(rig.certs_dir / "users.pem", f"*.{USERS}")
    wait_until(lambda: MAKER not in shown(rig, user).subject.rfc4514_string(), "the wildcard")
    assert rig.curl("/_health", host=user).ok
    assert rig.curl("/_health").ok


def test_without_the_sync_haproxy_starts_with_the_certificates_that_are_there(own_edge: Rig) -> None:
    rig = own_edge
    good = shown(rig).serial_number
    assert rig.sync is not None
    rig.sync.kill()
    rig.restart_haproxy()  # which waits for the sync, for the usual half minute
    wait_until(lambda: answers(rig), "HAProxy without its sync", timeout_s=60)
    assert shown(rig).serial_number == good


# --- the operator's page


def test_the_operator_s_page_has_a_port_of_its_own(edge: Rig) -> None:
    answer = edge.operator("/login?x=1", "-H", "X-Forwarded-For: 1.2.3.4", "-H", "X-Forwarded-Proto: http")
    seen = answer.json()
    assert (answer.raw.version, seen["target"]) == (20, "/login?x=1")
    assert seen["headers"]["x-forwarded-proto"] == "https"
    assert seen["headers"]["x-forwarded-for"] != "1.2.3.4"
    assert answer.headers["Strict-Transport-Security"] == YEAR
    assert edge.operator("/", "-H", "Authorization: token x").json()["headers"]["authorization"] == "token x"


def test_what_runs_beside_haproxy_may_ask_it_without_tls_at_a_port_that_is_not_published(edge: Rig) -> None:
    """The command line."""
    answer = requests.get(f"http://{edge.haproxy_address()}:8001/x", timeout=10)
    headers = answer.json()["headers"]
    assert headers["x-forwarded-proto"] == "https"
    assert headers["x-forwarded-host"] == f"{DOMAIN}:{edge.https_port}"


# --- settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TMPNB_DOMAIN", "Workshop.example"),
        ("TMPNB_DOMAIN", "https://workshop.example"),
        ("TMPNB_DOMAIN", "workshop.example:443"),
        ("TMPNB_DOMAIN", "*.example"),
        ("TMPNB_DOMAIN", "wörkshop.example"),
        ("TMPNB_DOMAIN", "a..b"),
        ("TMPNB_DOMAIN", "a b"),
        ("TMPNB_DOMAIN", "x" * 64),
        ("TMPNB_TLS", "on"),
        ("TMPNB_HSTS_S", "-1"),
        ("TMPNB_HSTS_S", "1y"),
        ("TMPNB_HTTPS_PORT", "0"),
        ("TMPNB_HTTPS_PORT", "https"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_at_the_start(name: str, value: str) -> None:
    start = Path(__file__).parents[2] / "proxy" / "haproxy" / "start.sh"
    env = {"PATH": "/usr/bin:/bin", "TMPNB_DOMAIN": DOMAIN, name: value}
    done = subprocess.run(["sh", str(start)], env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert done.stderr.startswith(f"settings: {name}: '{value}'; accepted: ")
    assert done.stderr.count("\n") == 1


def test_another_authority_s_clients_do_not_trust_us(edge: Rig, tmp_path: Path) -> None:
    (tmp_path / "other.pem").write_bytes(Authority("Other").root)
    with pytest.raises(requests.ConnectionError, match="certificate"):
        edge.curl("/", "--cacert", str(tmp_path / "other.pem"))

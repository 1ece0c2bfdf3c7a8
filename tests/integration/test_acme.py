"""Certificates by ACME: the real process and the real lego, against Pebble, an ACME server for tests.

Most is claimed of what is in the folder that the sync reads; then, of what a real HAProxy answers.
"""

import http.server
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests
import websocket
from cryptography import x509

from tests.support.pebble import Pebble, ServerIdentity
from tests.support.proxy_rig import Process, Rig, free_port
from tests.support.waiting import wait_until

NAME = "workshop.example.org"


class Client:
    """The ACME process, its folders and its log."""

    def __init__(self, folder: Path, server: str, ca: Path, certs: Path | None = None) -> None:
        self.certs = certs or folder / "certs"
        self.certs.mkdir(exist_ok=True)
        self._log = folder / "acme.log"
        self._settings = {
            "TMPNB_DOMAIN": NAME,
            "TMPNB_ACME_SERVER": server,
            "TMPNB_ACME_CA": str(ca),
            "TMPNB_ACME_DIR": str(folder / "data"),
            "TMPNB_CERTS_DIR": str(self.certs),
        }
        self._process: Process | None = None

    def start(self, env: dict[str, str] | None = None, **settings: object) -> None:
        """``settings``: in lower case; ``env``: a provider's variables."""
        self._settings |= {f"TMPNB_{name.upper()}": str(value) for name, value in settings.items()}
        self._process = Process(["-m", "proxy.acme"], self._log, self._settings | (env or {}))

    def stop(self) -> int:
        assert self._process is not None
        return self._process.terminate()

    def end(self) -> None:
        if self._process is not None:
            self._process.end()

    def log(self, event: str) -> list[dict[str, Any]]:
        """The lines with that event."""
        lines = [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def text(self) -> str:
        return self._log.read_text()

    def certificate(self, name: str = NAME) -> x509.Certificate | None:
        """What the sync finds for the name."""
        path = self.certs / f"{name.replace('*', '_')}.pem"
        return x509.load_pem_x509_certificates(path.read_bytes())[0] if path.exists() else None

    def wait_for(self, name: str = NAME, but: x509.Certificate | None = None) -> x509.Certificate:
        """A certificate for the name, another one than ``but``."""

        def other() -> x509.Certificate | None:
            found = self.certificate(name)
            return found if found != but else None

        found = wait_until(other, f"a certificate for {name}", 60)
        assert found is not None
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [name]
        return found


class TooMany:
    """An ACME server that answers every request with 429, and counts them."""

    def __init__(self, folder: Path) -> None:
        self.asked = asked = []  # type: ignore[var-annotated]
        problem = {
            "type": "urn:ietf:params:acme:error:rateLimited",
            "status": 429,
            "detail": "too many certificates (5) already issued for this exact set of identifiers in the last week, "
            "retry after 2126-11-27 15:04:05 UTC",
        }

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                body = json.dumps(problem).encode()
                self.send_response(429)
                self.send_header("Content-Type", "application/problem+json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                pass

        self.identity = ServerIdentity(folder, "127.0.0.1")
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.socket = self.identity.context().wrap_socket(self._server.socket, server_side=True)
        self.directory = f"https://127.0.0.1:{self._server.server_port}/dir"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def make_pebble(tmp_path: Path) -> Iterator[Callable[..., Pebble]]:
    running: list[Pebble] = []

    def make_pebble(http_port: int | None = None, **given: Any) -> Pebble:
        running.append(Pebble(tmp_path / f"pebble-{len(running)}", http_port or free_port("127.0.0.1"), **given))
        return running[-1]

    yield make_pebble
    for one in running:
        one.close()


@pytest.fixture
def make_client(tmp_path: Path) -> Iterator[Callable[..., Client]]:
    made: list[Client] = []

    def make_client(server: Pebble | TooMany, certs: Path | None = None) -> Client:
        made.append(Client(tmp_path, server.directory, server.identity.certificate, certs))
        return made[-1]

    yield make_client
    for one in made:
        one.end()


def test_from_nothing_to_a_chain_and_its_key_for_its_user_alone(
    make_pebble: Callable[..., Pebble], make_client: Callable[..., Client]
) -> None:
    pebble = make_pebble()
    client = make_client(pebble)
    client.start(acme_port=pebble.http_port)
    found = client.wait_for()
    path = client.certs / f"{NAME}.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    _, intermediate = x509.load_pem_x509_certificates(path.read_bytes())
    found.verify_directly_issued_by(intermediate)
    intermediate.verify_directly_issued_by(x509.load_pem_x509_certificate(pebble.root().read_bytes()))
    assert [file.name for file in client.certs.iterdir()] == [path.name]
    assert client.stop() == 0
    assert "PRIVATE KEY" not in client.text()


def test_it_renews_by_itself_with_the_same_account_and_a_new_key(
    make_pebble: Callable[..., Pebble], make_client: Callable[..., Client]
) -> None:
    pebble = make_pebble(life_s=30)
    client = make_client(pebble)
    client.start(acme_port=pebble.http_port)
    first = client.wait_for()
    second = client.wait_for(but=first)
    assert second.not_valid_before_utc < first.not_valid_after_utc, "in time"
    assert second.public_key() != first.public_key()
    assert pebble.log().count("POST /sign-me-up") == 1, "accounts"


def test_after_a_restart_it_asks_for_nothing_that_it_has(
    make_pebble: Callable[..., Pebble], make_client: Callable[..., Client]
) -> None:
    pebble = make_pebble()
    client = make_client(pebble)
    client.start(acme_port=pebble.http_port)
    first = client.wait_for()
    client.stop()
    (client.certs / f"{NAME}.pem").unlink()
    asked = pebble.log().count("POST /order-plz")
    client.start()
    assert client.wait_for() == first
    assert pebble.log().count("POST /order-plz") == asked


def test_the_old_one_goes_on_while_the_server_is_down_and_is_renewed_when_it_is_back(
    make_pebble: Callable[..., Pebble], make_client: Callable[..., Client]
) -> None:
    """One line when it begins, one when it is over; and a server that has forgotten the account gets it again."""
    pebble = make_pebble(life_s=30)
    client = make_client(pebble)
    client.start(acme_port=pebble.http_port, acme_retry_s=1, acme_retry_later_s=2, acme_retry_max_s=2)
    first = client.wait_for()
    pebble.stop()
    wait_until(lambda: client.log("certificate not obtained"), "the warning", 60)
    assert client.certificate() == first
    pebble.start()
    second = client.wait_for(but=first)
    wait_until(lambda: client.log("certificate obtained again"), "the word that it is over")
    (warning,) = client.log("certificate not obtained")
    assert warning["level"] == "WARNING"
    assert "connection refused" in warning["error"]
    assert warning["certificate"] == NAME
    assert second.not_valid_before_utc > first.not_valid_before_utc


def test_a_domain_that_does_not_resolve_is_said_and_tried_again(
    make_pebble: Callable[..., Pebble], make_client: Callable[..., Client]
) -> None:
    pebble = make_pebble()
    pebble.dns("set-servfail", host=NAME)
    client = make_client(pebble)
    client.start(acme_port=pebble.http_port, acme_retry_s=1)
    wait_until(lambda: client.log("certificate not obtained"), "the warning", 60)
    (warning,) = client.log("certificate not obtained")
    assert NAME in warning["error"]
    assert "could not resolve" in warning["error"]
    pebble.dns("clear-servfail", host=NAME)
    client.wait_for()


def test_a_server_that_refuses_half_of_all_nonces_gives_a_certificate_all_the_same(
    make_pebble: Callable[..., Pebble], make_client: Callable[..., Client]
) -> None:
    pebble = make_pebble(PEBBLE_WFE_NONCEREJECT="50", PEBBLE_VA_ALWAYS_VALID="1")
    client = make_client(pebble)
    client.start(acme_port=pebble.http_port, acme_retry_s=1)
    client.wait_for()


def test_a_server_that_is_asked_too_often_is_asked_no_more_that_day(
    tmp_path: Path, make_client: Callable[..., Client]
) -> None:
    with closing(TooMany(tmp_path)) as server:
        client = make_client(server)
        client.start(acme_port=free_port("127.0.0.1"), acme_retry_s=1, acme_retry_later_s=1)
        (warning,) = wait_until(lambda: client.log("certificate not obtained"), "the warning")
        assert warning["kind"] == "rateLimited"
        assert "already issued" in warning["error"]
        # Whatever year it says: at most a day, and not the second of acme_retry_s.
        day = warning["next_try"][:10]
        assert day > warning["at"][:10]
        assert day < "2126"
        asked = len(server.asked)
        assert client.stop() == 0
        assert len(server.asked) == asked


# --- DNS-01


class HttpReq:
    """Takes lego's provider "httpreq" at its word: what is to be in DNS is put into Pebble's."""

    def __init__(self, pebble: Pebble) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                wanted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                action = {"/present": "set-txt", "/cleanup": "clear-txt"}[self.path]
                pebble.dns(action, host=wanted["fqdn"], value=wanted["value"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_dns_01_gets_a_wildcard_for_servers_host_names_too(
    make_pebble: Callable[..., Pebble], make_client: Callable[..., Client]
) -> None:
    pebble = make_pebble()
    client = make_client(pebble)
    options = f"--dns.disable-cp --dns.resolvers {pebble.resolver}"
    with closing(HttpReq(pebble)) as dns:
        client.start(
            {"HTTPREQ_ENDPOINT": dns.url, "HTTPREQ_PROPAGATION_TIMEOUT": "1", "HTTPREQ_POLLING_INTERVAL": "1"},
            acme_dns="httpreq",
            acme_options=options,
            user_domain="users.example.org",
        )
        client.wait_for()
        client.wait_for("*.users.example.org")
    assert sorted(file.name for file in client.certs.iterdir()) == ["_.users.example.org.pem", f"{NAME}.pem"]


def test_a_wildcard_without_dns_01_is_refused_at_the_start(
    make_pebble: Callable[..., Pebble], make_client: Callable[..., Client]
) -> None:
    client = make_client(make_pebble())
    client.start(user_domain="users.example.org")
    wait_until(lambda: "accepted:" in client.text(), "the refusal")
    assert "TMPNB_ACME_DNS" in client.text()
    assert "*.users.example.org (TMPNB_USER_DOMAIN) needs DNS-01" in client.text()


def test_a_provider_whose_variables_are_missing_is_said_with_their_names(
    make_pebble: Callable[..., Pebble], make_client: Callable[..., Client]
) -> None:
    client = make_client(make_pebble())
    client.start(acme_dns="hetzner")
    (warning,) = wait_until(lambda: client.log("certificate not obtained"), "the warning")
    assert "HETZNER_API_KEY" in warning["error"]
    assert "TMPNB_ACME_ENV_FILE" in warning["error"]


def test_a_token_in_a_provider_s_url_is_not_logged(
    make_pebble: Callable[..., Pebble], make_client: Callable[..., Client]
) -> None:
    pebble = make_pebble()
    client = make_client(pebble)
    token = "only-for-the-provider"
    endpoint = f"http://user:{token}@127.0.0.1:{free_port('127.0.0.1')}/?token={token}"
    env = {"HTTPREQ_ENDPOINT": endpoint, "HTTPREQ_PASSWORD": token, "HTTPREQ_USERNAME": "user"}
    client.start(env, acme_dns="httpreq", log_level="DEBUG")
    wait_until(lambda: client.log("certificate not obtained"), "the warning", 60)
    assert token not in client.text()


def test_a_stop_while_lego_waits_is_no_failure_and_leaves_nobody_behind(
    make_pebble: Callable[..., Pebble], make_client: Callable[..., Client]
) -> None:
    pebble = make_pebble(PEBBLE_VA_NOSLEEP="", PEBBLE_VA_SLEEPTIME="60")
    client = make_client(pebble)
    client.start(acme_port=pebble.http_port)
    wait_until(lambda: _is_listening(pebble.http_port), "lego, waiting for the server's question")
    assert client.stop() == 0
    assert not client.log("certificate not obtained")
    assert not _is_listening(pebble.http_port)


def _is_listening(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# --- with HAProxy and the sync


@pytest.fixture
def edge(make_rig: Callable[..., Rig]) -> Rig:
    """A proxy tier that is to have its certificates by ACME and has none."""
    acme_port = free_port("127.0.0.1")
    rig = make_rig(TMPNB_DOMAIN=NAME, TMPNB_TLS="acme")
    rig.env["TMPNB_ACME"] = f"{rig.gateway}:{acme_port}"
    for file in rig.certs_dir.iterdir():
        file.unlink()
    rig.start_sync()
    rig.start_haproxy()
    wait_until(lambda: answers(rig), "HAProxy, with a certificate of its own making")
    return rig


def answers(rig: Rig) -> bool:
    """Whether somebody answers over TLS, whatever the certificate."""
    try:
        return rig.curl("/", secure=False).status_code == 200
    except requests.ConnectionError:
        return False


def acme_port(rig: Rig) -> str:
    return rig.env["TMPNB_ACME"].partition(":")[2]


def shown(rig: Rig) -> int:
    """The serial number of the certificate that HAProxy shows."""
    pem = ssl.get_server_certificate(("127.0.0.1", rig.https_port), timeout=10)
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


def test_from_nothing_to_an_https_answer_that_browsers_trust(
    edge: Rig, make_pebble: Callable[..., Pebble], make_client: Callable[..., Client]
) -> None:
    with pytest.raises(requests.ConnectionError):
        edge.get("/")
    pebble = make_pebble(edge.port)
    client = make_client(pebble, edge.certs_dir)
    client.start(acme_port=acme_port(edge))
    edge.root_file = pebble.root()
    edge.wait_ready()
    assert edge.get("/").raw.version == 20
    assert "HTTP: http://workshop.example.org" in pebble.log()


def test_a_renewal_under_load_fails_no_request_and_cuts_no_websocket(
    edge: Rig, make_pebble: Callable[..., Pebble], make_client: Callable[..., Client]
) -> None:
    pebble = make_pebble(edge.port, life_s=45)
    client = make_client(pebble, edge.certs_dir)
    client.start(acme_port=acme_port(edge))
    edge.root_file = pebble.root()
    edge.wait_ready()
    server = edge.server().publish().wait_routed()
    first = shown(edge)
    stop, failed, done = threading.Event(), [], []

    def visit(option: str) -> None:
        while not stop.is_set():
            try:
                answer = edge.curl(server.path, option)
                (done if answer.status_code == 200 else failed).append(answer.status_code)
            except requests.ConnectionError as exc:
                failed.append(str(exc))

    tunnel = websocket.create_connection(
        f"wss://127.0.0.1:{edge.https_port}{server.path}ws",
        host=f"{NAME}:{edge.https_port}",
        sslopt={"ca_certs": str(edge.root_file), "server_hostname": NAME, "check_hostname": False},
        timeout=20,
    )
    with closing(tunnel), ThreadPoolExecutor(4) as visitors:
        tasks = [visitors.submit(visit, option) for option in ("--http2", "--http1.1") * 2]
        try:
            for before in (first, None):
                current = before or shown(edge)
                wait_until(lambda old=current: shown(edge) != old, "a renewed certificate", 90)
                count = len(done)
                wait_until(lambda old=count: len(done) > old + 20, "requests after it")
                tunnel.send("still there")
                assert tunnel.recv() == "still there"
        finally:
            stop.set()
        for task in tasks:
            task.result(30)
    assert failed == []
    assert len(done) > 40
    assert not client.log("certificate not obtained")
    assert edge.haproxy_log().count("New worker") == 1, "no reload"

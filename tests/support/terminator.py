"""Somebody else's TLS terminator in front of a proxy tier: Debian's nginx, as a process on this machine.

Configured as docs/operations.md says. The loopback has addresses enough to tell terminators and clients apart.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import requests
import requests.adapters

from tests.support.proxy_rig import accepts
from tests.support.waiting import wait_until

# What the operator's documentation asks for; the outermost, and one that is behind another.
OUTERMOST = """
proxy_set_header Host $http_host;
proxy_set_header X-Forwarded-Proto $scheme;
proxy_set_header X-Forwarded-Host $http_host;
proxy_set_header X-Forwarded-Port $server_port;
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
"""
INNER = """
proxy_set_header Host $http_host;
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
"""
CONFIG = """
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    server {{
        listen {listen} {tls};
        location / {{
            proxy_pass http://{target};
            proxy_bind {leaves_from};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            {headers}
        }}
    }}
}}
"""
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or "nginx"


def certificate(folder: Path, *names: str) -> Path:
    """A certificate that signed itself, for these names (``DNS:…``, ``IP:…``), and its key, in one file."""
    pem, key = folder / "certificate.pem", folder / "key.pem"
    new = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    named = ["-subj", "/CN=lab.example", "-addext", f"subjectAltName={','.join(names)}"]
    subprocess.run([*new, *named, "-keyout", str(key), "-out", str(pem)], check=True, capture_output=True)
    pem.write_text(pem.read_text() + key.read_text())
    return pem


@contextlib.contextmanager
def terminator(
    folder: Path, listen: str, target: str, headers: str, *, leaves_from: str, certified: Path | None = None
) -> Iterator[None]:
    """nginx at ``listen``, with TLS if it has a certificate; it connects to ``target`` from ``leaves_from``."""
    folder.mkdir(exist_ok=True)
    tls = f"ssl; ssl_certificate {certified}; ssl_certificate_key {certified}" if certified else ""
    config = CONFIG.format(
        folder=folder, listen=listen, tls=tls, target=target, headers=headers, leaves_from=leaves_from
    )
    (folder / "nginx.conf").write_text(config)
    command = [NGINX, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        host, _, port = listen.rpartition(":")
        wait_until(lambda: accepts(host, int(port)), f"nginx at {listen}")
        yield
    finally:
        process.terminate()
        process.wait(15)


class _From(requests.adapters.HTTPAdapter):
    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__()

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **more: object) -> None:
        super().init_poolmanager(connections, maxsize, block, source_address=(self._address, 0), **more)


def client(address: str, certified: Path | None = None) -> requests.Session:
    """A client at one of this machine's addresses, with connections that are kept."""
    session = requests.Session()
    session.mount("http://", _From(address))
    session.mount("https://", _From(address))
    session.trust_env = False
    session.verify = str(certified) if certified else True
    return session

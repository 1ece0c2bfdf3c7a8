"""An ACME server for tests: Debian's Pebble, and its DNS server, which tells what a test has it tell."""

import json
import os
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import requests
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.support.proxy_rig import accepts, free_port
from tests.support.waiting import wait_until


class ServerIdentity:
    """A certificate of an address, signed by itself: what an ACME client of a test trusts alone."""

    def __init__(self, folder: Path, address: str) -> None:
        self.certificate, self.key = folder / "server.pem", folder / "server.key"
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "acme")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, SHA256())
        )
        self.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
        self.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def context(self) -> ssl.SSLContext:
        """For a server with it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


class Pebble:
    """A Pebble that asks ``http_port`` of 127.0.0.1 (HTTP-01), and a DNS server (DNS-01). Close it in the end."""

    def __init__(
        self, folder: Path, http_port: int, *, address: str = "127.0.0.1", life_s: int = 7_776_000, **env: str
    ) -> None:
        """``address``: where it listens; ``life_s``: of its certificates; ``env``: Pebble's own variables."""
        self.folder, self.address, self.http_port, self.life_s = folder, address, http_port, life_s
        folder.mkdir(parents=True, exist_ok=True)
        self.identity = ServerIdentity(folder, address)
        self.port, self._dns_port = free_port(address), free_port(address)
        self._management, self._dns_management = free_port(address), free_port(address)
        self._env = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "0", **env}
        self._processes: list[subprocess.Popen[bytes]] = []
        self._pebble: subprocess.Popen[bytes] | None = None
        dns = ["-dns01", f"{address}:{self._dns_port}", "-management", f"{address}:{self._dns_management}"]
        off = ["-http01", "", "-https01", "", "-tlsalpn01", ""]
        self._run("pebble-challtestsrv", *dns, *off, "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "")
        wait_until(lambda: accepts(address, self._dns_management), "Pebble's DNS server")
        self.start()

    @property
    def directory(self) -> str:
        return f"https://{self.address}:{self.port}/dir"

    @property
    def resolver(self) -> str:
        return f"{self.address}:{self._dns_port}"

    def start(self, **env: str) -> None:
        """Start Pebble, which has forgotten everything; its DNS server goes on. ``env`` changes Pebble's variables."""
        self._env |= env
        config = {
            "listenAddress": f"{self.address}:{self.port}",
            "managementListenAddress": f"{self.address}:{self._management}",
            "certificate": str(self.identity.certificate),
            "privateKey": str(self.identity.key),
            "httpPort": self.http_port,
            "tlsPort": self.http_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": False,
            "certificateValidityPeriod": self.life_s,
        }
        path = self.folder / "pebble.json"
        path.write_text(json.dumps({"pebble": config}))
        self._pebble = self._run("pebble", "-config", str(path), "-dnsserver", self.resolver)
        wait_until(lambda: accepts(self.address, self.port), "Pebble")

    def stop(self) -> None:
        """Whoever asks Pebble finds nobody."""
        assert self._pebble is not None
        end(self._pebble)

    def close(self) -> None:
        for process in self._processes:
            end(process)

    def root(self) -> Path:
        """A file with the root of the certificates that this start of Pebble issues."""
        url = f"https://{self.address}:{self._management}/roots/0"
        path = self.folder / "root.pem"
        path.write_text(requests.get(url, verify=str(self.identity.certificate), timeout=10).text)
        return path

    def dns(self, action: str, **fields: object) -> None:
        """Change what its DNS server tells: ``dns("add-a", host=…, addresses=[…])``."""
        url = f"http://{self.address}:{self._dns_management}/{action}"
        requests.post(url, json=fields, timeout=10).raise_for_status()

    def log(self) -> str:
        return (self.folder / "pebble.log").read_text()

    def _run(self, program: str, *arguments: str) -> "subprocess.Popen[bytes]":
        with (self.folder / f"{program}.log").open("ab") as output:
            process = subprocess.Popen(
                [program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **self._env},
            )
        self._processes.append(process)
        return process


def end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.kill()
        process.wait(15)

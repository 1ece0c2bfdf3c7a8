"""A Docker Engine on another machine, reached over TCP with TLS: a host of deploy/images/host, and certificates."""

import contextlib
import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker

from tests.support.light import IMAGE, ROOT
from tests.support.waiting import wait_until

HOST_IMAGE = os.environ.get("TMPNB_HOST_IMAGE", "tmpnb/host:dev")
PORT = 2376
# As deploy/demo/host.sh, which says why.
_RIGHTS = (
    "--init", "--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN", "--cap-add", "SYS_PTRACE",
    "--device-cgroup-rule", "a *:* rwm", "--security-opt", "seccomp=unconfined",
    "--security-opt", "apparmor=unconfined", "--security-opt", "systempaths=unconfined",
    "--volume", "/sys/fs/cgroup:/sys/fs/cgroup",
)  # fmt: skip


def make_authority(folder: Path) -> Path:
    """An authority of its own: ``ca.pem`` and ``ca-key.pem`` in ``folder``."""
    folder.mkdir()
    _openssl(
        folder, "req", "-x509", "-subj", "/CN=authority", "-days", "1", "-keyout", "ca-key.pem", "-out", "ca.pem", *_KEY
    )
    return folder


def make_certificate(authority: Path, folder: Path, name: str, usage: str, names: str = "") -> None:
    """``<name>.pem`` and ``<name>-key.pem`` in ``folder``. ``usage``: serverAuth or clientAuth; ``names``: those that
    the certificate is for, as ``IP:127.0.0.1``."""
    extensions = folder / f"{name}.ext"
    extensions.write_text(f"extendedKeyUsage={usage}\n" + (f"subjectAltName={names}\n" if names else ""))
    key, request = f"{name}-key.pem", f"{name}.csr"
    _openssl(folder, "req", "-subj", f"/CN={name}", "-keyout", key, "-out", request, *_KEY)
    _openssl(
        folder, "x509", "-req", "-in", request, "-days", "1", "-CAcreateserial", "-extfile", str(extensions),
        "-CA", str(authority / "ca.pem"), "-CAkey", str(authority / "ca-key.pem"), "-out", f"{name}.pem",
    )  # fmt: skip


_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@dataclass
class RemoteEngine:
    """``address``: the machine's; the daemon's certificate is for 127.0.0.1 alone, where its port is published."""

    container: Any
    certificates: Path
    address: str
    published: int

    def environment(self, address: str = "127.0.0.1", **more: str) -> dict[str, str]:
        """What an agent needs to reach it, by one of its addresses."""
        port = self.published if address == "127.0.0.1" else PORT
        return {
            "DOCKER_HOST": f"tcp://{address}:{port}",
            "DOCKER_TLS_VERIFY": "1",
            "DOCKER_CERT_PATH": str(self.certificates),
            "TMPNB_ADDRESS": self.address,
            # For the web; it must not take the place of ca.pem.
            "REQUESTS_CA_BUNDLE": str(self.certificates.parent / "web" / "ca.pem"),
            **more,
        }

    def names(self) -> list[str]:
        """Of the containers there."""
        status, output = self.container.exec_run(["docker", "ps", "--format", "{{.Names}}"])
        assert status == 0, output
        return str(output.decode()).split()


@contextlib.contextmanager
def remote_engine(folder: Path) -> Iterator[RemoteEngine]:
    """One with the light image. ``folder``: for authorities and certificates; the client's are in ``folder/client``."""
    subprocess.run(["deploy/images/build.sh", "host"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    authority = make_authority(folder / "authority")
    make_authority(folder / "web")
    for name in ("server", "client"):
        (folder / name).mkdir()
        (folder / name / "ca.pem").write_bytes((authority / "ca.pem").read_bytes())
    make_certificate(authority, folder / "server", "server", "serverAuth", "IP:127.0.0.1")
    make_certificate(authority, folder / "client", "cert", "clientAuth")
    (folder / "client" / "cert-key.pem").rename(folder / "client" / "key.pem")
    settings = {
        "hosts": ["unix:///var/run/docker.sock", f"tcp://0.0.0.0:{PORT}"],
        "tlsverify": True,
        "tlscacert": "/certs/ca.pem",
        "tlscert": "/certs/server.pem",
        "tlskey": "/certs/server-key.pem",
    }
    (folder / "daemon.json").write_text(json.dumps(settings))
    name = f"test-engine-{secrets.token_hex(4)}"
    subprocess.run(
        [
            "docker", "run", "--detach", "--name", name, *_RIGHTS, "--publish", f"127.0.0.1::{PORT}",
            "--volume", f"{folder}/server:/certs:ro", "--volume", f"{folder}/daemon.json:/etc/docker/daemon.json:ro",
            HOST_IMAGE,
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    with contextlib.closing(docker.from_env()) as client:
        container = client.containers.get(name)
        try:
            wait_until(lambda: container.exec_run(["docker", "info"]).exit_code == 0, "the Engine to answer", 60)
            load = f"docker save {IMAGE} | docker exec -i {container.id} docker load --quiet"
            subprocess.run(["bash", "-o", "pipefail", "-c", load], check=True, capture_output=True, timeout=120)
            container.reload()
            network = container.attrs["NetworkSettings"]
            published = int(network["Ports"][f"{PORT}/tcp"][0]["HostPort"])
            (attached,) = network["Networks"].values()
            yield RemoteEngine(container, folder / "client", str(attached["IPAddress"]), published)
        finally:
            container.remove(force=True, v=True)

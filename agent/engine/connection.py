"""How the Docker Engine is reached: the DOCKER_* environment as the docker command reads it, and TLS to a daemon.

docker-py has neither a larger connection pool for TCP nor a way to leave the host name out of the check, which is what
tmpnb (and its default) had: the authority in DOCKER_CERT_PATH signs nothing but daemons and their clients.
"""

import logging
import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import docker
import docker.errors
from docker.constants import DEFAULT_UNIX_SOCKET
from docker.tls import TLSConfig
from docker.utils import kwargs_from_env, parse_host
from requests.adapters import HTTPAdapter

log = logging.getLogger(__name__)


class _Adapter(HTTPAdapter):
    """Connections kept open, as many as are used at once, and the daemon's name checked or not."""

    def __init__(self, pool_size: int, assert_hostname: bool) -> None:
        self._pool: dict[str, Any] = {} if assert_hostname else {"assert_hostname": False}
        super().__init__(pool_maxsize=pool_size)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, **(kwargs | self._pool))


class _Tls(TLSConfig):
    """docker-py's, with an adapter of our own before its first request."""

    def __init__(self, found: TLSConfig, adapter: HTTPAdapter) -> None:
        super().__init__(client_cert=found.cert, ca_cert=found.ca_cert, verify=found.verify)
        self._adapter = adapter

    def configure_client(self, client: Any) -> None:
        super().configure_client(client)
        client.mount("https://", self._adapter)
        # Or REQUESTS_CA_BUNDLE, which is for the web, would take the place of ca.pem without a word.
        client.trust_env = False


class DockerLink:
    """Where the engine is. ``where``: its address, for messages; ``socket``: the path of its Unix socket, if it has
    one."""

    def __init__(self, version: str, timeout_s: float, pool_size: int, assert_hostname: bool) -> None:
        """Reads the environment; connects to nothing. Raises ``ValueError`` that names the variable."""
        try:
            found = kwargs_from_env()
        except docker.errors.TLSParameterError as exc:
            raise ValueError(f"DOCKER_CERT_PATH: ca.pem, cert.pem and key.pem are accepted there: {exc}") from exc
        self.where = found.get("base_url", DEFAULT_UNIX_SOCKET)
        _check_address(self.where, "tls" in found)
        self.socket = urlsplit(self.where.replace("http+unix:", "unix:")).path if "unix:" in self.where else ""
        self._adapter = _Adapter(pool_size, assert_hostname)
        tls = found.pop("tls", None)
        if tls is not None and not self.socket:
            found["tls"] = _Tls(tls, self._adapter)
        if not self.socket and (tls is None or not tls.verify):
            log.warning(
                "docker engine over the network without verified tls (DOCKER_TLS_VERIFY, DOCKER_CERT_PATH): whoever is "
                "in between rules the host",
                extra={"docker_host": self.where},
            )
        self._settings: dict[str, Any] = {"version": version, "timeout": timeout_s, "max_pool_size": pool_size, **found}

    def connect(self) -> docker.APIClient:
        """A client. Asks for the API's version, so it fails while the engine is away."""
        client = docker.APIClient(**self._settings)
        if not self.socket:
            client.mount("http://", self._adapter)
        return client

    def explain(self, error: BaseException) -> str:
        """Why a call failed, in one sentence for an operator."""
        for cause in _causes(error):
            if isinstance(cause, ssl.SSLCertVerificationError):
                return (
                    f"Docker at {self.where}: its certificate is not accepted: {cause.verify_message} "
                    "(DOCKER_CERT_PATH/ca.pem, TMPNB_ASSERT_HOSTNAME)"
                )
            if isinstance(cause, ssl.SSLError):
                return (
                    f"Docker at {self.where}: no TLS: {cause.reason or cause} "
                    "(does it accept DOCKER_CERT_PATH/cert.pem?)"
                )
        return f"Docker: {error}"


def _check_address(where: str, tls: bool) -> None:
    reason = "there is no such way to it"
    try:
        if str(parse_host(where, tls=tls)).startswith(("http+unix://", "http://", "https://")):
            return
    except (docker.errors.DockerException, ValueError) as exc:
        reason = str(exc)
    raise ValueError(f"DOCKER_HOST: unix:///path or tcp://host:port is accepted, not {where[:80]!r}: {reason}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and everything that it holds or came from: requests and urllib3 wrap by arguments as well."""
    waiting, seen = [error], set()
    while waiting:
        found = waiting.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        more = (found.__cause__, found.__context__, getattr(found, "reason", None), *found.args)
        waiting += [item for item in more if isinstance(item, BaseException)]

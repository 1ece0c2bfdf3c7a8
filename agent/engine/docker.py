"""The Docker adapter of the engine port, over docker-py's low-level client.

The low-level client is used because its answers are the API's own: a listing is one request, with the labels in it,
where the high-level ``containers.list()`` inspects every container it finds.
"""

import http.client
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any
from urllib.parse import quote

import docker
import docker.errors
import requests
import urllib3.exceptions
from docker.types import IPAMConfig, IPAMPool, LogConfig, Mount

from agent.engine.connection import DockerLink
from agent.engine.network import MTU, USUAL_MTU, Network, assess, options
from agent.engine.port import (
    Condition,
    Container,
    ContainerSpec,
    EngineInfo,
    ImageMissing,
    NetworkFull,
    NetworkState,
    PortTaken,
    Usage,
)
from agent.engine.unix_http import UnixHttp
from agent.metrics import DOCKER_ERRORS, DOCKER_SECONDS
from common.errors import EngineUnavailable, StartFailed, TmpnbError
from common.runtime.metrics import timed
from common.vocabulary import EndReason

log = logging.getLogger(__name__)

# A container's own log is for a failed start's last lines, not an archive; two files are the least that rotate.
LOG_OPTIONS = {"max-size": "1m", "max-file": "2"}
# A rename takes milliseconds, and a claim waits for it: an engine that hangs is noticed sooner than by other calls.
RENAME_TIMEOUT_S = 10.0
ARCHIVE_PIECE_BYTES = 256 * 1024
# What the engine says when a port is taken: by a container, by a process, by another start just now.
_TAKEN = ("port is already allocated", "address already in use", "bind for")


# What it says when the network has no place left: of the kernel (a bridge takes 1023 interfaces), and of its own.
_FULL = ("exchange full", "no available ipv4 addresses", "no available ip addresses")
# What it says when it finds no addresses for a network.
_NO_SUBNET = ("overlap", "address pool", "address space")


class DockerEngine:
    """``Engine`` on the Docker Engine that the DOCKER_* environment names (the local socket by default)."""

    def __init__(
        self, version: str = "auto", timeout_s: float = 60.0, pool_size: int = 32, assert_hostname: bool = False
    ) -> None:
        """``pool_size``: connections kept open; docker-py closes those beyond it after one use. ``assert_hostname``:
        under TLS, whether the daemon's name must be in its certificate. Raises ``ValueError`` for a wrong DOCKER_*."""
        self._link = DockerLink(version, timeout_s, pool_size, assert_hostname)
        self._client: docker.APIClient | None = None
        socket = self._link.socket
        self._unix = UnixHttp(socket, min(timeout_s, RENAME_TIMEOUT_S)) if socket else None
        self._init = True

    def info(self) -> EngineInfo:
        with self._translated("info"):
            found = self._api().info()
            return EngineInfo(
                str(found.get("ID") or ""), _count(found.get("MemTotal", 0)), _count(found.get("NCPU", 0))
            )

    def ensure_network(self, name: str, labels: Mapping[str, str], subnet: str = "", mtu: int = 0) -> NetworkState:
        with self._translated("ensure_network"):
            found = self._networks(name)
            if found:
                assessment = assess(name, found, labels, subnet, mtu)
                if not assessment.replace:
                    return assessment.state
                log.info("network is replaced", extra={"network": name})
                self._api().remove_network(found[0].id)
            try:
                self._create_network(name, labels, subnet, mtu or self._default_mtu())
            except docker.errors.APIError as exc:
                text = str(exc.explanation or exc)
                hint = " (TMPNB_NETWORK_SUBNET)" if any(sign in text.lower() for sign in _NO_SUBNET) else ""
                return NetworkState(f"network {name} cannot be made: {text}{hint}", usable=False)
            return assess(name, self._networks(name), labels, "", 0).state

    def _networks(self, name: str) -> Sequence[Network]:
        api = self._api()
        found = [network["Id"] for network in api.networks(names=[name]) if network["Name"] == name]
        # A listing does not say who is in them.
        return [_network(api.inspect_network(network)) for network in found]

    def _create_network(self, name: str, labels: Mapping[str, str], subnet: str, mtu: int) -> None:
        self._api().create_network(
            name,
            driver="bridge",
            options=options(name, mtu),
            ipam=IPAMConfig(pool_configs=[IPAMPool(subnet=subnet)]) if subnet else None,
            labels=dict(labels),
            check_duplicate=True,
        )

    def _default_mtu(self) -> int:
        """What the engine was told (``dockerd --mtu``), which it heeds for its default network only; 0: as usual."""
        for network in self._api().networks(names=["bridge"]):
            told = (network.get("Options") or {}).get(MTU, "")
            if network["Name"] == "bridge" and told.isdecimal() and int(told) != USUAL_MTU:
                return int(told)
        return 0

    def image_id(self, image: str) -> str | None:
        with self._translated("image_id"):
            try:
                return _id(self._api().inspect_image(image))  # type: ignore[no-untyped-call]
            except docker.errors.ImageNotFound:
                return None

    def pull(self, image: str) -> None:
        with self._translated("pull"):
            try:
                # An empty configuration, so that nobody's credentials on this machine are sent.
                for line in self._api().pull(image, stream=True, decode=True, auth_config={}):
                    if "error" in line:
                        raise StartFailed(EndReason.IMAGE, _not_pulled(image, line["error"]))
            except docker.errors.APIError as exc:
                raise StartFailed(EndReason.IMAGE, _not_pulled(image, exc.explanation)) from exc

    def list(self, labels: Mapping[str, str]) -> tuple[Container, ...]:
        with self._translated("list"):
            found = self._api().containers(all=True, filters={"label": _filter(labels)})
            if not isinstance(found, list):
                raise TypeError("no list of containers")
            return tuple(_container(item) for item in found)

    def run(self, spec: ContainerSpec) -> str:
        with self._translated("run"):
            try:
                container = self._create(spec)
            except docker.errors.ImageNotFound as exc:
                raise ImageMissing(spec.image) from exc
            except docker.errors.APIError as exc:
                if exc.status_code == 409:
                    container = self._find(spec.name)
                elif exc.status_code is not None and exc.status_code < 500:
                    raise StartFailed(EndReason.CREATE, str(exc.explanation)) from exc
                else:
                    raise
            return self._start(container, spec)

    def create(self, image: str, name: str, labels: Mapping[str, str]) -> str:
        with self._translated("create"):
            api = self._api()
            # One left by an agent that was killed; by its name alone it was never started either.
            self.remove(name)
            try:
                created = api.create_container(
                    image,
                    ["/never-started"],
                    name=name,
                    labels=dict(labels),
                    network_disabled=True,
                    host_config=api.create_host_config(network_mode="none", cap_drop=["ALL"]),
                )
            except docker.errors.ImageNotFound as exc:
                raise ImageMissing(image) from exc
            except docker.errors.APIError as exc:
                if exc.status_code is not None and exc.status_code < 500:
                    raise StartFailed(EndReason.CREATE, str(exc.explanation)) from exc
                raise
            return _id(created)

    def archive(self, container: str, path: str) -> Iterator[bytes] | None:
        with self._translated("archive"):
            try:
                pieces, _ = self._api().get_archive(container, path, chunk_size=ARCHIVE_PIECE_BYTES)
            except docker.errors.NotFound:
                return None
        return self._pieces(pieces)

    def _pieces(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        with self._translated("archive"):
            yield from pieces

    def rename(self, container: str, name: str) -> bool:
        with self._translated("rename"):
            api = self._api()
            if self._unix is None:
                try:
                    api.rename(container, name)
                except docker.errors.APIError as exc:
                    return self._renamed(container, name, exc.status_code or 0, str(exc))
                return True
            target = f"/v{api.api_version}/containers/{quote(container)}/rename?name={quote(name)}"
            return self._renamed(container, name, *self._unix.post(target))

    def _renamed(self, container: str, name: str, status: int, text: str) -> bool:
        """What the answer to a rename means."""
        if status == 404:
            return False
        # "Renaming a container with the same name as its current name" is a 400 or a 409 by version.
        if status < 300 or (status in {400, 409} and self._name(container) == name):
            return True
        raise EngineUnavailable(f"Docker: rename: {status} {text}")

    def remove(self, container: str, timeout_s: float | None = None) -> None:
        with self._translated("remove"):
            api = self._api()
            # Not docker-py's remove_container, which takes no timeout of its own.
            url = f"{api.base_url}/v{api.api_version}/containers/{quote(container)}"
            answer = api.delete(url, params={"v": "1", "force": "1"}, timeout=timeout_s or api.timeout)
            # A 409 is "removal of container … is already in progress": it is not gone, so neither is its place.
            if answer.status_code >= 300 and answer.status_code != 404:
                raise EngineUnavailable(f"Docker: remove: {answer.status_code} {answer.text.strip()}")

    def log_tail(self, container: str, lines: int) -> str:
        with self._translated("log_tail"):
            try:
                found: bytes = self._api().logs(container, stdout=True, stderr=True, tail=lines)
            except docker.errors.NotFound:
                return ""
            return found.decode(errors="replace")

    def usage(self, container: str, quick: bool = False) -> Usage:
        with self._translated("usage"):
            try:
                api = self._api()
                # If not one-shot (which engines before 20.10 do not know), it takes two readings a second apart.
                one_shot = True if quick and docker.utils.version_gte(api.api_version, "1.41") else None
                found = api.stats(container, stream=False, one_shot=one_shot)
            except docker.errors.NotFound:
                return Usage()
            return _usage(found, quick)

    def condition(self, container: str) -> Condition | None:
        with self._translated("condition"):
            try:
                found = self._api().inspect_container(container)
            except docker.errors.NotFound:
                return None
            state = found["State"]
            return Condition(
                bool(state["Running"]), int(state["ExitCode"]), bool(state["OOMKilled"]),
                int(found["HostConfig"].get("Memory") or 0),
            )  # fmt: skip

    def watch(self, labels: Mapping[str, str], on_end: Callable[[], None], on_oom: Callable[[str], None]) -> None:
        filters = {"type": "container", "event": ["die", "destroy", "oom"], "label": _filter(labels)}
        with self._translated("watch"):
            for event in self._api().events(filters=filters, decode=True):
                if event.get("Action") == "oom":
                    on_oom(event["Actor"]["ID"])
                else:
                    on_end()
        raise EngineUnavailable("Docker: the stream of events ended")

    def close(self) -> None:
        """Close the connections that are not in use."""
        if self._client is not None:
            self._client.close()
        if self._unix is not None:
            self._unix.close()

    def _api(self) -> docker.APIClient:
        if self._client is None:
            self._client = self._link.connect()
        return self._client

    def _create(self, spec: ContainerSpec) -> str:
        api = self._api()
        host_config = api.create_host_config(
            network_mode="host" if spec.host_network else spec.network,
            port_bindings=None if spec.host_network else {spec.container_port: (spec.bind_ip, spec.bind_port)},
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            mem_limit=spec.mem_limit_bytes,
            memswap_limit=spec.mem_limit_bytes,
            pids_limit=spec.pids_limit,
            cpu_shares=spec.cpu_shares,
            cpu_quota=spec.cpu_quota,
            cpu_period=100_000 if spec.cpu_quota else None,
            init=self._init,
            extra_hosts=list(spec.extra_hosts),
            # Not "binds", by which the engine would make what is not there, as root.
            mounts=[Mount(d.target, d.source, type="bind", read_only=d.read_only) for d in spec.directories],
            log_config=LogConfig(type=LogConfig.types.JSON, config=LOG_OPTIONS),
        )
        created = api.create_container(
            spec.image,
            list(spec.command),
            name=spec.name,
            labels=dict(spec.labels),
            ports=None if spec.host_network else [spec.container_port],
            user=spec.user,
            environment=dict(spec.environment),
            host_config=host_config,
        )
        return _id(created)

    def _start(self, container: str, spec: ContainerSpec) -> str:
        try:
            self._api().start(container)
        except docker.errors.APIError as exc:
            self.remove(container)
            text = str(exc.explanation or exc)
            if any(sign in text.lower() for sign in _TAKEN):
                raise PortTaken(f"port {spec.bind_port}: {text}") from exc
            if any(sign in text.lower() for sign in _FULL):
                raise NetworkFull(spec.network, text) from exc
            if self._init and "docker-init" in text:
                self._init = False  # the engine names its init, and the program is not there
                log.warning("engine has no init for containers", extra={"error": text})
                return self._start(self._create(spec), spec)
            if "cannot assign requested address" in text.lower():
                text = f"{spec.bind_ip} is no address of this host (TMPNB_ADDRESS, TMPNB_CONTAINER_IP): {text}"
            raise StartFailed(EndReason.CREATE, f"it cannot be started: {text}") from exc
        return container

    def _find(self, name: str) -> str:
        """The id of the container of exactly that name."""
        return _id(self._api().inspect_container(name))

    def _name(self, container: str) -> str:
        return str(self._api().inspect_container(container)["Name"]).lstrip("/")

    @contextmanager
    def _translated(self, call: str) -> Iterator[None]:
        """Every failure of docker-py and the network that is not handled above means: it cannot answer now. ``call``:
        its name in the metrics."""
        # The duration of a watch is a wait.
        with nullcontext() if call == "watch" else timed(DOCKER_SECONDS.labels(call)):
            try:
                yield
            except (docker.errors.DockerException, requests.RequestException, urllib3.exceptions.HTTPError) as exc:
                DOCKER_ERRORS.labels(call).inc()
                raise EngineUnavailable(self._link.explain(exc)) from exc
            except (OSError, http.client.HTTPException, json.JSONDecodeError) as exc:
                DOCKER_ERRORS.labels(call).inc()
                raise EngineUnavailable(f"Docker: {exc!r}") from exc
            except TmpnbError:
                raise
            except Exception as exc:
                # docker-py and our reading meet what neither expects: a page, a list for an object, a field left out.
                DOCKER_ERRORS.labels(call).inc()
                raise EngineUnavailable(f"Docker: {call}: an answer that cannot be understood: {_said(exc)}") from exc


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def _filter(labels: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in labels.items()]


def _not_pulled(image: str, why: object) -> str:
    return f"{image} is not on this host and cannot be pulled: {why}"


def _id(found: Any) -> str:
    if not isinstance(found["Id"], str) or not found["Id"]:
        raise TypeError("no id")
    return str(found["Id"])


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError(f"{value!r} is no number of bytes or processors")
    return value


def _network(item: Mapping[str, Any]) -> Network:
    return Network(
        id=item["Id"],
        driver=item["Driver"],
        internal=bool(item.get("Internal")),
        ipv6=bool(item.get("EnableIPv6")),
        options=item.get("Options") or {},
        labels=item.get("Labels") or {},
        subnets=tuple(pool["Subnet"] for pool in (item.get("IPAM") or {}).get("Config") or () if "Subnet" in pool),
        endpoints_count=len(item.get("Containers") or {}),
    )


def _container(item: Mapping[str, Any]) -> Container:
    names, labels = item.get("Names") or [""], item["Labels"] or {}
    if not all(isinstance(text, str) for text in (item["Id"], item["State"], *labels, *labels.values())):
        raise TypeError("a container whose id, state or labels are no texts")
    return Container(item["Id"], names[0].lstrip("/"), item["State"], labels)


def _usage(stats: Mapping[str, Any], quick: bool) -> Usage:
    networks = stats.get("networks")
    return Usage(
        0.0 if quick else _cores(stats),
        _count(stats["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9,
        sum(network["tx_packets"] for network in networks.values()) if networks else None,
    )


def _cores(stats: Mapping[str, Any]) -> float:
    """CPU time between the two readings over the wall time between them."""
    used = stats["cpu_stats"]["cpu_usage"]["total_usage"] - stats["precpu_stats"]["cpu_usage"]["total_usage"]
    system = stats["cpu_stats"].get("system_cpu_usage", 0) - stats["precpu_stats"].get("system_cpu_usage", 0)
    cpus = stats["cpu_stats"].get("online_cpus", 1)
    # system_cpu_usage counts the time of all CPUs, so a CPU's worth of it is one second of wall time.
    return used / (system / cpus) if system > 0 else 0.0

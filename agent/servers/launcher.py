"""From a server without a container to one with a running one."""

import logging
from dataclasses import dataclass, replace

from agent import names
from agent.context import Host
from agent.engine.port import ContainerSpec, ImageMissing, PortTaken
from agent.host.ports import PortAllocator
from agent.inventory import Inventory
from agent.lifecycle import Server
from agent.servers.engine_calls import EngineCalls
from agent.servers.host_policy import HostPolicy
from agent.servers.probe import Probe
from agent.statics.assets import StaticAssets
from common.errors import StartFailed
from common.records.pools import PoolSpec
from common.vocabulary import EndReason

log = logging.getLogger(__name__)

# Ports lost to other programs in a row before a start counts as failed.
PORT_TRIES = 5


@dataclass(frozen=True, slots=True)
class Site:
    """Where servers are made, and what they may have there."""

    host: Host
    policy: HostPolicy


@dataclass
class Launcher:
    """Safe to use from any thread; a server is worked on by one at a time."""

    _engine_calls: EngineCalls
    _probe: Probe
    _inventory: Inventory
    _ports: PortAllocator
    _statics: StaticAssets
    _site: Site

    def launch(self, server: Server, spec: PoolSpec) -> None:
        """Make and start its container. Raises ``StartFailed``, or ``TransientError``: what was made is found again by
        its name."""
        for _ in range(PORT_TRIES):
            try:
                self._inventory.set_container(server.user, self._run(server, spec))
            except PortTaken as exc:
                log.info("port taken by another program", extra={"user": server.user, "error": str(exc)})
                port = self._ports.take()
                self._ports.release(server.port)  # into quarantine: it is not ours, and not free
                self._inventory.set_port(server.user, port)
                server = self._inventory.get(server.user) or server
            except ImageMissing:
                self._engine_calls.pull(spec.image)
            else:
                return
        raise StartFailed(EndReason.PORTS, f"{PORT_TRIES} in a row were taken by other programs")

    def _run(self, server: Server, spec: PoolSpec) -> str:
        statics = self._statics.set_of(spec)
        if statics != server.statics:
            self._inventory.set_statics(server.user, statics)
        wanted = container_spec(replace(server, statics=statics), spec, self._site.host)
        self._site.policy.check(spec)
        # The engine publishes nothing there, so it would not notice.
        if spec.host_network and self._probe.listens(server.port):
            raise PortTaken(f"port {server.port}: something listens there already")
        return self._engine_calls.run(wanted)


def container_spec(server: Server, spec: PoolSpec, host: Host) -> ContainerSpec:
    """What to ask of the engine for a server of that pool."""
    values = {
        "{base_path}": server.base_path,
        "{port}": str(server.port if spec.host_network else spec.container_port),
        # Published ports arrive on whatever interface the container has; on the host's the proxies know one address.
        "{ip}": host.bind_ip if spec.host_network else "0.0.0.0",
        "{token}": server.token,
    }
    command = spec.command
    for placeholder, value in values.items():
        # Literally, so that any other brace may stand in a command. All values are of alphabets safe for a shell.
        command = command.replace(placeholder, value)
    return ContainerSpec(
        # At an old path it is somebody's from the beginning.
        name=names.claimed_name(server) if server.claim is not None else server.name,
        image=spec.image,
        command=("/bin/sh", "-c", command),
        labels=names.labels(host.cluster, host.name, server),
        network=spec.docker_network or host.network,
        container_port=spec.container_port,
        bind_ip=host.bind_ip,
        bind_port=server.port,
        mem_limit_bytes=spec.mem_limit_bytes,
        pids_limit=spec.pids_limit,
        cpu_shares=spec.cpu_shares,
        cpu_quota=spec.cpu_quota,
        user=spec.container_user,
        environment=spec.environment,
        host_network=spec.host_network,
        extra_hosts=spec.extra_hosts,
        directories=spec.directories,
    )

"""New servers: made up, with a port and a place, before there is anything of them in the engine."""

from dataclasses import dataclass, replace

from agent import names
from agent.context import Host
from agent.health import HostHealth
from agent.host.pool_limits import PoolLimits
from agent.host.ports import PortAllocator
from agent.inventory import Inventory
from agent.lifecycle import Server
from common.ids import new_seat_key, new_server_token, new_user, server_token_of
from common.records.pools import PoolSpec


@dataclass
class ServerFactory:
    """Safe to use from any thread. What takes a port raises ``NoPortError`` or ``StoreUnavailable``."""

    _host: Host
    _inventory: Inventory
    _ports: PortAllocator
    _limits: PoolLimits
    _health: HostHealth

    def new(self, spec: PoolSpec) -> Server:
        """A server of that pool, in the inventory as starting."""
        server = self._made_up(spec)
        self._inventory.add(server)
        return server

    def reserve(self, spec: PoolSpec, user: str) -> Server | None:
        """A server of that pool at the old path of ``user``, in the inventory as reserving. None: there is no place for
        it."""
        server = replace(self._made_up(spec), user=user)
        if not self._inventory.reserve(server, self._limits.count(spec.name)):
            self._ports.release(server.port)
            return None
        return server

    def cancel_reservation(self, server: Server) -> None:
        """It is somebody else's: forget it."""
        self._inventory.cancel_reservation(server.user)
        self._ports.release(server.port)

    def _made_up(self, spec: PoolSpec) -> Server:
        key = new_seat_key() if spec.private_seats else ""
        token = server_token_of(key) if key else new_server_token()
        return Server(
            user=new_user(spec.user_length),
            pool=spec.name,
            generation=spec.generation,
            port=self._ports.take(),
            token=token if spec.use_tokens else "",
            created_at=self._health.now(),
            name=names.new_name(self._host.cluster, spec.name),
            key=key,
            own_name=self._host.own_names,
        )

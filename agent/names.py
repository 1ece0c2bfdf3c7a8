"""What is written on a container: its name and labels. The only place that builds or reads them.

The labels say what a container is and never change (Docker's labels cannot). The name says whether it was ever
claimed: the claim renames it, once, and that outlives the agent and Consul (I3). A name says nothing else: Docker's DNS
tells the names of all containers on a network to each of them, so a user's id, which is all that guards the servers of
a pool without tokens, is on a label only.

But for one: a server that was given away at another address than the label's has that one's user in its name, and since
when. Only servers whose seats are private are, and there an id opens nothing.
"""

import re
import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from agent.lifecycle import Server
from common.ids import is_seat_key, is_user
from common.statics import is_set_id

CLUSTER = "tmpnb.cluster"
_HOST = "tmpnb.host"
_POOL = "tmpnb.pool"
_USER = "tmpnb.user"
_GENERATION = "tmpnb.generation"
_PORT = "tmpnb.port"
# Needed to hand out a ready server after an agent's restart; visible to whoever owns the Docker socket, who owns
# the container anyway.
_TOKEN = "tmpnb.token"  # noqa: S105 the label's name
# Likewise: who shows it is let in by the proxies, which know its digest.
_SEAT = "tmpnb.seat"
_CREATED = "tmpnb.created"
_STATICS = "tmpnb.statics"
# How it is reached: ``host``, by a host name of its own; without the label at a path. What it was started with shows
# which, and cannot change.
_MODE, _OWN_NAME = "tmpnb.mode", "host"

_CLAIMED = ".claimed"
# What is before the mark; and the user and the time in milliseconds, of a server at another address than its label's.
_MARKED = re.compile(r"(.+)\.claimed(?:\.([a-z2-9]{12,32})\.([0-9]{1,14}))?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def selector(cluster: str, host: str) -> dict[str, str]:
    """The labels by which an agent knows its containers. It never touches any other."""
    return {CLUSTER: cluster, _HOST: host}


def labels(cluster: str, host: str, server: Server) -> dict[str, str]:
    """All labels of a new container."""
    return selector(cluster, host) | {
        _POOL: server.pool,
        _USER: server.user,
        _GENERATION: server.generation,
        _PORT: str(server.port),
        _TOKEN: server.token,
        _CREATED: server.created_at.isoformat(),
        **({_SEAT: server.key} if server.key else {}),
        **({_STATICS: server.statics} if server.statics else {}),
        **({_MODE: _OWN_NAME} if server.own_name else {}),
    }


def identity(found: Mapping[str, str], name: str = "") -> Server | None:
    """The server that the labels say, at the address that the name says; None: they are not (all) ours, so the
    container can serve nobody."""
    server = _labelled(found)
    moved = address_in(name)
    return server if server is None or moved is None else at_address(server, *moved)


def at_address(server: Server, user: str, since: datetime) -> Server:
    """The server as the one of another user than the one that it was made for, ``since`` then."""
    made_as = server.made_as or server.user
    return replace(server, user=user, created_at=since, made_as="" if made_as == user else made_as)


def _labelled(found: Mapping[str, str]) -> Server | None:
    try:
        user, port = found[_USER], int(found[_PORT])
        if not is_user(user) or not 0 < port < 65536:
            return None
        created_at = datetime.fromisoformat(found[_CREATED])
        if created_at.tzinfo is None:
            return None
        statics = found.get(_STATICS, "")
        if statics and not is_set_id(statics):
            statics = ""  # it serves all the same
        key = found.get(_SEAT, "")
        return Server(
            user, found[_POOL], found[_GENERATION], port, found[_TOKEN], created_at, statics=statics,
            key=key if is_seat_key(key) else "", own_name=found.get(_MODE) == _OWN_NAME,
        )  # fmt: skip
    except (KeyError, ValueError):
        return None


def network(cluster: str) -> str:
    """The network of the cluster's servers on every host."""
    return f"tmpnb-{cluster}"


def new_name(cluster: str, pool: str) -> str:
    """A name for a container that is to be made. All parts are of Docker's alphabet for names.

    Drawn by lot, not made of the user's id: of 60 bits, one of the many on a host is found from its hash in hours."""
    return f"tmpnb-{cluster}-{pool}-{secrets.token_hex(8)}"


def claimed_name(server: Server) -> str:
    """The name of a server's container from its claim on."""
    marked = _MARKED.fullmatch(server.name)
    name = (marked[1] if marked else server.name) + _CLAIMED
    if not server.made_as:
        return name
    return f"{name}.{server.user}.{(server.created_at - _EPOCH) // timedelta(milliseconds=1)}"


def statics_name(cluster: str, host: str, statics: str) -> str:
    """The name of a container that is only looked at (``statics/assets.py``), and never a server's."""
    return f"tmpnb-{cluster}-{host}.statics-{statics}"


def is_claimed(name: str) -> bool:
    """Whether a container of that name was ever claimed. What is drawn by lot holds no dot: there is no other such
    ending."""
    return _MARKED.fullmatch(name) is not None


def address_in(name: str) -> tuple[str, datetime] | None:
    """The user at whose address a container of that name was given away, and when; None: at the one of its label, if at
    all."""
    marked = _MARKED.fullmatch(name)
    if marked is None or not marked[2] or not is_user(marked[2]):
        return None
    return marked[2], to_the_millisecond(_EPOCH + timedelta(milliseconds=int(marked[3])))


def to_the_millisecond(at: datetime) -> datetime:
    """A time as exact as names can say it."""
    return _EPOCH + (at - _EPOCH) // timedelta(milliseconds=1) * timedelta(milliseconds=1)

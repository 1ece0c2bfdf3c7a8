"""Fetching a set of static files from a host, in parts over RabbitMQ, and checking every file against the set's record.

Called by ``sync.py`` on its thread.
"""

import io
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping

from common.broker import queues
from common.broker.messages import PART_MAX_BYTES, StaticsPart, StaticsRequest, decode
from common.broker.port import Outgoing, Requester
from common.errors import MalformedMessage, TransientError
from common.ids import new_request_id
from common.records.hosts import HostRecord
from common.records.statics import Statics
from common.runtime.clock import utc_now

# A host that has forgotten its bundle takes it out of the image once more, which is a matter of seconds.
WAIT_S = 30.0
# What a zip archive adds: headers per member, and a little where nothing can be compressed.
OVERHEAD_BYTES = 512
OVERHEAD_PART = 1.01


class NotFetched(TransientError):
    """A host does not give the set, or gives something else."""


def hosts_with(record: Statics, hosts: Mapping[str, HostRecord]) -> list[str]:
    """Who can be asked: the host that took the set, then all others whose pools use it."""
    users = sorted(name for name, host in hosts.items() if any(p.statics == record.id for p in host.pools.values()))
    first = [record.host] if record.host in hosts else []
    return first + [name for name in users if name != record.host]


def fetch(broker: Requester, host: str, record: Statics, within_s: float) -> Iterator[tuple[str, bytes]]:
    """SHA-256 and content of every file of the set, in ``within_s`` seconds: a host that gives a byte at a time is no
    source. Raises ``NotFetched``, and what ``Requester.request`` raises."""
    bundle = _bundle(broker, host, record, within_s)
    sizes = {file.sha256: file.size for file in record.files.values()}
    try:
        with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
            for sha256, size in sizes.items():
                # Before it is unpacked: a member says itself how large it becomes.
                if archive.getinfo(sha256).file_size != size:
                    raise NotFetched(f"{host}: {sha256}: not of the size that the record says")
                yield sha256, archive.read(sha256)
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, NotImplementedError, RuntimeError) as exc:
        raise NotFetched(f"{host}: bundle cannot be read: {exc!r}") from exc


def _bundle(broker: Requester, host: str, record: Statics, within_s: float) -> bytes:
    limit = int(record.total_bytes * OVERHEAD_PART) + OVERHEAD_BYTES * (len(record.files) + 1)
    first = _part(broker, host, record, 0)
    if not 0 < first.total_bytes <= limit:
        raise NotFetched(f"{host}: a bundle of {first.total_bytes} bytes; at most {limit} are accepted")
    data = bytearray(first.data)
    deadline = time.monotonic() + within_s
    while len(data) < first.total_bytes:
        if time.monotonic() > deadline:
            raise NotFetched(f"{host}: {len(data)} of {first.total_bytes} bytes within {within_s:g} s")
        part = _part(broker, host, record, len(data))
        if part.bundle != first.bundle or part.offset != len(data) or not part.data:
            raise NotFetched(f"{host}: the bundle changed on the way")
        data += part.data
    return bytes(data)


def _part(broker: Requester, host: str, record: Statics, offset: int) -> StaticsPart:
    request = StaticsRequest(sent_at=utc_now(), statics=record.id, offset=offset)
    message_id = new_request_id()
    body = broker.request(
        queues.host(host), Outgoing(request.encode(), message_id, correlation_id=message_id, expires_s=WAIT_S), WAIT_S
    )
    if body is None:
        raise NotFetched(f"{host}: no answer within {WAIT_S:g} s")
    try:
        part = decode(body, PART_MAX_BYTES)
    except MalformedMessage as exc:
        raise NotFetched(f"{host}: {exc}") from exc
    if not isinstance(part, StaticsPart) or part.statics != record.id or part.problem:
        raise NotFetched(f"{host}: {getattr(part, 'problem', '') or 'an answer to something else'}")
    return part

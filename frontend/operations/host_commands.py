"""Messages to a host, through its queue."""

from collections.abc import Iterable

from common.broker import queues
from common.broker.messages import Message
from common.broker.port import Outgoing, Publisher
from common.errors import BrokerUnavailable
from common.ids import new_request_id


def send(publisher: Publisher, host: str, message: Message, expires_s: float | None = None) -> bool:
    """Put a message into a host's queue. Returns False if there is no such queue."""
    return not send_all(publisher, [(host, message)], expires_s)


def send_all(publisher: Publisher, messages: Iterable[tuple[str, Message]], expires_s: float | None = None) -> int:
    """Put messages into hosts' queues, and wait once for all. Returns how many had no queue to go to. Raises
    ``BrokerUnavailable`` if any may not have arrived."""
    outgoing = [
        (queues.host(host), Outgoing(message.encode(), new_request_id(), expires_s=expires_s))
        for host, message in messages
    ]
    failed = publisher.publish_all(outgoing).values()
    for error in failed:
        if isinstance(error, BrokerUnavailable):
            raise error
    return len(failed)

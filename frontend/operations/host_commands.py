"""Messages to a host, through its queue."""

from common.broker import queues
from common.broker.messages import Message
from common.broker.port import Outgoing, Publisher
from common.errors import Unroutable
from common.ids import new_request_id


def send(publisher: Publisher, host: str, message: Message, expires_s: float | None = None) -> bool:
    """Put a message into a host's queue. Returns False if there is no such queue."""
    try:
        publisher.publish(queues.host(host), Outgoing(message.encode(), new_request_id(), expires_s=expires_s))
    except Unroutable:
        return False
    return True

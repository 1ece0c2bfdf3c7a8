"""The exceptions that cross a boundary between our packages.

    TmpnbError
    ├── TransientError          try again later, with backoff
    │   ├── RecordContended     lost every race for a record in Consul
    │   ├── StoreUnavailable    Consul cannot be reached or has no leader
    │   ├── BrokerUnavailable   RabbitMQ cannot be reached, or blocks publishers
    │   └── EngineUnavailable   the Docker Engine cannot be reached
    ├── ConflictError           lost a race; normal, look again
    │   └── Unroutable          nobody is there to take the message (any more)
    └── PermanentError          give up and say so
        ├── MalformedRecord     bytes in Consul that are no record of ours
        ├── MalformedMessage    bytes on a queue that are no message of ours
        ├── InvalidPool         a pool that can never work as written
        └── StartFailed         a container that does not come up

Exceptions of pika, consul, requests and docker never leave their adapters.
"""

from common.vocabulary import StartFailure


class TmpnbError(Exception):
    """Base of everything we raise on purpose."""


class TransientError(TmpnbError):
    """A part is away; the same call may work later."""


class StoreUnavailable(TransientError):
    """Consul cannot be reached, has no leader, or answered with a server error."""


class RecordContended(StoreUnavailable):
    """Something else keeps rewriting the record: to whoever asked, the store was away."""


class BrokerUnavailable(TransientError):
    """RabbitMQ cannot be reached or did not confirm in time."""


class EngineUnavailable(TransientError):
    """The Docker Engine cannot be reached or timed out."""


class ConflictError(TmpnbError):
    """Somebody else was faster."""


class Unroutable(ConflictError):
    """The message has no queue to go to: the requester or the queue is gone."""


class PermanentError(TmpnbError):
    """Trying again cannot help."""


class MalformedRecord(PermanentError):
    """A value in Consul that does not parse as the record its key promises."""


class MalformedMessage(PermanentError):
    """A message body that does not parse as any message of ours."""


class InvalidPool(PermanentError):
    """A PoolSpec that is wrong; the text names the field, the value and what is accepted."""


class StartFailed(PermanentError):
    """A container that does not come up. ``note``: what more there is to say of ``reason``; ``log``: its last lines."""

    def __init__(self, reason: StartFailure, note: str = "", log: str = "") -> None:
        super().__init__(f"{reason}: {note}" if note else reason.value)
        self.reason = reason
        self.note = note
        self.log = log

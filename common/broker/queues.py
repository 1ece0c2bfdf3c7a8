"""Names and arguments of everything declared in RabbitMQ. Nobody else names a queue.

Undecodable messages and those over the delivery limit end in ``dead``. Expired ones do not (nobody wants
them any more, which is no fault): the dead letter exchange routes by the reason RabbitMQ puts into the
header ``x-first-death-reason``.
"""

DEAD = "dead"
DEAD_LETTER_EXCHANGE = "dead-letters"
EVENTS_EXCHANGE = "events"

# After so many failed deliveries a message is poison. RabbitMQ's own default since 4.0.
DELIVERY_LIMIT = 20
# The operator looks at dead letters by hand: more than this are no use, and must not fill the disk.
DEAD_MAX_COUNT = 10_000

# What a listener that has stopped to read may leave in the broker: some MB; then the oldest are dropped.
EVENTS_MAX_COUNT = 10_000

# Values of x-first-death-reason that an operator should see (docs: dlx). "expired" is left out on purpose.
DEAD_REASONS = ("rejected", "delivery_limit")

# Of every ``spawn.*`` and ``host.*`` queue; they must be the same at every declare.
WORK_QUEUE_ARGUMENTS = {
    "x-queue-type": "quorum",
    "x-delivery-limit": DELIVERY_LIMIT,
    "x-dead-letter-exchange": DEAD_LETTER_EXCHANGE,
}
DEAD_QUEUE_ARGUMENTS = {"x-queue-type": "quorum", "x-max-length": DEAD_MAX_COUNT}
# Of a listener's own queue of events.
EVENTS_QUEUE_ARGUMENTS = {"x-max-length": EVENTS_MAX_COUNT, "x-overflow": "drop-head"}


def spawn(pool: str) -> str:
    """The waiting line of one pool."""
    return f"spawn.{pool}"


def host(name: str) -> str:
    """The command queue of one host."""
    return f"host.{name}"


def pool_of(spawn_queue: str) -> str:
    """The pool whose line it is."""
    return spawn_queue.removeprefix("spawn.")


def is_work_queue(name: str) -> bool:
    """Whether it is one of the queues above (and not a reply address)."""
    return name.startswith(("spawn.", "host."))

"""Composition root of the public application; called once in every gunicorn worker, after the fork.

``start``/``stop`` belong to gunicorn's ``post_worker_init``/``worker_exit``: threads and sockets do not survive a fork.
"""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask

from common.broker.rabbitmq import RabbitPublisher
from common.runtime.logs import setup_logging
from common.settings import load
from frontend.adapters import START_S, consul_store, presence, rabbit_address, start_broker, stop_broker
from frontend.public.app import create_app as create_public_app
from frontend.public.dependencies import Parts, assemble
from frontend.settings import PublicSettings


def create_app(settings: PublicSettings | None = None) -> Flask:
    """The public application with its real parts, not started yet. ``settings`` None: from the environment."""
    settings = settings or load(PublicSettings)
    setup_logging("frontend", settings.log_level, settings.audit_file)
    address = rabbit_address(settings, f"frontend {socket.gethostname()}")
    parts = assemble(
        settings,
        consul_store(settings),
        lambda late: RabbitPublisher(address, "requester", on_late_reply=late),
        connect_aside=lambda: connected(RabbitPublisher(address, "statics", on_late_reply=lambda _late: None)),
    )
    app = create_public_app(parts)
    app.extensions["tmpnb.presence"] = presence(parts.store, settings, "frontend", settings.port)
    return app


def start_app(app: Flask) -> None:
    """Start threads and connections of the public application, in a worker."""
    parts: Parts = app.extensions["tmpnb"]
    start_broker(parts.broker)
    parts.late.start(parts.broker)
    parts.pools.start()
    parts.tokens.start()
    parts.sampler.start()
    parts.statics.start()
    app.extensions["tmpnb.presence"].start()
    deadline = time.monotonic() + START_S
    parts.pools.wait_loaded(START_S)
    parts.tokens.wait_loaded(max(0.0, deadline - time.monotonic()))


def stop_app(app: Flask) -> None:
    """Stop in the order that loses nothing: out of the catalogue, late replies worked off, then the connection."""
    parts: Parts = app.extensions["tmpnb"]
    app.extensions["tmpnb.presence"].stop()
    parts.pools.stop()
    parts.tokens.stop()
    parts.sampler.stop()
    parts.statics.stop()
    parts.late.stop()
    stop_broker(parts.broker)


@contextmanager
def connected(broker: RabbitPublisher) -> Iterator[RabbitPublisher]:
    """A connection for as long as it is needed."""
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()

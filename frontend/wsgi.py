"""Composition roots of the two applications; called once in every gunicorn worker, after the fork.

``start``/``stop`` belong to gunicorn's ``post_worker_init``/``worker_exit``: threads and sockets do not survive a fork.
"""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask

from common.broker.rabbitmq import RabbitPublisher, RabbitSubscriber
from common.runtime.logs import setup_logging
from common.settings import load
from frontend.admin.app import create_admin_app
from frontend.admin.parts import AdminParts
from frontend.app import create_app as create_public_app
from frontend.parts import Parts, assemble
from frontend.settings import AdminSettings, PublicSettings
from frontend.wiring import consul_store, presence, rabbit_address

# How long a new worker waits for its stores before it takes requests; without them it answers "unavailable".
START_S = 5.0


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


def create_admin(settings: AdminSettings | None = None) -> Flask:
    """The admin application with its real parts, not started yet. ``settings`` None: from the environment."""
    settings = settings or load(AdminSettings)
    setup_logging("admin", settings.log_level, settings.audit_file)
    store = consul_store(settings)
    address = rabbit_address(settings, f"admin {socket.gethostname()}")
    parts = AdminParts.assemble(settings, store, RabbitPublisher(address, "publisher"))
    app = create_admin_app(parts)
    app.extensions["tmpnb.subscriber"] = RabbitSubscriber(address, parts.board.feed.hear)
    app.extensions["tmpnb.presence"] = presence(store, settings, "admin", settings.admin_port)
    return app


def start_admin(app: Flask) -> None:
    """Start threads and connections of the admin application, in a worker."""
    parts: AdminParts = app.extensions["tmpnb"]
    start_broker(parts.publisher)
    app.extensions["tmpnb.subscriber"].start()
    parts.board.start(app.extensions["tmpnb.subscriber"], parts.publisher)
    parts.seeder.start()
    parts.tokens.start()
    app.extensions["tmpnb.presence"].start()
    parts.tokens.wait_loaded(START_S)


def stop_admin(app: Flask) -> None:
    parts: AdminParts = app.extensions["tmpnb"]
    app.extensions["tmpnb.presence"].stop()
    parts.board.stop()
    parts.tokens.stop()
    parts.seeder.stop()
    app.extensions["tmpnb.subscriber"].stop()
    stop_broker(parts.publisher)


@contextmanager
def connected(broker: RabbitPublisher) -> Iterator[RabbitPublisher]:
    """A connection for as long as it is needed."""
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


def start_broker(broker: object) -> None:
    """Connect, if it is the real adapter; fakes are always connected."""
    if isinstance(broker, RabbitPublisher):
        broker.start()


def stop_broker(broker: object) -> None:
    if isinstance(broker, RabbitPublisher):
        broker.stop()

"""Composition root of the public application; called once in every gunicorn worker, after the fork.

``start``/``stop`` belong to gunicorn's ``post_worker_init``/``worker_exit``: threads and sockets do not survive a fork.
"""

import socket
import time

from flask import Flask

from common.broker.rabbitmq import RabbitPublisher
from common.runtime.logs import setup_logging
from common.settings import load
from frontend.adapters import (
    START_S,
    connected,
    consul_store,
    rabbit_address,
    service_registration,
    start_broker,
    stop_broker,
)
from frontend.public.app import create_app as create_public_app
from frontend.public.dependencies import Dependencies, assemble
from frontend.settings import PublicSettings


def create_app(settings: PublicSettings | None = None) -> Flask:
    """The public application with its real dependencies, not started yet. ``settings`` None: from the environment."""
    settings = settings or load(PublicSettings)
    setup_logging("frontend", settings.log_level, settings.audit_file)
    address = rabbit_address(settings, f"frontend {socket.gethostname()}")
    deps = assemble(
        settings,
        consul_store(settings),
        lambda late: RabbitPublisher(address, "requester", on_late_reply=late),
        connect_aside=lambda: connected(RabbitPublisher(address, "statics", on_late_reply=lambda _late: None)),
    )
    app = create_public_app(deps)
    app.extensions["tmpnb.registration"] = service_registration(deps.cluster.store, settings, "frontend", settings.port)
    return app


def start_app(app: Flask) -> None:
    """Start threads and connections of the public application, in a worker."""
    deps: Dependencies = app.extensions["tmpnb"]
    start_broker(deps.broker)
    deps.late.start(deps.broker)
    deps.pools.start()
    deps.tokens.start()
    deps.sampler.start()
    deps.statics.start()
    app.extensions["tmpnb.registration"].start()
    deadline = time.monotonic() + START_S
    deps.pools.wait_loaded(START_S)
    deps.tokens.wait_loaded(max(0.0, deadline - time.monotonic()))


def stop_app(app: Flask) -> None:
    """Stop in the order that loses nothing: out of the catalogue, late replies worked off, then the connection."""
    deps: Dependencies = app.extensions["tmpnb"]
    app.extensions["tmpnb.registration"].stop()
    deps.pools.stop()
    deps.tokens.stop()
    deps.sampler.stop()
    deps.statics.stop()
    deps.late.stop()
    stop_broker(deps.broker)

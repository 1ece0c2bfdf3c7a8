"""Composition root of the public application; called once in every gunicorn worker, after the fork."""

import socket

from flask import Flask

from common.adapters import consul_store, rabbit_address
from common.broker.rabbitmq import RabbitPublisher
from common.runtime.logs import setup_logging
from common.runtime.process import InOrder
from common.settings import load
from frontend.adapters import FirstLook, connected, service_registration
from frontend.http.gunicorn import RUNNING
from frontend.public.app import create_app as create_public_app
from frontend.public.dependencies import assemble
from frontend.settings import PublicSettings


def create_app(settings: PublicSettings | None = None) -> Flask:
    """The public application with its real dependencies, not started yet. ``settings`` None: from the environment."""
    settings = settings or load(PublicSettings)
    setup_logging(settings.role, settings.log_level, settings.audit_file)
    address = rabbit_address(settings, f"frontend {socket.gethostname()}")
    connection = RabbitPublisher(address, "requester", on_late_reply=lambda body: deps.late.put(body))
    deps = assemble(
        settings,
        consul_store(settings),
        lambda _late: connection,
        connect_aside=lambda: connected(RabbitPublisher(address, "statics", on_late_reply=lambda _late: None)),
    )
    app = create_public_app(deps)
    # Stopped in the opposite order, which loses nothing: out of the catalogue, late replies worked off, then the
    # connection.
    app.extensions[RUNNING] = InOrder(
        connection,
        deps.late,
        deps.pools,
        deps.tokens,
        deps.sampler,
        deps.statics,
        service_registration(deps.cluster.store, settings, "frontend", settings.port),
        FirstLook(deps.pools, deps.tokens),
    )
    return app

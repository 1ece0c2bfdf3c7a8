"""Composition root of the admin application; called once in every gunicorn worker, after the fork."""

import socket

from flask import Flask

from common.adapters import consul_store, rabbit_address
from common.broker.rabbitmq import RabbitPublisher, RabbitSubscriber
from common.runtime.logs import setup_logging
from common.runtime.process import InOrder
from common.settings import load
from frontend.adapters import FirstLook, service_registration
from frontend.admin.app import create_admin_app
from frontend.admin.dependencies import AdminDependencies
from frontend.http.gunicorn import RUNNING
from frontend.settings import AdminSettings


def create_admin(settings: AdminSettings | None = None) -> Flask:
    """The admin application with its real dependencies, not started yet. ``settings`` None: from the environment."""
    settings = settings or load(AdminSettings)
    setup_logging(settings.role, settings.log_level, settings.audit_file)
    store = consul_store(settings)
    address = rabbit_address(settings, f"admin {socket.gethostname()}")
    publisher = RabbitPublisher(address, "publisher")
    deps = AdminDependencies.assemble(settings, store, publisher)
    subscriber = RabbitSubscriber(address, deps.dashboard.feed.hear)
    deps.dashboard.tell_of(subscriber, publisher)
    app = create_admin_app(deps)
    app.extensions[RUNNING] = InOrder(
        publisher,
        subscriber,
        deps.dashboard,
        deps.bootstrap,
        deps.tokens,
        service_registration(store, settings, "admin", settings.admin_port),
        FirstLook(deps.tokens),
    )
    return app

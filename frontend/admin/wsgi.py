"""Composition root of the admin application; called once in every gunicorn worker, after the fork."""

import socket

from flask import Flask

from common.broker.rabbitmq import RabbitPublisher, RabbitSubscriber
from common.runtime.logs import setup_logging
from common.settings import load
from frontend.adapters import START_S, consul_store, rabbit_address, service_registration, start_broker, stop_broker
from frontend.admin.app import create_admin_app
from frontend.admin.dependencies import AdminDependencies
from frontend.settings import AdminSettings


def create_admin(settings: AdminSettings | None = None) -> Flask:
    """The admin application with its real dependencies, not started yet. ``settings`` None: from the environment."""
    settings = settings or load(AdminSettings)
    setup_logging("admin", settings.log_level, settings.audit_file)
    store = consul_store(settings)
    address = rabbit_address(settings, f"admin {socket.gethostname()}")
    deps = AdminDependencies.assemble(settings, store, RabbitPublisher(address, "publisher"))
    app = create_admin_app(deps)
    app.extensions["tmpnb.subscriber"] = RabbitSubscriber(address, deps.dashboard.feed.hear)
    app.extensions["tmpnb.registration"] = service_registration(store, settings, "admin", settings.admin_port)
    return app


def start_admin(app: Flask) -> None:
    """Start threads and connections of the admin application, in a worker."""
    deps: AdminDependencies = app.extensions["tmpnb"]
    start_broker(deps.publisher)
    app.extensions["tmpnb.subscriber"].start()
    deps.dashboard.start(app.extensions["tmpnb.subscriber"], deps.publisher)
    deps.bootstrap.start()
    deps.tokens.start()
    app.extensions["tmpnb.registration"].start()
    deps.tokens.wait_loaded(START_S)


def stop_admin(app: Flask) -> None:
    deps: AdminDependencies = app.extensions["tmpnb"]
    app.extensions["tmpnb.registration"].stop()
    deps.dashboard.stop()
    deps.tokens.stop()
    deps.bootstrap.stop()
    app.extensions["tmpnb.subscriber"].stop()
    stop_broker(deps.publisher)

"""Composition root of the admin application; called once in every gunicorn worker, after the fork."""

import socket

from flask import Flask

from common.broker.rabbitmq import RabbitPublisher, RabbitSubscriber
from common.runtime.logs import setup_logging
from common.settings import load
from frontend.adapters import START_S, consul_store, presence, rabbit_address, start_broker, stop_broker
from frontend.admin.app import create_admin_app
from frontend.admin.dependencies import AdminParts
from frontend.settings import AdminSettings


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

"""gunicorn's configuration of the public application: ``gunicorn -c python:frontend.gunicorn_conf …``."""

from typing import Any

from common.logs import setup_logging
from common.settings import load
from frontend.serving import gunicorn_settings, stop_worker
from frontend.settings import PublicSettings, bind
from frontend.wsgi import start_app, stop_app

_settings = load(PublicSettings)
setup_logging("frontend", _settings.log_level)
globals().update(gunicorn_settings(_settings, bind(_settings.ip, _settings.port)))


def post_worker_init(worker: Any) -> None:
    start_app(worker.wsgi)


def worker_exit(server: Any, worker: Any) -> None:  # noqa: ARG001 gunicorn's signature
    stop_worker(worker, stop_app)

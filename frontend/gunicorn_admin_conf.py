"""gunicorn's configuration of the admin application: ``gunicorn -c python:frontend.gunicorn_admin_conf …``."""

from typing import Any

from common.logs import setup_logging
from common.settings import load
from frontend.serving import gunicorn_settings, stop_worker
from frontend.settings import AdminSettings, bind
from frontend.wsgi import start_admin, stop_admin

_settings = load(AdminSettings)
setup_logging("admin", _settings.log_level)
globals().update(gunicorn_settings(_settings, bind(_settings.bind_ip, _settings.admin_port)))


def post_worker_init(worker: Any) -> None:
    start_admin(worker.wsgi)


def worker_exit(server: Any, worker: Any) -> None:  # noqa: ARG001 gunicorn's signature
    stop_worker(worker, stop_admin)

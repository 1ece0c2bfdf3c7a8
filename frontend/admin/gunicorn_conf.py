"""gunicorn's configuration of the admin application: ``gunicorn -c python:frontend.admin.gunicorn_conf …``."""

from typing import Any

from common.settings import load
from frontend.http.multiprocess import share_metrics
from frontend.settings import AdminSettings, bind

_settings = load(AdminSettings)
_metrics_folder = share_metrics(_settings)

# Only now: the rest imports prometheus_client, which looks for the folder at once.
from common.runtime.logs import setup_logging  # noqa: E402
from frontend.admin.wsgi import start_admin, stop_admin  # noqa: E402
from frontend.http import metrics  # noqa: E402
from frontend.http.gunicorn import gunicorn_settings, start_worker, stop_worker  # noqa: E402

setup_logging("admin", _settings.log_level, _settings.audit_file)
globals().update(gunicorn_settings(_settings, bind(_settings.bind_ip, _settings.admin_port)))


def post_worker_init(worker: Any) -> None:
    start_worker(worker, start_admin)


def worker_exit(server: Any, worker: Any) -> None:  # noqa: ARG001 gunicorn's signature
    stop_worker(worker, stop_admin)


def child_exit(server: Any, worker: Any) -> None:  # noqa: ARG001 gunicorn's signature
    metrics.forget_worker(_metrics_folder, worker.pid)


def on_exit(server: Any) -> None:  # noqa: ARG001 gunicorn's signature
    metrics.drop(_metrics_folder)

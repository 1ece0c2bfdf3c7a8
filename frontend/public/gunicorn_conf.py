"""gunicorn's configuration of the public application: ``gunicorn -c python:frontend.public.gunicorn_conf …``."""

from typing import Any

from common.settings import load
from frontend.http.multiprocess import share_metrics
from frontend.settings import PublicSettings, bind

_settings = load(PublicSettings)
_metrics_folder = share_metrics(_settings)

# Only now: the rest imports prometheus_client, which looks for the folder at once.
from common.runtime.logs import setup_logging  # noqa: E402
from frontend.http import metrics  # noqa: E402
from frontend.http.gunicorn import gunicorn_settings, stop_worker  # noqa: E402
from frontend.public.wsgi import start_app, stop_app  # noqa: E402

setup_logging("frontend", _settings.log_level, _settings.audit_file)
globals().update(gunicorn_settings(_settings, bind(_settings.ip, _settings.port)))


def post_worker_init(worker: Any) -> None:
    start_app(worker.wsgi)


def worker_exit(server: Any, worker: Any) -> None:  # noqa: ARG001 gunicorn's signature
    stop_worker(worker, stop_app)


def child_exit(server: Any, worker: Any) -> None:  # noqa: ARG001 gunicorn's signature
    metrics.forget_worker(_metrics_folder, worker.pid)


def on_exit(server: Any) -> None:  # noqa: ARG001 gunicorn's signature
    metrics.drop(_metrics_folder)

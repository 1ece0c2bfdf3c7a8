"""gunicorn around both applications: its settings, its log, and serving without its command line."""

from collections.abc import Callable
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.config import Config  # type: ignore[import-untyped]
from gunicorn.glogging import Logger  # type: ignore[import-untyped]

from frontend.http import metrics
from frontend.http.arrival import HEAD_MAX_BYTES, arrival_worker
from frontend.settings import AdminSettings, PublicSettings

# Where an application finds out whether its worker goes on.
ALIVE = "tmpnb.alive"
# Where an application keeps what is started and stopped with its worker (``InOrder``).
RUNNING = "tmpnb.running"


def gunicorn_settings(settings: PublicSettings | AdminSettings, metrics_folder: str | None = None) -> dict[str, Any]:
    """gunicorn's settings by name, and what it calls in the life of a worker. ``metrics_folder``: as ``share_metrics``
    has made it."""
    metrics_bind = [f"{settings.metrics_ip}:{settings.metrics_port}"] if settings.metrics_port else []
    return {
        "bind": [settings.bind, *metrics_bind],
        # gunicorn's "gthread", but a request gets a thread only once it is here.
        "worker_class": arrival_worker(settings),
        "workers": settings.workers,
        "threads": settings.threads,
        # Threads and sockets do not survive a fork: everything is made in the worker.
        "preload_app": False,
        "graceful_timeout": settings.graceful_timeout_s,
        # Longer than the proxy tier keeps its idle connections, so that it never sends into a closing one.
        "keepalive": 75,
        # The heartbeat file of each worker: memory, not the container's disk.
        "worker_tmp_dir": "/dev/shm",  # noqa: S108
        "control_socket_disable": True,
        # Our own line per request instead: gunicorn's would hold query strings.
        "accesslog": None,
        "logger_class": "frontend.http.gunicorn.JsonLogger",
        # Deep links are long (8190 is the most that gunicorn takes); anything beyond is refused before it reaches the
        # application. Of headers as much as HAProxy lets pass: a university's cookies weigh 30 KB.
        "limit_request_line": 8190,
        "limit_request_fields": 128,
        "limit_request_field_size": HEAD_MAX_BYTES,
        "post_worker_init": _start,
        "worker_exit": lambda _server, worker: _stop(worker),
        "child_exit": lambda _server, worker: metrics.forget_worker(metrics_folder, worker.pid),
        "on_exit": lambda _server: metrics.drop(metrics_folder),
    }


class JsonLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's messages through our root logger, as JSON lines like everything else."""

    def setup(self, cfg: Config) -> None:  # noqa: ARG002 gunicorn's signature
        self.error_log.propagate = True
        self.error_log.setLevel("INFO")


class GunicornServer(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn without its own command line, so that our flags can be ours."""

    def __init__(self, options: dict[str, Any], create: Callable[[], Flask]) -> None:
        """``create`` runs in every worker."""
        self._options = options
        self._create = create
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        return self._create()


def _start(worker: Any) -> None:
    """Start a worker's application. What holds a thread for long lets go when the worker is told to stop, not when its
    patience ends."""
    worker.wsgi.extensions[ALIVE] = lambda: worker.alive
    worker.wsgi.extensions[RUNNING].start()


def _stop(worker: Any) -> None:
    """Stop a worker's application, if it came up at all."""
    if getattr(worker, "wsgi", None) is not None:
        worker.wsgi.extensions[RUNNING].stop()

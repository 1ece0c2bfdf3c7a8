"""Makes gunicorn's workers count together: before the fork, and before anything imports ``prometheus_client``.

That library looks at its variable when it is imported, and keeps every process's values in files of the folder that the
variable names. So this module imports nothing of ours that has instruments, and the composition roots call it first.
"""

import pkgutil
import sys
import tempfile
from typing import Any

from common.settings import set_variable
from frontend.settings import AdminSettings, PublicSettings

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
# Memory: the files are written with every observation, and nothing may be left of them after a restart.
PARENT = "/dev/shm"  # noqa: S108 a folder of our own is made in it


def configure(settings: PublicSettings | AdminSettings) -> dict[str, Any]:
    """gunicorn's settings, by name, of an application: once its log is set up and its workers count together."""
    folder = _share_metrics() if settings.metrics_port else None
    # Only now: they import prometheus_client, which looks for the folder at once.
    from common.runtime.logs import setup_logging
    from frontend.http.gunicorn import gunicorn_settings

    setup_logging(settings.role, settings.log_level, settings.audit_file)
    return gunicorn_settings(settings, folder)


def serve(settings: PublicSettings | AdminSettings, create: str) -> None:
    """Serve until SIGTERM, without gunicorn's command line. ``create``: ``module:name`` of what makes it."""
    options = configure(settings)
    from frontend.http.gunicorn import GunicornServer

    GunicornServer(options, lambda: pkgutil.resolve_name(create)(settings)).run()


def _share_metrics() -> str:
    """A new, empty folder for this master and its workers. Raises ``RuntimeError`` when it is too late."""
    if "prometheus_client" in sys.modules:
        raise RuntimeError("prometheus_client was imported before its folder was known")
    folder = tempfile.mkdtemp(prefix="tmpnb-metrics-", dir=PARENT)
    set_variable(VARIABLE, folder)
    return folder

"""Makes gunicorn's workers count together: before the fork, and before anything imports ``prometheus_client``.

That library looks at its variable when it is imported, and keeps every process's values in files of the folder that the
variable names. So this module imports nothing of ours that has instruments, and the composition roots call it first.
"""

import sys
import tempfile

from common.settings import set_variable
from frontend.settings import GunicornSettings

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
# Memory: the files are written with every observation, and nothing may be left of them after a restart.
PARENT = "/dev/shm"  # noqa: S108 a folder of our own is made in it


def share_metrics(settings: GunicornSettings) -> str | None:
    """A new, empty folder for this master and its workers; None: nobody is to see metrics. Raises ``RuntimeError`` when
    it is too late."""
    if not settings.metrics_port:
        return None
    if "prometheus_client" in sys.modules:
        raise RuntimeError("prometheus_client was imported before its folder was known")
    folder = tempfile.mkdtemp(prefix="tmpnb-metrics-", dir=PARENT)
    set_variable(VARIABLE, folder)
    return folder

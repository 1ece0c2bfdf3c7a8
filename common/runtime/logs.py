"""Logging of every process: JSON lines on stdout, a fixed lower-case event phrase plus fields (``extra=``)."""

import logging
import sys
from pathlib import Path

from pythonjsonlogger.json import JsonFormatter

from common.runtime.audit_log import setup_audit


def setup_logging(service: str, level: str, audit_file: Path | None = None) -> None:
    """Send everything to stdout as JSON lines that name ``service``, the audit log too. Never pass a secret to a
    logger."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        JsonFormatter(
            "%(asctime)s %(levelname)s %(name)s %(message)s",
            rename_fields={"asctime": "at", "levelname": "level", "name": "logger", "message": "event"},
            static_fields={"service": service},
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    setup_audit(service, audit_file)
    # pika and urllib3 report every reconnect attempt and pooled connection; ours say it once.
    for noisy in ("pika", "urllib3", "docker"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL if noisy == "pika" else logging.WARNING)

"""For tests of what operators see: counts of this process's metrics, and lines of its audit log."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import REGISTRY

from common.runtime.audit_log import AuditLine


def figure(name: str, **labels: str) -> float:
    """A metric's value now; 0.0: there is none."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


class Counted:
    """How much a metric has grown since this was made: ``Counted("tmpnb_claims_total", pool="p")()``."""

    def __init__(self, name: str, **labels: str) -> None:
        self._name, self._labels = name, labels
        self._before = figure(name, **labels)

    def __call__(self) -> float:
        return figure(self._name, **self._labels) - self._before


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[AuditLine] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(AuditLine.model_validate_json(record.getMessage()))


@contextmanager
def audited() -> Iterator[list[AuditLine]]:
    """The lines that are written meanwhile, each held to its schema."""
    handler = _Lines()
    logger = logging.getLogger("tmpnb.audit")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)

"""Wall-clock time for what is stored, in one form. Waiting uses ``time.monotonic`` at the place that waits."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """The current time, timezone-aware, UTC."""
    return datetime.now(UTC)

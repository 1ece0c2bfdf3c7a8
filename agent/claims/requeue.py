"""What the handlers of requests raise."""

from common.errors import TmpnbError


class Requeue(TmpnbError):
    """The request could not be served now; it goes back to its queue."""

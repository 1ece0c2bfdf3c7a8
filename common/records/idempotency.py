"""What is kept of a request that may be sent again (``frontend/http/api/idempotency.py``)."""

from datetime import datetime, timedelta
from typing import ClassVar

from pydantic import Field

from common.bounds import Time
from common.records.base import Record

# Who lost an answer asks again within seconds. Answers may hold a server's token and should not lie around.
KEPT = timedelta(minutes=15)
# No request takes so long: a program may wait for a server for 60 s at most.
UNDER_WAY = timedelta(minutes=2)


class Replay(Record):
    """A request that had a key, and its answer. ``key`` and ``request``: digests of both; ``code`` 0: it is under
    way."""

    ID_FIELD: ClassVar = "key"

    key: str = ""
    request: str
    at: Time
    code: int = Field(default=0, ge=0, le=599)
    headers: dict[str, str] = Field(default_factory=dict)
    body: str = ""

    def is_over(self, now: datetime) -> bool:
        """Whether the key may be used for something else."""
        return now - self.at > (KEPT if self.code else UNDER_WAY)

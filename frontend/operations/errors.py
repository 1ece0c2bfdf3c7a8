"""Why an operation was not done.

    TmpnbError
    ├── NotFound                there is no such server, host, pool or token
    │   ├── ServerEnded         there was such a server; the text says why it is gone
    │   └── UnknownPool         there is no such pool; the text says which there are
    ├── InvalidValue            a value is not accepted; the text says which are
    ├── WrongState              not possible in the present state; the text says why
    └── InvalidPool             (common/errors.py) a pool that can never work as written

When a store is away operations raise ``StoreUnavailable`` and ``BrokerUnavailable``, as the ports do.
``http/api/problems.py`` has what each is over HTTP, ``cli/__init__.py`` the command line's exit codes.
"""

from common.errors import TmpnbError
from common.vocabulary import EndReason
from frontend import texts


class NotFound(TmpnbError):
    """There is no such server, host, pool or token."""


class ServerEnded(NotFound):
    """There was such a server."""

    def __init__(self, user: str, reason: EndReason, note: str) -> None:
        super().__init__(f"the server of user {user!r} is gone: {texts.short(reason, note)}")
        #: Why it ended, as its host left word of it.
        self.reason = reason


class UnknownPool(NotFound):
    """There is no such pool."""


class InvalidValue(TmpnbError):
    """A value is not accepted."""

    def __init__(self, field: str, accepted: str, given: object) -> None:
        super().__init__(f"{field}: {accepted} (given: {str(given)[:80]!r})")
        self.field = field
        self.accepted = accepted
        self.given = given


class WrongState(TmpnbError):
    """The operation does not fit the present state."""

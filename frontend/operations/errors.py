"""Why an operation is not done."""

from common.errors import ConflictError, TmpnbError


class NotThere(TmpnbError):
    """The user or host that an operator named is not known."""


class OutOfRange(TmpnbError):
    """A figure that an operator gave is not accepted; the text says what is."""


class StillThere(TmpnbError):
    """A host whose agent is alive cannot be forgotten."""


class NoHistory(TmpnbError):
    """There is nothing to roll back to."""


class NameTaken(ConflictError):
    """There is a token of that name, and whoever holds it goes on using it."""

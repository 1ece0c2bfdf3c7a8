"""The records kept in Consul (docs/design.md, "Records"): typed, versioned, readable JSON.

Fields are added with defaults and never renamed. A record of a newer version, or bytes that do not parse, raise
``MalformedRecord``: readers report and skip it, they do not crash.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.bounds import LABELS_MAX
from common.errors import MalformedRecord
from common.ids import USER_ALPHABET, USER_LENGTH_MAX, USER_LENGTH_MIN

# Names end up in keys, queue names, container names and labels.
NAME = r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$"
Name = Annotated[str, Field(pattern=NAME)]
UserId = Annotated[str, Field(pattern=f"^[{USER_ALPHABET}]{{{USER_LENGTH_MIN},{USER_LENGTH_MAX}}}$")]
RequestId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
IMAGE = r"^[a-zA-Z0-9][a-zA-Z0-9._/:@-]{0,254}$"
# Of hosts, matched by pools: ``gpu=yes``.
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")]
Labels = Annotated[dict[Label, Label], Field(max_length=LABELS_MAX)]
# SHA-256 of a seat's key, hexadecimal; empty: the seat needs none.
SeatDigest = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
# Of a set of static files (common/statics.py); empty: none.
StaticsId = Annotated[str, Field(pattern=r"^([0-9a-f]{16})?$")]


# What reading bytes from outside raises: beside ``ValidationError`` (a ValueError) there are numbers beyond what a date
# or a text can hold, in a validator or on the way to one, and endless nesting.
UNREADABLE = (ValueError, TypeError, ArithmeticError, RecursionError)


def explain(error: Exception) -> str:
    """Every problem of a validation as ``field: what is accepted (value given)``, in one line."""
    if not isinstance(error, ValidationError):
        return type(error).__name__
    parts = []
    for problem in error.errors(include_url=False):
        field = ".".join(str(step) for step in problem["loc"]) or "record"
        parts.append(f"{field}: {problem['msg']} (given: {str(problem['input'])[:80]!r})")
    return "; ".join(parts)


class Data(BaseModel):
    """What is read from outside, and parts of it; fields of later minor additions are ignored."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Record(Data):
    """Base of all records, versioned."""

    #: Which field is the record's id, where it is one.
    ID_FIELD: ClassVar[str]

    v: Literal[1] = 1

    @property
    def record_id(self) -> str:
        """What its key ends with: it tells the record from the others of its family."""
        return str(getattr(self, self.ID_FIELD))

    def encode(self) -> bytes:
        """The value to store."""
        return self.model_dump_json(indent=2).encode()

    @classmethod
    def decode(cls, key: str, value: bytes) -> Self:
        """The record stored at ``key``; raises ``MalformedRecord`` with the reason."""
        try:
            return cls.model_validate_json(value)
        except UNREADABLE as exc:
            raise MalformedRecord(f"{key}: {explain(exc)}") from exc

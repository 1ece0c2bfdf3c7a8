"""Errors of the API: one form for all, with a word for programs and a sentence for people."""

from collections.abc import Iterable
from typing import Any

from flask import Blueprint, Flask, Response
from pydantic import BaseModel, Field, ValidationError

from common.errors import InvalidPool, TmpnbError, TransientError
from common.vocabulary import EndReason
from frontend.http.api.models import example
from frontend.http.responses import answer
from frontend.operations.errors import InvalidValue, NotFound, ServerEnded, UnknownPool, WrongState

# Servers start within seconds.
RETRY_AFTER_S = 5
# The refusals of an operation on one server.
NO_SERVER = {404: "there is no such server", 410: "there was such a server; the message says why it is gone"}


class FieldProblem(BaseModel):
    """What is wrong with one field."""

    field: str
    message: str
    given: str


class Problem(BaseModel):
    """Why a request was not done. ``status`` is for programs, ``message`` for people."""

    model_config = example(
        status="bad request",
        message="wait_s: Input should be a valid number (given: 'soon')",
        fields=[{"field": "wait_s", "message": "Input should be a valid number", "given": "'soon'"}],
    )

    status: str
    message: str
    fields: list[FieldProblem] = Field(default_factory=list, description="of a bad request: which fields are wrong")
    reason: EndReason | None = Field(default=None, description="of a server that is gone: why")


class Refused(TmpnbError):
    """The request is not done, and this is the answer."""

    def __init__(self, code: int, status: str, message: str, *, retry_after_s: int | None = None, **more: Any) -> None:
        """``more``: further fields of the ``Problem``."""
        super().__init__(message)
        self.code = code
        self.problem = Problem(status=status, message=message, **more)
        self.retry_after_s = retry_after_s


def respond(error: Refused) -> Response:
    """The answer that a refusal stands for."""
    return answer(error.problem.model_dump(exclude_defaults=True), error.code, error.retry_after_s)


def bad_request(error: ValidationError) -> Refused:
    """Every problem of a validation, by the name of its field."""
    return _bad_fields(
        (".".join(str(step) for step in problem["loc"]) or "body", problem["msg"], problem["input"])
        for problem in error.errors(include_url=False)
    )


def bad_field(field: str, message: str, given: object) -> Refused:
    """One field that is wrong for a reason that its type does not tell."""
    return _bad_fields([(field, message, given)])


def _bad_fields(problems: Iterable[tuple[str, str, object]]) -> Refused:
    fields = [FieldProblem(field=field, message=text, given=repr(given)[:80]) for field, text, given in problems]
    text = "; ".join(f"{field.field}: {field.message} (given: {field.given})" for field in fields)
    return Refused(400, "bad request", text, fields=fields)


# What operations and stores raise, as an answer: the one table for all addresses of the admin application, and for the
# API of the public one.
_ERRORS: tuple[tuple[type[TmpnbError], int, str, int | None], ...] = (
    (NotFound, 404, "gone", None),
    (UnknownPool, 404, "unknown pool", None),
    (InvalidPool, 400, "invalid pool", None),
    (WrongState, 409, "conflict", None),
    (TransientError, 503, "unavailable", RETRY_AFTER_S),
)


def install_problems(views: Blueprint | Flask) -> None:
    """Answer what operations and stores raise."""
    views.register_error_handler(
        InvalidValue, lambda error: respond(bad_field(error.field, error.accepted, error.given))
    )
    views.register_error_handler(ServerEnded, lambda error: respond(gone(str(error), error.reason)))
    for kind, code, status, retry_after_s in _ERRORS:
        views.register_error_handler(
            kind,
            lambda error, code=code, status=status, wait_s=retry_after_s: respond(
                Refused(code, status, str(error), retry_after_s=wait_s)
            ),
        )


def not_found(message: str) -> Refused:
    return Refused(404, "gone", message)


def gone(message: str, reason: EndReason) -> Refused:
    """A server that was there, and why it is no more."""
    return Refused(410, "gone", message, reason=reason)

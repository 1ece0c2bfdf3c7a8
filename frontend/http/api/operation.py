"""A view of the API as it is declared: what it takes, what it answers, who may ask.

``@operation`` makes of a declared function the view that Flask calls: it reads and checks path, query and body,
answers a repeated request as the first time, and turns what the function gives into JSON. ``document.py`` reads the
declaration.
"""

import functools
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from flask import Response, current_app, jsonify, make_response, request
from pydantic import BaseModel, ConfigDict, ValidationError

from common.ids import USER_ALPHABET, USER_LENGTH_MAX, USER_LENGTH_MIN
from common.records.base import NAME
from common.records.tokens import Scope
from frontend.http.api import idempotency, problems
from frontend.http.api.problems import Refused


@dataclass(frozen=True, slots=True)
class PathParameter:
    """A part of an address; one that does not look like this is nowhere to be found."""

    pattern: str
    description: str
    example: str


PATH_PARAMETERS: Final[Mapping[str, PathParameter]] = {
    "user": PathParameter(
        f"^[{USER_ALPHABET}]{{{USER_LENGTH_MIN},{USER_LENGTH_MAX}}}$", "id of a user", "23456789abcd"
    ),
    "ticket": PathParameter(r"^[0-9a-f]{32}$", "id of a ticket: anyone who has it has the ticket", "0" * 32),
    "guest": PathParameter(r"^[0-9a-f]{16}$", "id of a guest", "0123456789abcdef"),
    "host": PathParameter(NAME, "name of a host", "host-1"),
    "pool": PathParameter(NAME, "name of a pool", "default"),
}


# How a request shows the key of a seat; the proxies take it as well.
SEAT_HEADER = "X-Tmpnb-Seat"


class Nothing(BaseModel):
    """The query of a view that takes none."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a view gives: ``body`` is a model, or None."""

    body: BaseModel | None
    code: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


View = Callable[..., Answer | Response]


@dataclass(frozen=True, slots=True, kw_only=True)
class operation:  # noqa: N801 a decorator
    """Declares a view. It is called with the path's parts, and ``body`` and ``query`` if it declares them."""

    summary: str = field(kw_only=False)
    #: A token needs one of them; none: open to everybody.
    scopes: Collection[Scope]
    #: Whether the key of the seat in the path is what counts, and no token.
    needs_seat: bool = False
    #: HTTP status -> type of the body.
    answers: Mapping[int, Any]
    body: type[BaseModel] | None = None
    query: type[BaseModel] = Nothing
    #: HTTP status -> when.
    refusals: Mapping[int, str] = field(default_factory=dict)
    media_type: str = "application/json"
    #: Called as the view is, before anything is written; raises what costs nothing to refuse.
    check: Callable[..., None] = lambda **_: None

    @property
    def needs_body(self) -> bool:
        """Whether a request without a body is wrong."""
        if self.body is None:
            return False
        try:
            self.body.model_validate({})
        except ValidationError:
            return True
        return False

    def __call__(self, view: View) -> Callable[..., Response]:
        @functools.wraps(view)
        def run(**path: str) -> Response:
            try:
                arguments = self._arguments(path)
                return idempotency.once(lambda: _response(view(**arguments)), lambda: self.check(**arguments))
            except Refused as refused:
                return problems.respond(refused)

        run.operation = self  # type: ignore[attr-defined]
        return run

    def _arguments(self, path: Mapping[str, str]) -> dict[str, Any]:
        for name, value in path.items():
            if re.fullmatch(PATH_PARAMETERS[name].pattern, value, re.ASCII) is None:
                raise problems.not_found(f"{name}: there is no such {name} (given: {value[:80]!r})")
        arguments: dict[str, Any] = dict(path)
        given = {name: values[0] if len(values) == 1 else values for name, values in request.args.lists()}
        try:
            query = self.query.model_validate(given)
            if self.query is not Nothing:
                arguments["query"] = query
            if self.body is not None:
                arguments["body"] = _body(self.body)
        except ValidationError as exc:
            raise problems.bad_request(exc) from exc
        return arguments


def operation_of(endpoint: str | None) -> operation | None:
    """The declaration of a view of this application; None: it is none of the API's."""
    return getattr(current_app.view_functions.get(endpoint or ""), "operation", None)


def _body(model: type[BaseModel]) -> BaseModel:
    """Raises ``ValidationError`` and ``Refused``."""
    raw = request.get_data(parse_form_data=False)
    if raw and not request.is_json:
        raise Refused(415, "unsupported media type", "Content-Type: application/json is accepted")
    return model.model_validate_json(raw or b"{}")


def _response(given: Answer | Response) -> Response:
    if isinstance(given, Response):
        return given
    content = jsonify(given.body.model_dump(mode="json")) if given.body is not None else ""
    response = make_response(content, given.code)
    response.headers.update(given.headers)
    return response

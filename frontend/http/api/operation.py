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
    "ticket": PathParameter(r"^[0-9a-f]{32}$", "id of a ticket: whoever has it has the ticket", "0" * 32),
    "host": PathParameter(NAME, "name of a host", "host-1"),
    "pool": PathParameter(NAME, "name of a pool", "default"),
}


class Nothing(BaseModel):
    """The query of a view that takes none."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a view gives: ``body`` is a model, or None."""

    body: BaseModel | None
    code: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """The declaration. ``answers``: HTTP status -> type of the body; ``refusals``: HTTP status -> when.

    ``scopes``: a token needs one of them; none: open to everybody.
    """

    summary: str
    description: str
    scopes: frozenset[Scope]
    body: type[BaseModel] | None
    query: type[BaseModel]
    answers: Mapping[int, Any]
    refusals: Mapping[int, str]
    media_type: str

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


View = Callable[..., Answer | Response]


def operation(
    summary: str,
    *,
    scopes: Collection[Scope],
    answers: Mapping[int, Any],
    body: type[BaseModel] | None = None,
    query: type[BaseModel] = Nothing,
    refusals: Mapping[int, str] | None = None,
    media_type: str = "application/json",
    check: Callable[..., None] | None = None,
) -> Callable[[View], Callable[..., Response]]:
    """Declare a view. It is called with the path's parts, and ``body`` and ``query`` if it declares them. ``check``
    is called with the same before anything is written, and raises what costs nothing to refuse."""

    def decorate(view: View) -> Callable[..., Response]:
        declared = Operation(
            summary, (view.__doc__ or "").strip(), frozenset(scopes), body, query, answers, refusals or {}, media_type
        )

        @functools.wraps(view)
        def run(**path: str) -> Response:
            try:
                arguments = _arguments(declared, path)
                return idempotency.once(
                    lambda: _response(view(**arguments)), lambda: check(**arguments) if check is not None else None
                )
            except Refused as refused:
                return problems.respond(refused)

        run.operation = declared  # type: ignore[attr-defined]
        return run

    return decorate


def operation_of(endpoint: str | None) -> Operation | None:
    """The declaration of a view of this application; None: it is none of the API's."""
    return getattr(current_app.view_functions.get(endpoint or ""), "operation", None)


def _arguments(declared: Operation, path: Mapping[str, str]) -> dict[str, Any]:
    for name, value in path.items():
        if re.fullmatch(PATH_PARAMETERS[name].pattern, value, re.ASCII) is None:
            raise problems.not_found(f"{name}: there is no such {name} (given: {value[:80]!r})")
    try:
        query = declared.query.model_validate(
            {name: given[0] if len(given) == 1 else given for name, given in request.args.lists()}
        )
        body = None if declared.body is None else _body(declared.body)
    except ValidationError as exc:
        raise problems.bad_request(exc) from exc
    arguments: dict[str, Any] = dict(path)
    if declared.query is not Nothing:
        arguments["query"] = query
    if body is not None:
        arguments["body"] = body
    return arguments


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

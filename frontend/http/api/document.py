"""The OpenAPI document, made from what the views declare: what is not declared is not in it, and the other way round.

A module of our own and no library: the declarations are needed anyway (scopes, repeated requests, our form of errors),
pydantic writes the schemas, and what is left is this page.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from flask import Blueprint, Flask, Response, current_app, jsonify
from pydantic import TypeAdapter
from werkzeug.routing import Rule

from common import __version__
from common.records.tokens import Scope
from frontend.http import auth
from frontend.http.api import idempotency
from frontend.http.api.operation import PATH_PARAMETERS, SEAT_HEADER, Answer, operation, operation_of
from frontend.http.api.problems import Problem, install_problems

_EXTENSION = "tmpnb.api.document"
_REFERENCE = "#/components/schemas/{model}"
_PARAMETER = re.compile("<([a-z]+)>")
_CREDENTIALS = (
    "A token of `tmpnb tokens create`, or the one that the process was configured with. Scopes: `spawn` gets servers, "
    "`read` looks at everything, `admin` may do everything. `Authorization: token …` is accepted as well."
)
_SEAT = "The key of a server's seat: what is behind `~` in the address that its owner was given."
_RETRY = {"headers": {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}}
_DONE = {202: "accepted: it is under way"}
# What any view may answer besides its own refusals; by what it takes.
_ALWAYS = {400: "a field is wrong: `fields` names it", 503: "RabbitMQ or Consul is away; try again"}
_GUARDED = {401: "no token, or one that is not valid (any more)", 403: "the token is not for this"}
_WITH_BODY = {413: "the body is too large", 415: "the body is not JSON"}
_CHANGING = {
    409: f"the first request with this {idempotency.HEADER} is under way",
    422: f"the {idempotency.HEADER} was used for another request",
    429: f"too many new {idempotency.HEADER}s of one caller, or of all",
}

Adjust = Callable[[dict[str, Any]], None]


def api_blueprint(title: str, adjust: Adjust) -> Blueprint:
    """An application's part of the API: for its views, with their errors and ``openapi.json``, which describes them.
    ``adjust`` may change that: settings say what is accepted."""
    views = Blueprint("api_v1", __name__, url_prefix="/api/v1")
    install_problems(views)

    @operation("Get this document", scopes=(), answers={200: dict[str, Any]})
    def document() -> Answer | Response:
        """OpenAPI 3.1. Needs no token."""
        if _EXTENSION not in current_app.extensions:
            made = _document(current_app, views.name, title)
            adjust(made)
            current_app.extensions[_EXTENSION] = made
        return jsonify(current_app.extensions[_EXTENSION])

    views.get("/openapi.json")(document)
    return views


def _document(app: Flask, blueprint: str, title: str) -> dict[str, Any]:
    declared = [
        (rule, method, view)
        for rule in sorted(app.url_map.iter_rules(), key=str)
        if rule.endpoint.startswith(f"{blueprint}.") and (view := operation_of(rule.endpoint)) is not None
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    ]
    names, schemas = _schemas([view for _, _, view in declared])
    paths: dict[str, dict[str, Any]] = {}
    for rule, method, view in declared:
        described = _operation(rule, method, view, names)
        described["description"] = (app.view_functions[rule.endpoint].__doc__ or "").strip()
        paths.setdefault(_PARAMETER.sub(r"{\1}", str(rule)), {})[method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": __version__,
            "description": "An error has a `status` for programs, a `message` for people, and wrong `fields` by name.",
            "license": {"name": "BSD-3-Clause", "identifier": "BSD-3-Clause"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": _schemes([view for _, _, view in declared]),
        },
    }


def _schemas(views: list[operation]) -> tuple[dict[Any, Any], dict[str, Any]]:
    """Type -> its schema, and the schemas that these refer to by name."""
    wanted: dict[Any, Any] = {}
    for view in views:
        if view.body is not None:
            wanted["in", str(view.body)] = (view.body, "validation")
        wanted |= {("out", str(kind)): (kind, "serialization") for kind in view.answers.values() if kind is not None}
    wanted["out", str(Problem)] = (Problem, "serialization")
    inputs: list[Any] = [(key, mode, TypeAdapter(kind)) for key, (kind, mode) in wanted.items()]
    found, named = TypeAdapter.json_schemas(inputs, ref_template=_REFERENCE)
    return {key: schema for (key, _), schema in found.items()}, named["$defs"]


def _operation(rule: Rule, method: str, view: operation, names: dict[Any, Any]) -> dict[str, Any]:
    changing = method != "GET"
    made: dict[str, Any] = {
        "operationId": rule.endpoint.rpartition(".")[2],
        "summary": view.summary,
        "parameters": [*_parameters(rule, view, changing)],
        "responses": _responses(view, changing, bool(rule.arguments), names),
        "security": _security(view),
    }
    if view.body is not None:
        content = _content("application/json", names["in", str(view.body)])
        made["requestBody"] = {"required": view.needs_body, **content}
    return made


def _parameters(rule: Rule, view: operation, changing: bool) -> Iterator[dict[str, Any]]:
    for name in _PARAMETER.findall(str(rule)):
        known = PATH_PARAMETERS[name]
        schema: dict[str, Any] = {"type": "string", "pattern": known.pattern}
        yield _parameter(name, "path", known.description, schema, required=True) | {"example": known.example}
    query = view.query.model_json_schema()
    for name, schema in query.get("properties", {}).items():
        description = schema.pop("description", "")
        schema.pop("title", None)
        yield _parameter(name, "query", description, schema, required=name in query.get("required", ()))
    if changing:
        text = "the same key again gets the same answer, and nothing is done twice"
        is_anybodys = auth.authenticator().is_open or not view.scopes
        accepted = {"format": "uuid"} if is_anybodys else {"pattern": idempotency.PATTERN}
        parameter = _parameter(idempotency.HEADER, "header", text, {"type": "string", **accepted})
        yield parameter | {"example": "7d1f2c52-6d0c-4a3e-9d55-0d1f6f1f2f1a"}


def _parameter(
    name: str, where: str, description: str, schema: dict[str, Any], *, required: bool = False
) -> dict[str, Any]:
    return {"name": name, "in": where, "required": required, "description": description, "schema": schema}


def _responses(view: operation, changing: bool, has_path: bool, names: dict[Any, Any]) -> dict[str, Any]:
    refusals = dict(_ALWAYS)
    for applies, texts in (
        (bool(view.scopes), _GUARDED),
        (view.body is not None, _WITH_BODY),
        (changing, _CHANGING),
        (has_path, {404: "there is no such thing"}),
    ):
        refusals |= texts if applies else {}
    for code, text in view.refusals.items():
        refusals[code] = f"{text}; or: {refusals[code]}" if code in _CHANGING and changing else text
    problem = _content("application/json", names["out", str(Problem)])
    responses: dict[int, dict[str, Any]] = {
        code: {"description": text, **problem, **(_RETRY if code in {429, 503} else {})}
        for code, text in refusals.items()
    }
    for code, kind in view.answers.items():
        content = _content(view.media_type, names["out", str(kind)])
        responses.setdefault(code, {"description": _DONE.get(code, "done"), **content})
    return {str(code): response for code, response in sorted(responses.items())}


def _content(media_type: str, schema: Any) -> dict[str, Any]:
    return {"content": {media_type: {"schema": schema}}}


def _schemes(views: list[operation]) -> dict[str, dict[str, str]]:
    seat = {"seat": {"type": "apiKey", "in": "header", "name": SEAT_HEADER, "description": _SEAT}}
    token = {"token": {"type": "http", "scheme": "bearer", "description": _CREDENTIALS}}
    return token | (seat if any(view.needs_seat for view in views) else {})


def _security(view: operation) -> list[dict[str, list[str]]]:
    if view.needs_seat:
        return [{"seat": []}]
    if not view.scopes:
        return []
    needed = [{"token": [scope.value]} for scope in sorted({*view.scopes, Scope.ADMIN})]
    return [{}, *needed] if auth.authenticator().is_open else needed

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
from frontend.http.api.operation import PATH_PARAMETERS, Answer, Nothing, Operation, operation
from frontend.http.api.problems import Problem

_EXTENSION = "tmpnb.api.document"
_REFERENCE = "#/components/schemas/{model}"
_PARAMETER = re.compile("<([a-z]+)>")
_CREDENTIALS = (
    "A token of `tmpnb tokens create`, or the one that the process was configured with. Scopes: `spawn` gets servers, "
    "`read` looks at everything, `admin` may do everything. `Authorization: token …` is accepted as well."
)
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
Declared = tuple[Rule, str, Operation]


def serve_document(views: Blueprint, title: str, adjust: Adjust) -> None:
    """Add ``openapi.json``, which describes ``views``. ``adjust`` may change it: settings say what is accepted."""

    @operation("Get this document", scopes=(), answers={200: dict[str, Any]})
    def document() -> Answer | Response:
        """OpenAPI 3.1. Needs no token."""
        if _EXTENSION not in current_app.extensions:
            made = build(current_app, views.name, title)
            adjust(made)
            current_app.extensions[_EXTENSION] = made
        return jsonify(current_app.extensions[_EXTENSION])

    views.get("/openapi.json")(document)


def build(app: Flask, blueprint: str, title: str) -> dict[str, Any]:
    """The document of the views of one blueprint of ``app``."""
    declared = list(_declared(app, blueprint))
    names, schemas = _schemas(declared)
    paths: dict[str, dict[str, Any]] = {}
    for rule, method, view in declared:
        path = _PARAMETER.sub(r"{\1}", str(rule))
        paths.setdefault(path, {})[method.lower()] = _operation(rule, method, view, names)
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
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": _CREDENTIALS}},
        },
    }


def _declared(app: Flask, blueprint: str) -> Iterator[Declared]:
    for rule in sorted(app.url_map.iter_rules(), key=str):
        view = getattr(app.view_functions[rule.endpoint], "operation", None)
        if rule.endpoint.startswith(f"{blueprint}.") and view is not None:
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                yield rule, method, view


def _schemas(declared: list[Declared]) -> tuple[dict[Any, Any], dict[str, Any]]:
    """Type -> its schema, and the schemas that these refer to by name."""
    wanted: dict[Any, Any] = {}
    for _, _, view in declared:
        if view.body is not None:
            wanted["in", str(view.body)] = (view.body, "validation")
        wanted |= {("out", str(kind)): (kind, "serialization") for kind in view.answers.values() if kind is not None}
    wanted["out", str(Problem)] = (Problem, "serialization")
    inputs: list[Any] = [(key, mode, TypeAdapter(kind)) for key, (kind, mode) in wanted.items()]
    found, named = TypeAdapter.json_schemas(inputs, ref_template=_REFERENCE)
    return {key: schema for (key, _), schema in found.items()}, named["$defs"]


def _operation(rule: Rule, method: str, view: Operation, names: dict[Any, Any]) -> dict[str, Any]:
    changing = method != "GET"
    made: dict[str, Any] = {
        "operationId": rule.endpoint.rpartition(".")[2],
        "summary": view.summary,
        "description": view.description,
        "parameters": [*_path_parameters(rule), *_query_parameters(view), *([_replay_parameter()] if changing else [])],
        "responses": _responses(view, changing, bool(rule.arguments), names),
        "security": _security(view),
    }
    if view.body is not None:
        made["requestBody"] = {
            "required": view.needs_body,
            "content": {"application/json": {"schema": names["in", str(view.body)]}},
        }
    return made


def _path_parameters(rule: Rule) -> Iterator[dict[str, Any]]:
    for name in _PARAMETER.findall(str(rule)):
        known = PATH_PARAMETERS[name]
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "description": known.description,
            "schema": {"type": "string", "pattern": known.pattern},
            "example": known.example,
        }


def _query_parameters(view: Operation) -> Iterator[dict[str, Any]]:
    if view.query is Nothing:
        return
    schema = view.query.model_json_schema()
    for name, part in schema["properties"].items():
        description = part.pop("description", "")
        part.pop("title", None)
        required = name in schema.get("required", ())
        yield {"name": name, "in": "query", "required": required, "description": description, "schema": part}


def _replay_parameter() -> dict[str, Any]:
    accepted = {"format": "uuid"} if auth.authenticator().is_open else {"pattern": idempotency.PATTERN}
    return {
        "name": idempotency.HEADER,
        "in": "header",
        "required": False,
        "description": "the same key again gets the same answer, and nothing is done twice",
        "schema": {"type": "string", **accepted},
        "example": "7d1f2c52-6d0c-4a3e-9d55-0d1f6f1f2f1a",
    }


def _responses(view: Operation, changing: bool, has_path: bool, names: dict[Any, Any]) -> dict[str, Any]:
    refusals = dict(_ALWAYS)
    for applies, texts in (
        (bool(view.scopes), _GUARDED),
        (view.body is not None, _WITH_BODY),
        (changing, _CHANGING),
        (has_path, {404: "there is no such thing"}),
    ):
        if applies:
            refusals |= texts
    for code, text in view.refusals.items():
        refusals[code] = f"{text}; or: {refusals[code]}" if code in _CHANGING and changing else text
    responses = {
        code: {"description": _DONE.get(code, "done"), **_content(view.media_type, names["out", str(kind)])}
        for code, kind in view.answers.items()
    }
    problem = _content("application/json", names["out", str(Problem)])
    return {str(code): found for code, found in sorted((responses | {
        code: {"description": text, **problem, **_retry(code)} for code, text in refusals.items()
    }).items())}  # fmt: skip


def _content(media_type: str, schema: Any) -> dict[str, Any]:
    return {"content": {media_type: {"schema": schema}}}


def _retry(code: int) -> dict[str, Any]:
    if code not in {429, 503}:
        return {}
    return {"headers": {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}}


def _security(view: Operation) -> list[dict[str, list[str]]]:
    if not view.scopes:
        return []
    needed = [{"token": [scope.value]} for scope in sorted(view.scopes | {Scope.ADMIN})]
    return [{}, *needed] if auth.authenticator().is_open else needed

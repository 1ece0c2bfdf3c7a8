"""The API against its own OpenAPI document, by schemathesis: what it generates, and what the answers must be.

Over HTTP and not WSGI: only there schemathesis tries what happens without a token (``ignored_auth``).
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import schemathesis
from flask import Flask
from schemathesis import engine
from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished
from werkzeug.serving import WSGIRequestHandler, make_server

# These must have been tried, or nothing was.
CHECKS = frozenset(
    {
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
        "negative_data_rejection",
        "positive_data_acceptance",
        "unsupported_method",
    }
)
# A key used twice, and a server that is gone, are no fault of the request's form.
ACCEPTED = ["2xx", "401", "403", "404", "409", "410", "422", "429"]
REJECTED = ["400", "401", "403", "404", "405", "409", "413", "415", "422"]
# What a path may hold (no '..', no control characters, UTF-8), and which words a search knows, no schema can say, ...
BEYOND_SCHEMA = frozenset({"path", "q"})
# ... nor of a pool what these fields may hold, as validators of our own say: their texts begin like this. What is wrong
# with a field's type, bounds or pattern the schema says, and pydantic in other words.
OWN_VALIDATOR = "Value error, "
POOL_AT = "PUT /api/v1/pools/{pool}"
POOL_FIELDS = frozenset({
    "background_paths", "command", "docker_network", "environment", "extra_hosts", "host_directories", "link_prefixes",
    "mem_limit", "probe_path", "redirect_uri", "static_files",
})  # fmt: skip
# What is wrong with several fields together, ...
POOL_TOGETHER = ("ready (", "host_network or docker_network is accepted", "all fields together: at most ")
# ... with the address and the body, and with the pool on the hosts that there are.
POOL_NAME = ", as in the address, is accepted, or nothing"
POOL_TOO_LARGE = "bytes are accepted, the memory of the largest known host"


@dataclass(frozen=True)
class Found:
    """``problems``: one text per broken promise; ``checks``: how often each check was made; ``untried``: operations."""

    problems: list[str]
    checks: dict[str, int]
    untried: set[str]


class _Quiet(WSGIRequestHandler):
    def log_request(self, *_: Any) -> None:
        pass


@contextmanager
def serving(app: Flask) -> Iterator[str]:
    """The application at a port of this machine; its URL."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def check(url: str, token: str | None, max_examples: int, *, reading_only: bool = False) -> Found:
    """Try every operation of the API at ``url``, or every one that changes nothing; streams never."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    schema = schemathesis.openapi.from_url(f"{url}/api/v1/openapi.json").exclude(path_regex="events$")
    if reading_only:
        schema = schema.include(method="GET")
        # HAProxy answers odd methods by itself, and a token for reading is not for them.
        schema.config.checks.unsupported_method.enabled = False
    schema.config.update(headers=headers, request_timeout=30, max_redirects=0)
    schema.config.generation.update(max_examples=max_examples, deterministic=True)
    schema.config.checks.positive_data_acceptance.expected_statuses = ACCEPTED
    schema.config.checks.negative_data_rejection.expected_statuses = REJECTED
    # A cull is asked for (202); the server is there until its host has followed.
    schema.config.checks.use_after_free.enabled = False
    problems: list[str] = []
    checks: dict[str, int] = {}
    called: set[str] = set()
    for event in engine.from_schema(schema).execute():
        if isinstance(event, ScenarioFinished):
            _collect(event, problems, checks, called)
        elif isinstance(event, NonFatalError | FatalError):
            problems.append(f"schemathesis: {getattr(event, 'info', None) or getattr(event, 'exception', event)}")
    # It does not ask for the document itself, which it has read.
    declared = {operation.ok().label for operation in schema.get_all_operations()}
    return Found(problems, checks, declared - called - {"GET /api/v1/openapi.json"})


def _collect(event: ScenarioFinished, problems: list[str], checks: dict[str, int], called: set[str]) -> None:
    for name, results in event.recorder.checks.items():
        case = event.recorder.cases[name].value
        called.add(case.operation.label)
        for result in results:
            checks[result.name] = checks.get(result.name, 0) + 1
            if result.failure_info is not None:
                failure = result.failure_info.failure
                interaction = event.recorder.interactions.get(name)
                answer = interaction.response if interaction else None
                said = (answer.status_code, answer.content[:200]) if answer else "no answer"
                is_refusal = result.name == "positive_data_acceptance" and answer and answer.status_code == 400
                if is_refusal and is_beyond_schema(case.operation.label, answer.content):
                    continue
                problems.append(
                    f"{result.name}: {failure.message} | {case.method} {case.formatted_path} {case.query} "
                    f"{case.body!r} -> {said}"
                )


def is_beyond_schema(operation: str, content: bytes) -> bool:
    """Whether a 400 refuses nothing but values that the schema cannot tell from accepted ones."""
    answer = json.loads(content)
    problems = answer.get("fields", [])
    if operation == POOL_AT and answer["status"] == "invalid pool":
        return ": mem_limit: " in answer["message"] and POOL_TOO_LARGE in answer["message"]
    return bool(problems) and all(
        problem["field"] in BEYOND_SCHEMA or (operation == POOL_AT and _is_beyond_pool(**problem))
        for problem in problems
    )


def _is_beyond_pool(field: str, message: str, **_: str) -> bool:
    if field == "name":
        return message.endswith(POOL_NAME)
    own = message.removeprefix(OWN_VALIDATOR)
    return own != message and (field in POOL_FIELDS or (field == "body" and own.startswith(POOL_TOGETHER)))

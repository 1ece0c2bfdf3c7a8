"""The one HTTP call of the command line, with the standard library: it asks our own frontend, nothing else."""

import json
import urllib.error
import urllib.request
from typing import Any

from pydantic import SecretStr


def post_json(url: str, body: dict[str, Any], token: SecretStr | None, timeout_s: float) -> tuple[int, dict[str, Any]]:
    """Status and JSON object of the answer. Raises ``OSError`` (no answer) or ``ValueError`` (no JSON object)."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310
    if token is not None:
        request.add_header("Authorization", f"token {token.get_secret_value()}")
    # Proxies of the environment are for the internet.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout_s) as answer:
            status, raw = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            status, raw = error.code, error.read()
    result = json.loads(raw)
    if not isinstance(result, dict):
        raise ValueError("the answer is no JSON object")  # noqa: TRY004 to the caller it is a wrong value
    return status, result

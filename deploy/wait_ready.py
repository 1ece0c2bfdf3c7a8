#!/usr/bin/env python3
"""Wait until the public API reports a ready server, saying what changes meanwhile.

    wait_ready.py BASE_URL SECONDS

Runs before anything of ours is installed, so it uses the standard library only.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request

POLL_S = 0.5


def stats(base_url: str) -> tuple[int, str]:
    """Ready servers and a sentence about the state; a cluster that does not answer has none."""
    request = urllib.request.Request(base_url + "/api/stats")
    if token := os.environ.get("API_AUTH_TOKEN"):
        request.add_header("Authorization", f"token {token}")
    # A proxy of the environment is for the internet.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=5) as answer:
            body = json.load(answer)
            return int(body["available"]), f"{body['available']} of {body['capacity']} servers ready"
    except urllib.error.HTTPError as error:
        return 0, f"the frontend answers {error.code}"
    except (OSError, ValueError, KeyError, TypeError):
        return 0, "the frontend does not answer yet"


def main() -> int:
    base_url, limit_s = sys.argv[1], float(sys.argv[2])
    deadline = time.monotonic() + limit_s
    said = ""
    while time.monotonic() < deadline:
        ready, sentence = stats(base_url)
        if sentence != said:
            print(f"    {sentence}", flush=True)
            said = sentence
        if ready >= 1:
            return 0
        time.sleep(POLL_S)
    return 1


if __name__ == "__main__":
    sys.exit(main())

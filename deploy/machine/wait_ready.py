#!/usr/bin/env python3
"""Wait until the public API reports a ready server, saying what changes meanwhile.

    wait_ready.py BASE_URL SECONDS PROJECT [HOST...]

With HOSTs: until each of them has a server, ready or claimed. Gives up early when a service of the Compose project
PROJECT keeps crashing: time will not help it. Runs before anything of ours is installed, so it uses the standard
library only.
"""

import json
import os
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request

POLL_S = 1.0
CRASH_CHECK_S = 5.0
# Docker doubles its pause after every crash, from 0.1 s: some 15 s of crashes.
CRASHES_MAX = 8


def stats(base_url: str, wanted: list[str]) -> tuple[bool, str]:
    """Whether it is ready, and a sentence about the state."""
    request = urllib.request.Request(base_url + "/api/stats")
    if token := os.environ.get("API_AUTH_TOKEN"):
        request.add_header("Authorization", f"token {token}")
    # A proxy of the environment is for the internet. Over TLS it asks its own machine by address, and who answers there
    # need not be looked at: the certificate, perhaps a self-signed one still, has the cluster's name.
    unchecked = urllib.request.HTTPSHandler(context=ssl._create_unverified_context())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), unchecked)
    try:
        with opener.open(request, timeout=5) as answer:
            body = json.load(answer)
            sentence = f"{body['available']} of {body['capacity']} servers ready"
            if not wanted:
                return int(body["available"]) >= 1, sentence
            serving = {name for name, row in body["hosts"].items() if row["available"] + row["claimed"]}
            missing = [name for name in wanted if name not in serving]
            return not missing, sentence + (f", none on {', '.join(missing)}" if missing else "")
    except urllib.error.HTTPError as error:
        return False, f"the frontend answers {error.code}"
    except (OSError, ValueError, KeyError, TypeError):
        return False, "the frontend does not answer yet"


def crashes(project: str) -> dict[str, int]:
    """How often Docker has restarted each of the project's containers by itself; by service name."""
    listing = ["docker", "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={project}"]
    containers = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split()
    if not containers:
        return {}
    form = '{{index .Config.Labels "com.docker.compose.service"}} {{.RestartCount}}'
    inspect = ["docker", "inspect", "--format", form, *containers]
    lines = subprocess.run(inspect, capture_output=True, text=True, check=False).stdout.splitlines()
    return {service: int(count) for service, count in (line.split() for line in lines)}


def main() -> int:
    base_url, limit_s, project = sys.argv[1], float(sys.argv[2]), sys.argv[3]
    wanted = sys.argv[4:]
    deadline = time.monotonic() + limit_s
    before = crashes(project)
    next_check = time.monotonic() + CRASH_CHECK_S
    said = ""
    while time.monotonic() < deadline:
        if time.monotonic() >= next_check:
            next_check = time.monotonic() + CRASH_CHECK_S
            now = crashes(project)
            if before and not now:
                print("    somebody has removed the services", flush=True)
                return 1
            for service, count in now.items():
                if count - before.get(service, 0) >= CRASHES_MAX:
                    print(f"    {service} keeps crashing", flush=True)
                    return 1
        ready, sentence = stats(base_url, wanted)
        if sentence != said:
            print(f"    {sentence}", flush=True)
            said = sentence
        if ready:
            return 0
        time.sleep(POLL_S)
    return 1


if __name__ == "__main__":
    sys.exit(main())

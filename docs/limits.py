"""Writes docs/limits.md: ``make docs``. A test keeps it up to date, and wants a row for every setting that is a limit.

Defaults come from where they are: a settings class, a field of pools, a variable of HAProxy's start.sh, or a constant.
"""

import importlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

sys.path.insert(0, str(Path(__file__).parents[1]))

from agent.settings import AgentSettings
from common.records.pools import PoolSpec
from common.settings import CommonSettings
from frontend.settings import AdminSettings, CullerSettings, PublicSettings
from proxy.acme.settings import AcmeSettings
from proxy.settings import ProxySettings

PAGE = Path(__file__).with_name("limits.md")
START = Path(__file__).parents[1] / "proxy" / "haproxy" / "start.sh"
HEAD = """# Limits

Written by `make docs` from docs/limits.py; do not edit.

Everything that a visitor, a learner's server, the holder of a token or an operator can make grow has a bound. The
defaults are for a lecture room of 500 people behind one address. A limit with a `TMPNB_` name goes into `.env` (or the
agent's environment); one of a pool into its table in `pools.toml`. A limit that is somebody else's has no setting, and
says whose it is: HAProxy's, Consul's, the kernel's, or that of our own records, which every process reads and none may
understand differently.

**One address** holds what a lecture room needs: a browser opens six connections for its requests, whatever the number
of its tabs, and one more for every WebSocket; a JupyterLab with some notebooks and terminals has up to eight of these.
So 500 learners have 500 x 14 = 7,000 connections. In IPv6 an address is a /64. HAProxy has a connection for two of its
file descriptors (at most 50,000); where three quarters of that are less than the setting, one address may have these.
Several addresses behind one terminator or load balancer are one address to HAProxy, unless
`TMPNB_TRUSTED_PROXIES` names it: then its clients count, by the last address in `X-Forwarded-For` that is no
terminator's, or by the PROXY protocol.

**One server**: a browser behind a terminator that speaks HTTP/2 has up to 128 requests at once and some twenty
WebSockets; two such browsers fit. To let a class look at one learner's application at the same time, raise it.

**Silence** is no byte in either direction. An application that computes for more than ten minutes before the first byte
of its answer needs a larger `TMPNB_SILENCE_S`; what runs in a kernel does not: that is asked for over a WebSocket.
"""
PROCESSES: dict[str, type[BaseModel]] = {
    "every process": CommonSettings,
    "frontend": PublicSettings,
    "admin": AdminSettings,
    "culler": CullerSettings,
    "agent": AgentSettings,
    "sync": ProxySettings,
    "acme": AcmeSettings,
    "pool": PoolSpec,
}


@dataclass(frozen=True, slots=True)
class Limit:
    """One row. ``source``: where the default is: ``<process>:<setting>``, ``haproxy:<variable>`` or
    ``<module>:<CONSTANT>``; ``reached``: what happens, and what whoever reached it is told; ``owner``: whose limit a
    constant is, and so why it is no setting."""

    grows: str
    source: str
    reached: str
    owner: str = ""


# One list per kind of who can make it grow.
SECTIONS: dict[str, tuple[Limit, ...]] = {
    "Visitors and their browsers": (
        Limit(
            "connections of one address, and as many requests at once over HTTP/2 (behind a trusted terminator: "
            "requests at once of one of its clients)",
            "haproxy:TMPNB_ADDRESS_MAX",
            "429; from 100 more on closed",
        ),
        Limit("requests and WebSockets to one learner's server at once", "haproxy:TMPNB_SERVER_MAX", "429"),
        Limit(
            "time for a request's head, and its body if it is for the frontends, seconds",
            "haproxy:TMPNB_REQUEST_S",
            "408",
        ),
        Limit("silence in a request to a learner's server, seconds", "haproxy:TMPNB_SILENCE_S", "504, or closed"),
        Limit("time that an idle connection is kept, seconds", "haproxy:TMPNB_KEEPALIVE_S", "closed"),
        Limit(
            "time that a browser keeps the key of a private seat, seconds",
            "haproxy:TMPNB_SEAT_S",
            "led through the frontends, which know their visitor",
        ),
        Limit(
            "head of a request, bytes",
            "frontend.http.arrival:HEAD_MAX_BYTES",
            "400; with a body 431 from 30 KB on, with a word about cookies",
            owner="HAProxy's buffer",
        ),
        Limit(
            "body of a request to the public application",
            "frontend.settings:PUBLIC_BODY_MAX_BYTES",
            "413",
            owner="HAProxy's buffer",
        ),
        Limit("wait for a server that a program asks for, seconds", "frontend:wait_max_s", "400 that names it"),
        Limit("time in the waiting room, seconds", "frontend:ticket_max_s", "a page that offers to start again"),
        Limit("requests in line for one pool", "frontend:line_max", "429 and a page that tries again"),
        Limit("of these, of one address or token", "frontend:line_max_per_visitor", "429 and a page that tries again"),
        Limit(
            "tickets kept although nobody asks about them",
            "culler:tickets_kept_max",
            "the others are swept after a minute",
        ),
        Limit("new `Idempotency-Key`s per worker and quarter of an hour", "frontend:keys_max", "429 that says so"),
        Limit("of these, of one address or token", "frontend:keys_max_per_visitor", "429 that says so"),
        Limit("late replies in the hands of a worker", "frontend:late_replies_max", "left to the agents, and counted"),
        Limit(
            "requests whose outcome a worker remembers", "frontend:requests_remembered_max", "the oldest are forgotten"
        ),
        Limit("links of one seat that are not opened yet", "frontend:seat_links_max", "429 and a page that says so"),
        Limit("guests of one seat", "frontend:seat_guests_max", "409 and a page that says so; the link stays good"),
        Limit("life of a link that shares a seat, seconds", "frontend:seat_link_s", "410 and a page that says so"),
        Limit("visits whose server a worker remembers", "frontend:visits_remembered_max", "the oldest are forgotten"),
        Limit(
            "length of an address below a server's path",
            "frontend.public.targets:MAX_CHARS",
            "400",
            owner="gunicorn's: a request line holds 8,190",
        ),
    ),
    "Learners' servers": (
        Limit("memory", "pool:mem_limit", "the kernel ends what asks for more; a page says so if that was the server"),
        Limit("CPU, microseconds per 100 ms", "pool:cpu_quota", "slowed down"),
        Limit("processes and threads", "pool:pids_limit", "no further one starts in the server"),
        Limit("age since the claim, seconds", "pool:cull_max", "culled, with a page that says so"),
        Limit("answer of a server that the agent reads, bytes", "agent:probe_answer_max_bytes", "counts as no answer"),
        Limit(
            "the agent's question for its kernels, seconds, all in all", "agent:probe_timeout_s", "counts as no answer"
        ),
        Limit("wait for its first answer, seconds", "pool:start_timeout_s", "a failed start; the host record says why"),
        Limit("redirects until it counts as ready", "agent:probe_redirects_max", "a failed start"),
    ),
    "Images": (
        Limit("static files of one image, bytes", "agent:statics_max_bytes", "none are used; the host record says so"),
        Limit("one static file, bytes", "agent:statics_max_file_bytes", "left out; the host record says so"),
        Limit("static files of one image", "agent:statics_max_count", "none are used; the host record says so"),
        Limit("fetching one image's static files from a host, seconds", "frontend:statics_fetch_s", "another host"),
        Limit("HAProxy's cache of static files, megabytes", "haproxy:TMPNB_STATICS_CACHE_MB", "the oldest make room"),
    ),
    "Holders of tokens, and operators": (
        Limit("servers of a pool per host", "pool:pool_size", "the waiting room, or 429"),
        Limit("new `Idempotency-Key`s per worker and quarter of an hour", "admin:keys_max", "429 that says so"),
        Limit("of these, of one address or token", "admin:keys_max_per_visitor", "429 that says so"),
        Limit(
            "links that a pool names",
            "common.records.pool_fields:LINKS_MAX",
            "the pool is refused, with a line that says so",
            owner="our records'",
        ),
        Limit(
            "a file with a certificate, its chain and its key, bytes",
            "proxy.certificates.folder:FILE_MAX_BYTES",
            "not used; `make status` says so",
            owner="HAProxy's buffer",
        ),
        Limit("open streams of events and pages per worker", "admin:live_streams", "503; a page waits for a place"),
        Limit("wrong tokens at the login, per address or browser", "admin:wrong_logins_max", "429, a wait"),
        Limit("wait after wrong tokens, seconds", "admin:wrong_tokens_pause_max_s", "429 with Retry-After"),
        Limit("addresses remembered for that", "admin:wrong_tokens_addresses_max", "the oldest are forgotten"),
        Limit("wrong tokens of programs, per address", "admin:wrong_tokens_max", "429, a wait"),
        Limit("right tokens remembered by address", "admin:right_tokens_max", "the oldest are forgotten"),
        Limit(
            "a pool's fields together, bytes",
            "common.bounds:SPEC_MAX_BYTES",
            "`pools apply` refuses it",
            owner="Consul's: a value holds 512 KiB",
        ),
        Limit(
            "a pool's command, what it names replaced, bytes",
            "common.bounds:ARGUMENT_MAX_BYTES",
            "the same",
            owner="the kernel's",
        ),
        Limit("variables of a pool", "common.bounds:VARIABLES_MAX", "the same", owner="our records'"),
        Limit("one variable of a pool, bytes", "common.bounds:VARIABLE_MAX_BYTES", "the same", owner="our records'"),
        Limit("a server's memory, bytes", "common.bounds:MEMORY_MAX_BYTES", "the same", owner="the kernel's"),
        Limit("any time limit, seconds", "common.bounds:LONG_S", "an error that names the field", owner="our records'"),
        Limit("body of a request to the admin application", "admin:body_max_bytes", "413"),
        Limit("time for a request to the admin application to arrive, seconds", "admin:request_s", "closed"),
        Limit("requests on their way to one of our workers, bytes", "admin:arriving_max_bytes", "the oldest go"),
        Limit("time given to a server at once, seconds", "admin:extend_max_s", "400 that names it"),
        Limit(
            "servers listed at once, in a page and in the answer to a cull of many",
            "frontend.admin.api_models:PAGE_MAX_COUNT",
            "`total` counts all; all are culled",
            owner="Consul's: a value holds 512 KiB, and keeps the answer for a repeated request",
        ),
    ),
    "Certificate authorities": (
        Limit("one attempt to obtain a certificate, seconds", "acme:acme_timeout_s", "ended; counts as a failure"),
        Limit(
            "attempts after failures: the pause after the first, doubled twice, seconds",
            "acme:acme_retry_s",
            "the old certificate goes on; an alert",
        ),
        Limit(
            "the pause after the fourth failure, or when the authority says that it is too much, then doubled, seconds",
            "acme:acme_retry_later_s",
            "the same",
        ),
        Limit("the longest pause, seconds", "acme:acme_retry_max_s", "the same"),
    ),
    "Hosts": (
        Limit("servers being started at once", "agent:max_starting", "the others wait"),
        Limit(
            "paths of a pool that open pages ask for by themselves",
            "common.urls:BACKGROUND_MAX",
            "a clear error",
            owner="our records'",
        ),
        Limit("idle servers looked at in parallel before a cull", "agent:max_looks", "the others wait"),
        Limit("idle servers that wait for such a look", "agent:looks_waiting_max", "the culler asks again; a warning"),
        Limit(
            "trying whether hosts can be reached, seconds, all in all",
            "culler:reach_timeout_s",
            "unreachable; an alert",
        ),
        Limit("one answer of Consul, bytes", "every process:consul_answer_max_bytes", "Consul counts as away"),
        Limit(
            "servers in the servers' network, whose bridge takes 1,023",
            "agent:bridge_ports_max",
            "capacities shrink to what fits; the host record says why",
        ),
        Limit("starts by Docker in parallel, and removals beside them", "agent:max_dock_workers", "the others wait"),
        Limit(
            "a removal by Docker, seconds",
            "agent:remove_timeout_s",
            "tried again alone, after 2 s up to 300 s; after 20 s the host record names the container",
        ),
    ),
}


def default(source: str) -> tuple[str, Any]:
    """Name of the setting, and its default."""
    place, _, name = source.partition(":")
    if place == "haproxy":
        found = re.search(rf"\$\{{{name}:-([^}}]*)\}}", START.read_text())
        if found is None:
            raise LookupError(f"{name} has no default in {START.name}")
        return f"`{name}`", found[1]
    if place in PROCESSES:
        shown = f"`{name}` (pool)" if place == "pool" else f"`TMPNB_{name.upper()}`"
        return shown, PROCESSES[place].model_fields[name].get_default(call_default_factory=True)
    return "", getattr(importlib.import_module(place), name)


def row(limit: Limit) -> str:
    setting, value = default(limit.source)
    if bool(setting) == bool(limit.owner):
        raise ValueError(f"{limit.source}: either a setting, or whose limit it is")
    shown = f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)
    return f"| {limit.grows} | {shown} | {setting or limit.owner} | {limit.reached} |"


def page() -> str:
    parts = [HEAD]
    for title, limits in SECTIONS.items():
        parts += [f"## {title}\n", "| what can grow | at most | setting | when it is reached |\n|---|---|---|---|"]
        parts += [*map(row, limits), ""]
    return "\n".join(parts).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())

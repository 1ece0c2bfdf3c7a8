"""``tmpnb hosts`` and ``tmpnb host cordon | uncordon | drain | remove``."""

from datetime import datetime
from functools import partial
from typing import Annotated

import typer

from common.errors import TmpnbError
from common.records.hosts import HostRecord, HostState, PoolStatus
from common.runtime.loops import poll
from frontend import texts
from frontend.cli import context
from frontend.cli.output import JsonFlag, ago, complain, print_json, print_table, say, show
from frontend.cli.spans import LOOK_S, parse_span_s
from frontend.cluster.reachability import tcp_probe, unreachable
from frontend.operations import hosts as host_operations
from frontend.operations.errors import NotFound
from frontend.operations.hosts import DrainProgress

app = typer.Typer(help="Manage one host.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The host's name, as tmpnb hosts shows it.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Return at once instead of following the drain.")]
Timeout = Annotated[str, typer.Option("--timeout", help="How long to follow the drain, such as 30m.")]


def show_hosts(
    check: Annotated[bool, typer.Option("--check", help="Also try to reach one server on each host.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """List all hosts with what each has of every pool."""
    cluster, now = context.cluster_and_time()
    records = cluster.hosts.all()
    far: dict[str, str] = {}
    if check:
        probe = partial(tcp_probe, timeout_s=context.settings().reach_timeout_s)
        far = unreachable(records, cluster.routes.all().values(), probe)
    if as_json:
        extra = {name: {"unreachable": target} for name, target in far.items()}
        print_json({n: record.model_dump(mode="json") | extra.get(n, {}) for n, record in sorted(records.items())})
        return
    rows = [row for _, record in sorted(records.items()) for row in _rows(record, now)]
    columns = ["Host", "Address", "State", "Version", "Labels", "Last seen"]
    columns += ["Pool", "Generation", "Ready", "Claimed", "Starting", "Capacity", "Last failure"]
    print_table("Hosts", columns, rows, "No host is known: is an agent running?")
    for name, record in sorted(records.items()):
        if record.problem:
            complain(f"{name}: {record.problem}")
        for pool, status in sorted(record.pools.items()):
            if status.limited_by:
                complain(f"{name}: at most {status.capacity} servers of pool {pool}: {status.limited_by}")
    for name, target in far.items():
        complain(f"{name}: {target} cannot be reached from here (its TMPNB_ADDRESS, or a firewall)")


def _rows(record: HostRecord, now: datetime) -> list[tuple[object, ...]]:
    progress = host_operations.drain_progress(record)
    state = record.state.value + (f" ({progress})" if progress else "")
    labels = ",".join(f"{name}={value}" for name, value in sorted(record.labels.items()))
    host = (record.host, record.address, state, record.agent_version, labels, ago(record.updated_at, now))
    return [
        (*host, pool, status.generation, status.ready, status.claimed, status.starting, status.capacity,
         texts.short(status.last_failure.reason, status.last_failure.note) if status.last_failure else "")
        for pool, status in sorted((record.pools or {"": PoolStatus()}).items())
    ]  # fmt: skip


@app.command()
def cordon(name: Name, as_json: JsonFlag = False) -> None:
    """Stop handing out the host's servers. Those in use stay, and so do the ready ones."""
    _set_state(name, HostState.CORDONED)
    _tell(name, HostState.CORDONED, as_json)


@app.command()
def uncordon(name: Name, as_json: JsonFlag = False) -> None:
    """Hand out the host's servers again. Also ends a drain."""
    _set_state(name, HostState.ACTIVE)
    _tell(name, HostState.ACTIVE, as_json)


@app.command()
def drain(
    name: Name,
    deadline: Annotated[
        str | None, typer.Option(help="Cull servers that are still in use after this time, such as 45m or 2h.")
    ] = None,
    no_wait: NoWait = False,
    timeout: Timeout = "24h",
    as_json: JsonFlag = False,
) -> None:
    """Empty the host: nobody new, ready servers are removed, those in use stay until they end."""
    _set_state(name, HostState.DRAINING, None if deadline is None else parse_span_s(deadline))
    if no_wait:
        _tell(name, HostState.DRAINING, as_json)
        return
    left = _follow_drain(name, parse_span_s(timeout), as_json)
    if as_json:
        print_json({"host": name, "state": "draining", "left": left})
    elif left == 0:
        say(f"{name} is empty")
    raise typer.Exit(0 if left == 0 else 1)


@app.command()
def remove(name: Name, as_json: JsonFlag = False) -> None:
    """Remove a host that is gone for good: what it served is closed, its queue and saved state are deleted.

    Drain a host whose agent is running first (tmpnb host drain NAME), then stop its agent.
    """
    with context.operating() as operating:
        closed = host_operations.remove_host(operating, name)
    context.note("host remove", host=name)
    text = f"{name} is removed" + (f"; {closed} servers in use were closed with it" if closed else "")
    show({"host": name, "closed": closed}, text, as_json)


def _set_state(name: str, state: HostState, deadline_s: float | None = None) -> None:
    with context.operating() as operating:
        deadline = host_operations.set_host_state(operating, name, state, deadline_s)
    detail = {"state": state.value, "deadline": deadline.isoformat() if deadline else None}
    context.note("host state", host=name, detail=detail)


def _tell(name: str, state: HostState, as_json: bool) -> None:
    asked = {"host": name, "state": state.value, "status": "requested"}
    show(asked, f"{name}: {state.value} requested", as_json)


def _follow_drain(name: str, timeout_s: float, quiet: bool) -> int | None:
    """Servers left when it was over; None: it never began."""
    cluster = context.cluster()

    def look() -> DrainProgress | None:
        try:
            return host_operations.drain_progress(host_operations.read_host(cluster, name))
        except NotFound as exc:
            raise TmpnbError(f"{exc}; it was not seen to be empty") from exc

    def tell(progress: DrainProgress | None) -> None:
        if not quiet:
            say(f"{name}: {progress}" if progress else f"{name}: waiting for its agent")

    seen = poll(look, lambda progress: progress is not None and progress.left == 0, timeout_s, LOOK_S, tell)
    return None if seen is None else seen.left

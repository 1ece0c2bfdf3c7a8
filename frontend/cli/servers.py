"""``tmpnb users | spawn | cull | extend | stats``."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

import typer

from common.errors import TmpnbError
from common.records.servers import Claim
from frontend.cli import context
from frontend.cli.http import post_json
from frontend.cli.output import JsonFlag, ago, complain, print_json, print_table, say, show
from frontend.cli.spans import parse_span_s
from frontend.cluster.hosts import stats as statistics
from frontend.operations import servers as server_operations
from frontend.operations.errors import NotFound
from frontend.operations.servers import Selection, Server

# The longest that the public API waits on our behalf.
SPAWN_WAIT_S = 30.0


def install(app: typer.Typer) -> None:
    """Add the commands to the top level."""
    for command in (users, spawn, cull, extend, stats):
        app.command()(command)


def users(as_json: JsonFlag = False) -> None:
    """List all servers: those that are ready, and those in use with their age and last activity."""
    cluster, now = context.cluster_and_time()
    visits = server_operations.last_active(cluster)
    rows = [
        (row, visits.get(row.record.user) if row.claim else None) for row in server_operations.list_servers(cluster)
    ]
    # Those claimed first first.
    rows.sort(key=lambda pair: (pair[0].claim is None, pair[0].claim.claimed_at if pair[0].claim else None))
    if as_json:
        print_json([_fields(row, active, now) for row, active in rows])
        return
    cells = [
        (row.record.user, row.state, row.record.pool, row.record.host,
         ago(row.claim.claimed_at if row.claim else None, now), ago(active, now))
        for row, active in rows
    ]  # fmt: skip
    print_table("Users", ("User", "State", "Pool", "Host", "Claimed", "Last active"), cells, "No servers.")


def spawn(
    pool: Annotated[str | None, typer.Option(help="The pool. Default: the cluster's default pool.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Get a server, as a visitor would."""
    chosen = context.settings()
    body: dict[str, Any] = {"wait_s": SPAWN_WAIT_S} | ({"pool": pool} if pool else {})
    base = chosen.url.rstrip("/")
    try:
        status, result = post_json(f"{base}/api/spawn", body, chosen.api_auth_token, SPAWN_WAIT_S + 10.0)
    except (OSError, ValueError) as exc:
        complain(f"{base} (TMPNB_URL) does not answer as a frontend does: {exc}")
        raise typer.Exit(3) from exc
    if status == HTTPStatus.OK:
        url = result["url"]  # absolute where servers have host names of their own
        front = chosen.public_url.rstrip("/") or base
        show(result, url if url.startswith(("http://", "https://")) else front + url, as_json)
        return
    if as_json:
        print_json(result)
    complain(f"no server: {result.get('status')}. {result.get('message', '')}".strip())
    raise typer.Exit(3 if status == HTTPStatus.SERVICE_UNAVAILABLE else 1)


def cull(
    users: Annotated[list[str] | None, typer.Argument(metavar="USER", help="Ids of users.")] = None,
    pool: Annotated[str | None, typer.Option(help="All servers in use of this pool.")] = None,
    host: Annotated[str | None, typer.Option(help="All servers in use on this host.")] = None,
    older_than: Annotated[
        str | None, typer.Option(help="All servers that were claimed longer ago than this, such as 45m or 2h.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All servers in use.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show which servers these are.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Remove servers, whatever they are doing: those of the given users, or all that match the options.

    Servers must match all options that are given. Their hosts are asked to remove them; they are gone when tmpnb users
    does not list them any more.
    """
    is_bulk = everything or any(option is not None for option in (pool, host, older_than))
    if bool(users) == is_bulk:
        raise typer.BadParameter("give users' ids, or --pool, --host, --older-than or --all, not both")
    if users:
        _cull_users(users, dry_run, as_json)
        return
    seconds = parse_span_s(older_than) if older_than is not None else None
    selection = Selection(pool, host, seconds, everything)
    detail: dict[str, str | int | None] = {"selection": str(selection)}
    with context.operating() as operating:
        try:
            claims = server_operations.cull_selected(operating, selection, dry_run=dry_run)
            detail["servers"] = len(claims)
        except TmpnbError as exc:
            detail["error"] = str(exc)  # some may have been asked for before it failed
            raise
        finally:
            if not dry_run:
                context.note("cull", pool=pool, host=host, detail=detail)
        now = operating.now()
    _tell_selected(claims, now, dry_run, as_json)


def extend(
    user: Annotated[str, typer.Argument(metavar="USER", help="The user's id, as in /user/<id>/ and tmpnb users.")],
    time: Annotated[str, typer.Argument(metavar="TIME", help="From now, such as 45m or 2h.")],
    as_json: JsonFlag = False,
) -> None:
    """Give a user's server more time: it is not culled for idleness or age before then."""
    seconds = parse_span_s(time)
    with context.operating() as operating:
        until = server_operations.extend(operating, user, seconds, context.settings().extend_max_s)
    context.note("extend", user=user[:64], detail={"kept_until": until.isoformat()})
    text = f"{user} is kept until {until:%Y-%m-%d %H:%M} UTC at least"
    show({"user": user, "kept_until": until.isoformat()}, text, as_json)


def stats(as_json: JsonFlag = False) -> None:
    """Show how many servers are available, in use and possible."""
    cluster = context.cluster()
    found = statistics(cluster.hosts.all(), "")
    found["waiting"] = len(cluster.tickets.ids())
    if as_json:
        print_json(found)
        return
    rows = [
        (name, row["state"], row["available"], row["claimed"], row["starting"], row["capacity"])
        for name, row in found["hosts"].items()
    ]
    columns = ("Host", "State", "Available", "Claimed", "Starting", "Capacity")
    print_table("Hosts", columns, rows, "No host is known: is an agent running?")
    say(f"{found['available']} of {found['capacity']} servers available; {found['waiting']} in the waiting room")


def _cull_users(users: Sequence[str], dry_run: bool, as_json: bool) -> None:
    """With one connection for all; ends with status 1 if one was not there."""
    asked: list[dict[str, str]] = []
    with context.operating() as operating:
        for user in dict.fromkeys(users):
            try:
                if dry_run:
                    host = server_operations.find_server(operating.cluster, user).record.host
                else:
                    host = server_operations.cull(operating, user)
                    context.note("cull", user=user[:64], host=host)
            except NotFound as exc:
                complain(str(exc))
                continue
            asked.append({"user": user, "host": host, "status": "dry run" if dry_run else "requested"})
            if not as_json:
                say(f"{host} would remove the server of {user}" if dry_run else f"{host} removes the server of {user}")
    if as_json:
        print_json(asked)
    if len(asked) < len(set(users)):
        raise typer.Exit(1)


def _tell_selected(claims: Sequence[Claim], now: datetime, dry_run: bool, as_json: bool) -> None:
    if as_json:
        rows = [claim.model_dump(mode="json", include={"user", "host", "pool", "claimed_at"}) for claim in claims]
        print_json({"dry_run": dry_run, "total": len(rows), "servers": rows})
        return
    if dry_run:
        cells = [(claim.user, claim.pool, claim.host, ago(claim.claimed_at, now)) for claim in claims]
        print_table("Would be culled", ("User", "Pool", "Host", "Claimed"), cells, "No server in use matches.")
        return
    for name, count in sorted(Counter(claim.host for claim in claims).items()):
        say(f"{name} removes {count} {'server' if count == 1 else 'servers'}")
    if not claims:
        say("No server in use matches.")


def _fields(row: Server, active: datetime | None, now: datetime) -> dict[str, Any]:
    """Times in ISO 8601, ages in seconds."""
    claim = row.claim
    return {
        "user": row.record.user,
        "host": row.record.host,
        "pool": row.record.pool,
        "state": row.state,
        "target": row.route.target if row.route else None,
        "claimed_at": claim.claimed_at.isoformat() if claim else None,
        "claimed_s": round((now - claim.claimed_at).total_seconds()) if claim else None,
        "expires_at": claim.expires_at.isoformat() if claim and claim.expires_at else None,
        "last_activity_s": round((now - active).total_seconds()) if active else None,
    }

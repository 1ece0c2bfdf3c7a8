"""``tmpnb users | spawn | cull | stats``."""

from http import HTTPStatus
from typing import Annotated, Any

import typer

from common.runtime.clock import utc_now
from frontend.cli.context import connect, note, publisher, settings
from frontend.cli.http import post_json
from frontend.cli.output import JsonFlag, ago, complain, print_json, print_table, say
from frontend.cluster.hosts import stats as figures_of
from frontend.operations import servers as server_operations

# The longest that the public API waits on our behalf.
SPAWN_WAIT_S = 30.0


def install(app: typer.Typer) -> None:
    """Add the commands to the top level."""
    for command in (users, spawn, cull, stats):
        app.command()(command)


def users(as_json: JsonFlag = False) -> None:
    """Show every server: ready ones, and claimed ones with their age and last activity."""
    now = utc_now()
    rows = server_operations.list_users(connect(), now)
    if as_json:
        print_json(rows)
        return
    cells = [
        (row["user"], row["state"], row["pool"], row["host"], ago(row["claimed_s"]), ago(row["last_activity_s"]))
        for row in rows
    ]
    print_table("Users", ("User", "State", "Pool", "Host", "Claimed before", "Active before"), cells, "No servers.")


def spawn(
    pool: Annotated[str | None, typer.Option(help="The pool; the default one if left out.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Get a server, as a visitor would."""
    chosen = settings()
    body: dict[str, Any] = {"wait_s": SPAWN_WAIT_S} | ({"pool": pool} if pool else {})
    base = chosen.url.rstrip("/")
    try:
        status, result = post_json(f"{base}/api/spawn", body, chosen.api_auth_token, SPAWN_WAIT_S + 10.0)
    except (OSError, ValueError) as exc:
        complain(f"{base} (TMPNB_URL) does not answer as a frontend does: {exc}")
        raise typer.Exit(3) from exc
    if status == HTTPStatus.OK:
        print_json(result) if as_json else say(base + result["url"])
        return
    if as_json:
        print_json(result)
    complain(f"no server: {result.get('status')}. {result.get('message', '')}".strip())
    raise typer.Exit(3 if status == HTTPStatus.SERVICE_UNAVAILABLE else 1)


def cull(user: str, as_json: JsonFlag = False) -> None:
    """Remove a user's server, whatever it is doing."""
    cluster = connect()
    with publisher() as connection:
        host = server_operations.cull(cluster, connection, user)
    note("cull", user=user[:64], host=host)
    if as_json:
        print_json({"user": user, "host": host, "status": "requested"})
    else:
        say(f"{host} was told to remove the server of {user}")


def stats(as_json: JsonFlag = False) -> None:
    """Show how many servers are available, in use and possible."""
    cluster = connect()
    figures = figures_of(cluster.hosts.all(), "")
    figures["waiting"] = len(cluster.tickets.ids())
    if as_json:
        print_json(figures)
        return
    rows = [
        (name, row["state"], row["available"], row["claimed"], row["starting"], row["capacity"])
        for name, row in figures["hosts"].items()
    ]
    columns = ("Host", "State", "Available", "Claimed", "Starting", "Capacity")
    print_table("Hosts", columns, rows, "No host has announced itself: is an agent running?")
    say(f"{figures['available']} available of {figures['capacity']}; {figures['waiting']} tickets in the waiting room")

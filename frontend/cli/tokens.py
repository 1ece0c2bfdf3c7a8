"""``tmpnb tokens create | list | revoke``."""

from datetime import timedelta
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from common.records.base import Name as RecordName
from common.records.tokens import Scope, Token
from frontend.cli import context
from frontend.cli.output import JsonFlag, complain, print_json, print_table, say, show
from frontend.cli.spans import parse_span_s
from frontend.operations import tokens as token_operations

app = typer.Typer(help="Manage the tokens of the APIs.", no_args_is_help=True)

_NAME: TypeAdapter[str] = TypeAdapter(RecordName)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Who it is for: lower-case letters, digits, '-' and '.'.")]


@app.command("create")
def create(
    name: Name,
    scope: Annotated[
        Scope, typer.Option(help="spawn: get servers; read: look at everything; admin: everything.", show_default=False)
    ],
    expires: Annotated[str | None, typer.Option(help="Lifetime, such as 12h or 7d. Default: no end.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Create a token and print it. It is shown only now: just a hash of it is kept."""
    try:
        _NAME.validate_python(name)
    except ValidationError:
        text = f"NAME: up to 63 lower-case letters, digits, '-' and '.' are accepted, not {name[:80]!r}"
        raise typer.BadParameter(text) from None
    cluster, now = context.cluster_and_time()
    until = None if expires is None else now + timedelta(seconds=parse_span_s(expires))
    text, record = token_operations.create_token(cluster, name, scope, now, until)
    context.note("tokens create", detail={"name": record.name, "scope": record.scope.value})
    if as_json:
        print_json({"token": text} | _shown(record))
        return
    say(text)
    complain("shown only now; send it as 'Authorization: Bearer TOKEN'")


@app.command("list")
def list_tokens(as_json: JsonFlag = False) -> None:
    """List all tokens: names, scopes and times, never the tokens themselves."""
    cluster, now = context.cluster_and_time()
    found = token_operations.list_tokens(cluster)
    if as_json:
        print_json([_shown(record) | {"expired": record.has_expired(now)} for record in found])
        return
    rows = [
        (record.name, record.scope, f"{record.created_at:%Y-%m-%d %H:%M}",
         f"{record.expires_at:%Y-%m-%d %H:%M}" if record.expires_at else "never",
         "expired" if record.has_expired(now) else "")
        for record in found
    ]  # fmt: skip
    print_table("Tokens", ("Name", "Scope", "Created (UTC)", "Expires (UTC)", ""), rows, "No tokens.")


@app.command("revoke")
def revoke(name: Name, as_json: JsonFlag = False) -> None:
    """Revoke a token. It stops working within a second."""
    token_operations.revoke_token(context.cluster(), name)
    context.note("tokens revoke", detail={"name": name})
    show({"name": name, "status": "revoked"}, f"{name} is revoked", as_json)


def _shown(record: Token) -> dict[str, object]:
    return record.model_dump(mode="json", exclude={"v", "digest"})

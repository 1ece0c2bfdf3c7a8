"""``tmpnb``: the operator's command line. Tables on a terminal, ``--json`` for programs.

Talks to Consul and RabbitMQ with the same settings as every process; ``spawn`` goes through the public API.
Exit codes: 0 done, 1 refused (not found, full, invalid pool), 2 wrong usage or settings, 3 a store is away.
"""

import sys

import typer

from common.errors import TmpnbError, TransientError
from frontend.cli import hosts, join, pools, servers, tokens
from frontend.cli.output import complain

app = typer.Typer(
    help="Manage a cluster of temporary servers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(pools.app, name="pools")
app.command("hosts")(hosts.show_hosts)
app.add_typer(hosts.app, name="host")
app.add_typer(tokens.app, name="tokens")
servers.install(app)
join.install(app)


def main() -> None:
    """The console script's entry point."""
    try:
        app()
    except TransientError as exc:
        complain(str(exc))
        sys.exit(3)
    except TmpnbError as exc:
        complain(str(exc))
        sys.exit(1)

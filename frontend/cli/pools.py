"""``tmpnb pools list | show | apply``."""

from typing import Annotated

import typer

from common.settings import environment
from frontend import operations
from frontend.cli.context import store_and_keys
from frontend.cli.output import JsonFlag, complain, print_json, print_table, say
from frontend.pool_files import read_file

app = typer.Typer(help="Kinds of servers.", no_args_is_help=True)


@app.command("list")
def list_pools(as_json: JsonFlag = False) -> None:
    """Show all pools."""
    pools = operations.read_pools(*store_and_keys())
    if as_json:
        print_json({name: spec.model_dump(mode="json") for name, spec in sorted(pools.items())})
        return
    rows = [
        (name, spec.image, spec.pool_size, spec.ready_target, spec.mem_limit, spec.generation)
        for name, spec in sorted(pools.items())
    ]
    columns = ("Pool", "Image", "Per host", "Kept ready", "Memory", "Generation")
    print_table("Pools", columns, rows, "No pools yet: tmpnb pools apply FILE.")


@app.command("show")
def show_pool(name: str, as_json: JsonFlag = False) -> None:
    """Show everything about one pool."""
    pools = operations.read_pools(*store_and_keys())
    if name not in pools:
        complain(f"there is no pool {name!r}; there are: {', '.join(sorted(pools)) or 'none'}")
        raise typer.Exit(1)
    fields = pools[name].model_dump(mode="json") | {"generation": pools[name].generation}
    if as_json:
        print_json(fields)
    else:
        print_table(f"Pool {name}", ("Field", "Value"), fields.items(), "")


@app.command("apply")
def apply_file(
    file: Annotated[str, typer.Argument(help="TOML with [pools.NAME] tables; ${NAME} in image is expanded.")],
    as_json: JsonFlag = False,
) -> None:
    """Create or change the pools in FILE; pools that it does not name stay as they are."""
    specs = read_file(file, environment())
    applied = operations.apply_pools(*store_and_keys(), specs)
    for warning in applied.warnings:
        complain(f"warning: {warning}")
    if as_json:
        print_json({"applied": [spec.name for spec in applied.pools], "changed": list(applied.changed)})
        return
    for spec in applied.pools:
        how = "changed" if spec.name in applied.changed else "unchanged"
        say(f"{spec.name}: {how}, generation {spec.generation}")

"""``tmpnb pools list | show | apply | status | rollback | remove``."""

from dataclasses import asdict
from typing import Annotated

import typer

from common.settings import environment
from frontend import texts
from frontend.cli import context
from frontend.cli.output import JsonFlag, complain, print_json, print_table, say
from frontend.cli.rolling import follow_change, prepare
from frontend.cli.spans import parse_span_s
from frontend.operations import pools as pool_operations
from frontend.operations.pool_files import read_file

app = typer.Typer(help="Manage pools, the kinds of server that the cluster offers.", no_args_is_help=True)


@app.command("list")
def list_pools(as_json: JsonFlag = False) -> None:
    """List all pools."""
    pools = context.cluster().pools.all()
    if as_json:
        print_json({name: spec.model_dump(mode="json") for name, spec in sorted(pools.items())})
        return
    rows = [
        (name, spec.image, spec.pool_size, spec.ready_target, spec.mem_limit, spec.generation)
        for name, spec in sorted(pools.items())
    ]
    columns = ("Pool", "Image", "Per host", "Kept ready", "Memory", "Generation")
    print_table("Pools", columns, rows, "No pools yet: create some with tmpnb pools apply FILE.")


@app.command("show")
def show_pool(name: str, as_json: JsonFlag = False) -> None:
    """Show all fields of one pool."""
    spec = pool_operations.read_pool(context.cluster(), name)
    fields = spec.model_dump(mode="json") | {"generation": spec.generation}
    if as_json:
        print_json(fields)
    else:
        print_table(f"Pool {name}", ("Field", "Value"), fields.items(), "")


@app.command("apply")
def apply_file(
    file: Annotated[str, typer.Argument(help="TOML with [pools.NAME] tables. ${NAME} in image is expanded.")],
    no_prepare: Annotated[bool, typer.Option("--no-prepare", help="Do not fetch images on all hosts first.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return at once instead of following the change.")] = False,
    timeout: Annotated[str, typer.Option(help="How long fetching, and then replacing, may take.")] = "15m",
    as_json: JsonFlag = False,
) -> None:
    """Create or change the pools in FILE. Pools that it does not name stay as they are.

    First every host fetches the images; if one cannot, nothing is changed. Then ready servers are replaced a few at a
    time; those in use stay until they end. Ends with status 1 if a new generation does not come up.
    """
    specs = read_file(file, environment())
    limit_s = parse_span_s(timeout)
    if not no_prepare:
        prepare(specs, limit_s, as_json)
    applied = pool_operations.apply_pools(context.cluster(), specs)
    context.note("pools apply", detail={"changed": " ".join(applied.changed) or "nothing"})
    for warning in applied.warnings:
        complain(f"warning: {warning}")
    if not as_json:
        for spec in specs:
            how = "changed" if spec.name in applied.changed else "unchanged"
            say(f"{spec.name}: {how}, generation {spec.generation}")
    changed = [spec for spec in specs if spec.name in applied.changed]
    stalled = [] if no_wait else follow_change(changed, limit_s, as_json)
    if as_json:
        result = {"applied": [spec.name for spec in specs], "changed": applied.changed}
        print_json(result | ({"stalled": stalled} if stalled else {}))
    if stalled:
        names = ", ".join(stalled)
        complain(f"the new generation does not come up everywhere: {names}. Back: tmpnb pools rollback NAME")
        raise typer.Exit(1)


@app.command("rollback")
def rollback(
    name: str,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return at once instead of following the change.")] = False,
    timeout: Annotated[str, typer.Option(help="How long replacing may take.")] = "15m",
    as_json: JsonFlag = False,
) -> None:
    """Roll a pool back to the generation before the present one."""
    spec = pool_operations.rollback(context.cluster(), name)
    context.note("pools rollback", pool=name, detail={"generation": spec.generation})
    if not as_json:
        say(f"{name}: back to generation {spec.generation}, image {spec.image}")
    stalled = [] if no_wait else follow_change([spec], parse_span_s(timeout), as_json)
    if as_json:
        print_json({"pool": name, "generation": spec.generation, "image": spec.image, "stalled": stalled})
    raise typer.Exit(1 if stalled else 0)


@app.command("remove")
def remove(name: str, as_json: JsonFlag = False) -> None:
    """Remove a pool. Its ready servers go; those in use stay until they end. Visitors waiting for one are refused.

    The last pool cannot be removed.
    """
    removed = pool_operations.remove_pool(context.cluster(), name)
    context.note("pools remove", pool=name)
    if as_json:
        print_json(removed.model_dump())
        return
    say(f"{name} is removed: {removed.ready} ready servers go, {removed.claimed} in use stay until they end")
    if removed.refused:
        say(f"{removed.refused} waiting visitors are told that the pool is gone")


@app.command("status")
def status(
    name: Annotated[str | None, typer.Argument(help="One pool. Default: all pools.")] = None, as_json: JsonFlag = False
) -> None:
    """Show the rollout status of pools on every host."""
    cluster = context.cluster()
    chosen = cluster.pools.all() if name is None else {name: pool_operations.read_pool(cluster, name)}
    hosts = cluster.hosts.all()
    rows = {pool: pool_operations.progress(spec, hosts) for pool, spec in sorted(chosen.items())}
    if as_json:
        print_json({pool: [asdict(row) for row in found] for pool, found in rows.items()})
        return
    cells = [
        (pool, chosen[pool].generation, row.host, row.stage, row.fresh, row.starting, row.old, row.claimed_old,
         texts.short(row.reason, row.note))
        for pool, found in rows.items()
        for row in found
    ]  # fmt: skip
    columns = ("Pool", "Generation", "Host", "Stage", "Ready", "Starting", "Ready, old", "In use, old", "Reason")
    print_table("Pools on hosts", columns, cells, "No host serves a pool.")

"""A change of pools as the command line follows it: images on all hosts first, then host by host."""

import time
from collections.abc import Sequence

import typer

from common.records.pools import PoolSpec
from common.runtime.loops import poll
from frontend import texts
from frontend.cli import context
from frontend.cli.output import complain, say
from frontend.cli.spans import LOOK_S
from frontend.operations import pools as pool_operations
from frontend.operations.pools import HostProgress, Images, Stage

# A host whose last try to fetch an image failed tries again when it is asked; this long until its record says so.
OLD_FAILURE_S = 10.0


def prepare(specs: Sequence[PoolSpec], timeout_s: float, quiet: bool) -> None:
    """Have every image on every host that will need it, or end with status 1 before anything is changed."""
    cluster = context.cluster()
    with context.operating() as operating:
        missing = pool_operations.prepare_images(operating, specs)

    def tell(found: Images) -> None:
        for image in sorted({image for image, _ in found}) if not quiet else ():
            states = [state for (each, _), state in found.items() if each == image]
            say(f"{image}: on {states.count(None)} of {len(states)} hosts")

    if all(state is None for state in missing.values()):
        return
    # A failure that is in the record already is one from before; the agents try again because they were asked.
    began = time.monotonic()

    def is_over(found: Images) -> bool:
        patient = time.monotonic() - began < OLD_FAILURE_S
        return all(s is None or (s and not (patient and missing.get(place) == s)) for place, s in found.items())

    def look() -> Images:
        return pool_operations.prepared(cluster.hosts.all(), specs)

    found = poll(look, is_over, timeout_s, LOOK_S, tell)
    problems = [
        f"{host}: {state or f'{image} is not there yet'}"
        for (image, host), state in sorted(found.items())
        if state is not None
    ]
    for problem in problems:
        complain(problem)
    if problems:
        complain("nothing was changed")
        raise typer.Exit(1)


def follow_change(specs: Sequence[PoolSpec], timeout_s: float, quiet: bool) -> list[str]:
    """Follow the change of these pools on all hosts; the names of those that did not get through."""
    cluster = context.cluster()

    def look() -> dict[str, list[HostProgress]]:
        hosts = cluster.hosts.all()
        return {spec.name: pool_operations.progress(spec, hosts) for spec in specs}

    def tell(found: dict[str, list[HostProgress]]) -> None:
        for pool, rows in found.items():
            if not quiet:
                done = sum(1 for row in rows if row.stage is Stage.DONE)
                say(f"{pool}: {done} of {len(rows)} hosts done")
            for row in rows:
                if row.stage is Stage.STALLED:
                    complain(f"{pool} on {row.host}: {texts.short(row.reason, row.note)}")

    found = poll(look, lambda seen: all(map(pool_operations.is_over, seen.values())), timeout_s, LOOK_S, tell)
    for pool, rows in found.items():
        for row in rows:
            for line in row.log.splitlines() if row.stage is Stage.STALLED else ():
                complain(f"{pool} on {row.host} | {line}")
    through = {Stage.DONE, Stage.HELD}
    return [pool for pool, rows in found.items() if any(row.stage not in through for row in rows)]

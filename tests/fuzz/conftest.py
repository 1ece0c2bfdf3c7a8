"""The seed and the size of a run, its table, and a cluster for the target with real parts."""

import os
import secrets
import time
from collections.abc import Callable, Iterator

import pytest

from common.broker.rabbitmq import RabbitAddress
from tests.fuzz.harness import Report, Target, run
from tests.fuzz.targets import SHARES
from tests.migrating.site import Site
from tests.support.light import build_light_image

LONG = bool(os.environ.get("TMPNB_FUZZ_LONG"))
INPUTS = int(os.environ.get("TMPNB_FUZZ_INPUTS") or (1_000_000 if LONG else 20_000))
# CI tries the same inputs every time: what is new is for `make fuzz` to find, not for somebody's change to stumble on.
SEED = os.environ.get("TMPNB_FUZZ_SEED") or (secrets.token_hex(4) if LONG else "0")


@pytest.fixture(scope="session")
def fuzz() -> Iterator[Callable[[str, Target], Report]]:
    """Gives a target its share of the inputs, and prints what became of it."""
    reports: list[Report] = []
    print(f"\nseed {SEED}, {INPUTS:,} inputs (TMPNB_FUZZ_SEED, TMPNB_FUZZ_INPUTS)")

    def fuzz(name: str, target: Target) -> Report:
        began = time.monotonic()
        report = run(name, target, SEED, max(100, round(INPUTS * SHARES[name])))
        reports.append(report)
        rate = report.count / (time.monotonic() - began)
        print(f"{name:10} {report.count:>9,} inputs {rate:>7,.0f}/s {len(report.violations):>3} violations", flush=True)
        return report

    yield fuzz
    print(
        f"{'all':10} {sum(r.count for r in reports):>9,} inputs",
        f"{sum(len(r.violations) for r in reports):>12} violations",
    )


@pytest.fixture(scope="session")
def site(consul_url: str, rabbitmq: RabbitAddress, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    build_light_image()
    site = Site(consul_url, rabbitmq, tmp_path_factory.mktemp("fuzzed"))
    try:
        site.start()
        yield site
    finally:
        site.close()

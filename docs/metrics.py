"""Writes docs/metrics.md from the instruments of every process: ``make docs``. A test keeps it up to date."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

sys.path.insert(0, str(Path(__file__).parents[1]))


import agent.metrics
import common.runtime.freshness
import common.runtime.metrics
import common.runtime.threads
import frontend.culler.metrics
import frontend.http.metrics
import frontend.public.metrics
import proxy.acme.metrics
import proxy.metrics

PAGE = Path(__file__).with_name("metrics.md")
HEAD = """# Metrics

Written by `make docs`; do not edit.

Every process tells Prometheus its figures at `http://<metrics_ip>:<metrics_port>/metrics`
([settings](configuration.md)), HAProxy at `:8404/metrics`, RabbitMQ at `:15692`, Consul at
`:8500/v1/agent/metrics?format=prometheus`. None of these is published or led to by the proxy tier.
[operations.md](operations.md#monitoring) says how to read them all, and what to be alarmed at.

Times are in seconds, sizes in bytes, timestamps in Unix time. A histogram has the series `_bucket`, `_sum` and
`_count`. Labels take few values: pools, outcomes, reasons; never a user, a token or a request. Which host an agent's
figures are of says the label `host` that Prometheus adds. A frontend's and an admin application's figures are the sums
over its workers.
"""
SECTIONS: tuple[tuple[str, ModuleType], ...] = (
    ("Every process", common.runtime.metrics),
    ("Threads of every process", common.runtime.threads),
    ("Watches of every process", common.runtime.freshness),
    ("Frontend and admin application", frontend.http.metrics),
    ("Frontend", frontend.public.metrics),
    ("Culler", frontend.culler.metrics),
    ("Agent", agent.metrics),
    ("Route sync", proxy.metrics),
    ("Certificates by ACME", proxy.acme.metrics),
)


def families(module: ModuleType) -> Iterator[tuple[Metric, tuple[str, ...]]]:
    """The metrics that a module makes, with the names of their labels."""
    for instrument in vars(module).values():
        if isinstance(instrument, MetricWrapperBase):
            (family,) = instrument.describe()
            yield family, instrument._labelnames
    if module is agent.metrics:
        for family in agent.metrics.host_families():
            yield family, tuple(getattr(family, "_labelnames"))  # noqa: B009 not declared for Metric


def shown(family: Metric) -> str:
    """The name as it is written in an expression (a histogram's without its suffix)."""
    return family.name + "_total" if family.type == "counter" else family.name


def page() -> str:
    parts = [HEAD]
    for title, module in SECTIONS:
        parts += [f"## {title}\n", "| metric | kind | labels | meaning |\n|---|---|---|---|"]
        for family, labels in families(module):
            names = ", ".join(f"`{label}`" for label in labels)
            parts.append(f"| `{shown(family)}` | {family.type} | {names} | {family.documentation} |")
        parts.append("")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())

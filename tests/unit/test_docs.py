"""The pages that are written from the code are the code's, and what deploy/config/monitoring reads is in them."""

import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

DOCS = Path(__file__).parents[2] / "docs"
MONITORING = Path(__file__).parents[2] / "deploy" / "config" / "monitoring"
# Prometheus' conventions: base units, and what a series counts at its end.
UNITS = ("_seconds", "_bytes", "_total", "_info")
LABELS = {
    "action", "call", "change", "event", "method", "name", "operation", "outcome", "pool", "queue", "reason", "role",
    "cycle", "stage", "state", "status", "thread", "disposition", "version", "view", "watch",
}  # fmt: skip


def test_the_page_of_settings_is_up_to_date() -> None:
    generator = runpy.run_path(str(DOCS / "configuration.py"))
    assert (DOCS / "configuration.md").read_text() == generator["page"](), "run: make docs"


def test_every_setting_says_what_it_means() -> None:
    page = (DOCS / "configuration.md").read_text()
    assert [line for line in page.splitlines() if line.endswith("|  |")] == []


def test_the_page_of_limits_is_up_to_date() -> None:
    generator = runpy.run_path(str(DOCS / "limits.py"))
    assert (DOCS / "limits.md").read_text() == generator["page"](), "run: make docs"


def test_the_page_of_reasons_is_up_to_date() -> None:
    generator = runpy.run_path(str(DOCS / "reasons.py"))
    assert (DOCS / "reasons.md").read_text() == generator["page"](), "run: make docs"


def test_every_setting_that_is_a_limit_is_on_the_page_of_limits() -> None:
    generator = runpy.run_path(str(DOCS / "limits.py"))
    rows = {limit.source for section in generator["SECTIONS"].values() for limit in section}
    names = {
        f"{process}:{name}" for process, model in generator["PROCESSES"].items() for name in model.model_fields
        if process == "every process" or name not in generator["CommonSettings"].model_fields
    }  # fmt: skip
    names |= {f"haproxy:{name}" for name in re.findall(r"\$\{(TMPNB_\w+):-", generator["START"].read_text())}
    limits = {name for name in names if re.search(r"(^|[:_])(max|limit|limits)($|_)", name, re.IGNORECASE)}
    no_limits = {"agent:port_max", "frontend:max_age"}  # the end of a range, a header
    # A setting of several processes is one setting.
    settings = {source.partition(":")[2] for source in rows}
    assert {name for name in limits - no_limits if name.partition(":")[2] not in settings} == set()


def documented() -> dict[str, tuple[str, set[str]]]:
    """Name -> kind and labels, as the page says."""
    rows = [line.split(" | ") for line in (DOCS / "metrics.md").read_text().splitlines() if line.startswith("| `")]
    return {row[0].strip("| `"): (row[1], set(re.findall(r"`(\w+)`", row[2]))) for row in rows}


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> Iterator[str]:
    panels = json.loads((MONITORING / "grafana" / "dashboard.json").read_text())["panels"]
    yield from (target["expr"] for panel in panels for target in panel.get("targets", ()))
    yield from (rule["expr"] for rule in rules())


def test_the_page_of_metrics_is_up_to_date() -> None:
    generator = runpy.run_path(str(DOCS / "metrics.py"))
    assert (DOCS / "metrics.md").read_text() == generator["page"](), "run: make docs"


@pytest.mark.parametrize("name", documented())
def test_names_and_labels_follow_the_conventions(name: str) -> None:
    kind, labels = documented()[name]
    assert re.fullmatch(r"tmpnb_[a-z]+(_[a-z]+)*", name)
    assert name.endswith("_total") == (kind == "counter")
    assert kind != "histogram" or name.endswith("_seconds")
    assert not name.endswith(("_ms", "_milliseconds", "_minutes", "_kb", "_mb"))
    assert labels <= LABELS, "a label that may take any number of values?"


def test_the_dashboard_and_the_alerts_use_what_there_is() -> None:
    metrics = documented()
    series = {name: kind for name, (kind, _) in metrics.items()}
    for name, (kind, _) in metrics.items():
        if kind == "histogram":
            series |= dict.fromkeys((f"{name}_bucket", f"{name}_sum", f"{name}_count"), kind)
    used = {name for expression in expressions() for name in re.findall(r"tmpnb_[a-z_]+", expression)}
    assert used - series.keys() == set()
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in used}
    assert metrics.keys() - shown == set(), "told, and shown nowhere"


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_what_is_wrong_what_to_do_and_is_tested(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert f'<a id="{anchor}"></a>{rule["alert"]} |' in (DOCS.parent / page).read_text()
    tested = yaml.safe_load((MONITORING / "alerts_test.yml").read_text())["tests"]
    fired = [case for test in tested for case in test["alert_rule_test"] if case["alertname"] == rule["alert"]]
    assert any(case.get("exp_alerts") for case in fired), "nothing makes it fire"
    assert any(not case.get("exp_alerts") for case in fired), "nothing keeps it quiet"

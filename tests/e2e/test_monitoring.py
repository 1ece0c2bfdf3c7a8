"""A real Prometheus scrapes the real cluster, and the audit log tells what happened in it."""

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from common.runtime.audit_log import AuditLine
from tests.support.cluster import ROOT, Cluster, ask, free_ports
from tests.support.waiting import wait_until
from tests.unit.test_docs import documented, expressions

JOBS = {
    "tmpnb-frontend", "tmpnb-admin", "tmpnb-culler", "tmpnb-sync", "tmpnb-agent",
    "haproxy", "rabbitmq", "rabbitmq-queues", "consul",
}  # fmt: skip
SECRETS = ("TMPNB_RABBITMQ_PASSWORD", "TMPNB_SECRET_KEY", "ADMIN_AUTH_TOKEN", "TMPNB_GOSSIP_KEY")
# Told only once such a thing has happened, which these tests do not make happen.
EVENTFUL = (
    "late_replies", "start_failures", "docker_errors", "consul_errors", "publish_errors", "dead_lettered", "decisions",
    "ticket_wait", "waiting_tickets", "culls_refused", "records_repaired",
)  # fmt: skip
# From inside the network: one page per URL given.
FETCH = """
import json, sys, urllib.request
print(json.dumps([urllib.request.urlopen(url, timeout=10).read().decode() for url in sys.argv[1:]]))
"""


class Monitored:
    """The cluster with its Prometheus, after a learner came, was culled by an operator, and somebody was refused."""

    def __init__(self, cluster: Cluster) -> None:
        (port,) = free_ports(1)
        environment = {"TMPNB_MONITORING": "1", "TMPNB_PROMETHEUS_PORT": str(port)}
        self.cluster = replace(cluster, environment=cluster.environment | environment)
        self.url = f"http://127.0.0.1:{port}"
        self.user, self.token = "", ""

    def api(self, path: str, **parameters: str) -> Any:
        answer = ask(f"{self.url}/api/v1/{path}?{urlencode(parameters)}")
        assert answer.status == 200, (path, parameters, answer.body[:300])
        return answer.json()["data"]

    def query(self, expression: str) -> list[Any]:
        found: list[Any] = self.api("query", query=expression)["result"]
        return found

    def targets(self) -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = self.api("targets", state="active")["activeTargets"]
        except OSError:
            return []
        return found

    def answering(self) -> set[str]:
        return {target["labels"]["job"] for target in self.targets() if target["health"] == "up"}

    def live(self) -> None:
        """A learner's life."""
        wait_until(lambda: self.cluster.available() > 0, "a ready server", 120)
        url = urlsplit(self.cluster.spawn())
        self.user, self.token = url.path.split("/")[2], url.query.removeprefix("token=")
        assert ask(self.cluster.admin_url + "/api/v1/hosts").status == 401
        self.cluster.cull([self.user])
        wait_until(lambda: self.user not in self.cluster.records("claims"), "the server to be gone", 60)

    def audit(self) -> list[AuditLine]:
        services = ("frontend", "admin", "culler", "agent")
        logs = [self.cluster.docker("logs", self.cluster.container(service)) for service in services]
        lines = [line for log in logs for line in log.splitlines()]
        return [AuditLine.model_validate_json(line) for line in lines if '"log":"audit"' in line]


@pytest.fixture(scope="module")
def monitored(cluster: Cluster) -> Iterator[Monitored]:
    found = Monitored(cluster)
    found.cluster.compose("up", "--detach", "--no-deps", "prometheus")
    try:
        found.live()
        wait_until(lambda: found.answering() == JOBS, "all targets", 90)
        # Rates need two values since then.
        told_twice = 'count_over_time(tmpnb_culls_total{reason="operator"}[1h]) >= 2'
        wait_until(lambda: found.query(told_twice), "two scrapes after the cull", 90)
        yield found
    finally:
        found.cluster.compose("rm", "--force", "--stop", "--volumes", "prometheus")
        found.cluster.docker("volume", "rm", f"{found.cluster.environment['COMPOSE_PROJECT_NAME']}_prometheus-data")


def test_every_process_is_found_and_answers(monitored: Monitored) -> None:
    assert {t["labels"]["job"]: t["health"] for t in monitored.targets()} == dict.fromkeys(JOBS, "up")
    (agent,) = [t["labels"] for t in monitored.targets() if t["labels"]["job"] == "tmpnb-agent"]
    assert (agent["host"], agent["cluster"]) == ("host-1", monitored.cluster.name)


def test_the_dashboard_and_the_alerts_find_what_they_ask_for(monitored: Monitored) -> None:
    quiet = re.compile(r" (==|<|>|>=) (?!bool)")  # an alert that has no reason finds nothing
    asked = [expression.replace("$pool", ".*") for expression in expressions()]
    assert all(isinstance(monitored.query(expression), list) for expression in asked), "each is understood"
    due = [e for e in asked if not quiet.search(e) and not any(name in e for name in EVENTFUL)]
    empty = set(due)

    def found() -> bool:
        empty.intersection_update({expression for expression in empty if not monitored.query(expression)})
        return not empty

    # Targets are scraped one after the other: the last has its second value some seconds after the first.
    with contextlib.suppress(AssertionError):
        wait_until(found, "every expression to find something", 60, every_s=1)
    assert empty == set()
    rules = [rule for group in monitored.api("rules")["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}
    assert {rule["lastError"] for rule in rules if rule.get("lastError")} == set()


def test_figures_agree_with_the_cluster(monitored: Monitored) -> None:
    cluster = monitored.cluster

    def figure(expression: str) -> int:
        (found,) = monitored.query(expression)
        return int(float(found["value"][1]))

    def agree() -> bool:
        routes, claims = cluster.records("routes"), cluster.records("claims")
        ready = figure('sum(tmpnb_pool_servers{state="ready"})')
        claimed = figure('sum(tmpnb_pool_servers{state="claimed"})')
        return (ready, claimed, figure("sum(tmpnb_sync_routes)")) == (cluster.available(), len(claims), len(routes))

    wait_until(agree, "Prometheus to show what Consul and the public statistics say", 90)
    assert figure("max(tmpnb_culler_leader)") == 1
    assert figure('max(tmpnb_hosts{state="active"})') == 1


def test_what_is_told_is_documented_and_what_is_documented_is_told(monitored: Monitored) -> None:
    told: dict[str, set[str]] = {}
    for row in monitored.api("targets/metadata"):
        if row["metric"].startswith("tmpnb_"):
            told.setdefault(row["target"]["job"], set()).add(row["metric"].removesuffix("_total"))
    sections = (ROOT / "docs" / "metrics.md").read_text().split("\n## ")
    pages = {text.partition("\n")[0]: set(re.findall(r"^\| `(\w+?)(?:_total)?`", text, re.M)) for text in sections[1:]}
    everybody = set[str]().union(*(page for title, page in pages.items() if title.lower().endswith("every process")))
    assert told["tmpnb-agent"] == everybody | pages["Agent"]
    assert told["tmpnb-culler"] == everybody | pages["Culler"]
    assert told["tmpnb-sync"] == everybody | pages["Route sync"]
    # Workers tell what has happened since they began.
    frontend = everybody | pages["Frontend and admin application"] | pages["Frontend"]
    assert told["tmpnb-frontend"] | told["tmpnb-admin"] <= frontend
    assert frontend - told["tmpnb-frontend"] - told["tmpnb-admin"] <= {
        f"tmpnb_{name}"
        for name in ("late_replies", "consul_errors", "rabbitmq_publish_errors", "rabbitmq_dead_lettered")
    }
    assert len(documented()) == sum(len(page) for page in pages.values())


def test_no_secret_and_no_learner_is_in_any_figure(monitored: Monitored) -> None:
    cluster = monitored.cluster
    urls = [target["scrapeUrl"] for target in monitored.targets()] + ["http://admin:9465/targets"]
    pages = json.loads(cluster.compose("exec", "-T", "sync", "python3", "-c", FETCH, *urls))
    assert all(pages)
    forbidden = {monitored.user, monitored.token, *cluster.records("routes"), *cluster.records("claims")}
    forbidden |= {route["container"][:12] for route in cluster.records("routes").values()}
    forbidden |= {cluster.secret(name) for name in SECRETS}
    for url, text in zip(urls, pages, strict=True):
        assert [word for word in forbidden if word in text] == [], url


def test_the_public_proxy_leads_to_no_figures(monitored: Monitored) -> None:
    cluster = monitored.cluster
    paths = ("/metrics", "//metrics", "/metrics/", "/targets", "/user/x/../../metrics", "/%6detrics", "/stats;csv")
    for path in paths:
        for host in ("x", "frontend:9465", "haproxy:8404"):
            answer = ask(cluster.url + path, headers={"Host": host})
            assert answer.status in (302, 400, 404), (path, host, answer.status)
            assert not re.search(rb"tmpnb_|haproxy_|# HELP", answer.body), (path, host)
    assert ask(cluster.admin_url + "/metrics").status in (401, 404)
    for service in ("frontend", "admin", "culler", "agent", "sync", "haproxy", "rabbitmq"):
        published = json.loads(cluster.docker("inspect", cluster.container(service)))[0]["NetworkSettings"]["Ports"]
        open_ports = {port for port, bindings in published.items() if bindings}
        assert not open_ports & {"9465/tcp", "8404/tcp", "15692/tcp"}, service


def test_the_audit_log_tells_a_learners_life_and_the_operators_part(monitored: Monitored) -> None:
    def life() -> list[AuditLine]:
        return [line for line in monitored.audit() if line.user == monitored.user]

    wait_until(lambda: any(line.event == "server.culled" for line in life()), "the end in the audit log", 30)
    lines = sorted(life(), key=lambda line: line.at)
    claimed, asked, culled = lines
    assert [line.event for line in lines] == ["server.claimed", "admin.action", "server.culled"]
    assert (claimed.service, claimed.host, claimed.pool) == ("agent", "host-1", "default")
    assert claimed.request_id == culled.request_id
    assert claimed.container == culled.container
    assert (asked.service, asked.who, asked.action, asked.status) == (
        "admin", "ADMIN_AUTH_TOKEN", "DELETE /api/v1/servers/<user>", 202,
    )  # fmt: skip
    assert culled.reason == "operator"


def test_the_audit_log_tells_of_hosts_and_refusals_and_no_secret(monitored: Monitored) -> None:
    lines = monitored.audit()
    assert ("host.joined", "host-1") in {(line.event, line.host) for line in lines}
    refused = [line for line in lines if line.event == "request.refused" and line.service == "admin"]
    assert {(line.action, line.status) for line in refused} >= {("GET /api/v1/hosts", 401)}
    text = "\n".join(line.model_dump_json() for line in lines)
    assert "token=" not in text
    for secret in (monitored.token, *(monitored.cluster.secret(name) for name in SECRETS)):
        assert secret not in text


def test_a_cordon_is_told_by_the_host_and_by_the_admin_application(monitored: Monitored) -> None:
    cluster = monitored.cluster
    token = {"Authorization": f"token {cluster.secret('ADMIN_AUTH_TOKEN')}", "Content-Type": "application/json"}
    url = f"{cluster.admin_url}/api/v1/hosts/host-1/state"

    def told(event: str, state: str) -> bool:
        return any(line.event == event and (line.detail or {}).get("state") == state for line in monitored.audit())

    try:
        assert ask(url, "PUT", token, b'{"state": "cordoned"}').status == 202
        wait_until(lambda: told("host.state", "cordoned"), "the host to tell", 30)
        assert told("admin.action", "cordoned")
    finally:
        assert ask(url, "PUT", token, b'{"state": "active"}').status == 202
    wait_until(lambda: told("host.state", "active"), "the host to be back", 30)

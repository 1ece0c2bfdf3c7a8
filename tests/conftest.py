"""Real stores for the tests that claim something about them: one container each per test session, on 127.0.0.1."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from common.broker.rabbitmq import RabbitAddress
from common.runtime import threads
from tests.support.last_look import ENGINE_KINDS, LastLook

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page
    from testcontainers.core.container import DockerContainer

_ENV_FILE = Path(__file__).parents[1] / ".env"
if _ENV_FILE.exists():
    # Which images there are was decided by deploy/machine/env.sh.
    _decided = (line.partition("=") for line in _ENV_FILE.read_text().splitlines())
    for _name, _, _value in _decided:
        if _name.endswith("_IMAGE"):
            os.environ.setdefault(_name, _value)

CONSUL_IMAGE = os.environ.get("CONSUL_IMAGE", "tmpnb-local/consul:1.8")
RABBITMQ_IMAGE = os.environ.get("RABBITMQ_IMAGE", "tmpnb-local/rabbitmq:4.0")

# The cleaner container of testcontainers comes from a registry; our fixtures stop what they start.
os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(LastLook(), "last-look")


# The same examples in every run: what is new is for a long run to find (TMPNB_FAULT_LONG), not for somebody's change to
# stumble on. Nor is it asserted how long an example takes: machines are busy.
settings.register_profile("repeatable", derandomize=not os.environ.get("TMPNB_FAULT_LONG"), deadline=None)
settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test's folder is its kind, and its kind is its marker: ``-m 'not e2e'``."""
    for item in items:
        kind = item.path.relative_to(item.config.rootpath / "tests").parts[0]
        if kind in {"unit", *ENGINE_KINDS}:
            item.add_marker(kind)


@pytest.fixture(autouse=True)
def no_thread_ends_unasked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A thread that goes on after an error hides it from pytest; one that ends the process would end pytest."""
    ended: list[str] = []
    counted = threads.THREADS_ENDED.labels

    def labels(kind: str) -> object:
        counter = counted(kind)
        return SimpleNamespace(inc=lambda: (ended.append(kind), counter.inc()), _value=counter._value)

    monkeypatch.setattr(threads.THREADS_ENDED, "labels", labels)
    monkeypatch.setattr(threads, "end_process", lambda _name: None)
    yield
    if request.node.get_closest_marker("ends_threads") is None:
        assert not ended, f"threads ended unasked: {ended}"


@pytest.fixture(scope="session")
def consul_url() -> Iterator[str]:
    """The URL of a Consul server of our own."""
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import HttpWaitStrategy

    container = (
        DockerContainer(CONSUL_IMAGE)
        .with_command("agent -dev -client=0.0.0.0")
        .with_exposed_ports(8500)
        .waiting_for(HttpWaitStrategy(8500, "/v1/kv/?keys").for_status_code_matching(lambda code: code in (200, 404)))
    )
    with container:
        yield f"http://127.0.0.1:{container.get_exposed_port(8500)}"


@pytest.fixture(scope="session")
def rabbitmq_container() -> Iterator["DockerContainer"]:
    """A RabbitMQ of our own, with an empty vhost ``tmpnb``."""
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    container = (
        DockerContainer(RABBITMQ_IMAGE)
        .with_env("RABBITMQ_DEFAULT_USER", "tmpnb")
        .with_env("RABBITMQ_DEFAULT_PASS", secrets.token_hex(8))
        .with_env("RABBITMQ_DEFAULT_VHOST", "tmpnb")
        .with_exposed_ports(5672)
        .waiting_for(LogMessageWaitStrategy("Server startup complete"))
    )
    with container:
        yield container


@pytest.fixture(scope="session")
def rabbitmq(rabbitmq_container: "DockerContainer") -> RabbitAddress:
    """Its address."""
    port, password = rabbitmq_container.get_exposed_port(5672), rabbitmq_container.env["RABBITMQ_DEFAULT_PASS"]
    return RabbitAddress((f"amqp://tmpnb@127.0.0.1:{port}/tmpnb",), password, "test")


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """The machine's Chromium: one, because Playwright can be started once at a time."""
    from playwright.sync_api import expect, sync_playwright

    from tests.support.browsing import chromium

    expect.set_options(timeout=30_000)  # Playwright's 5 s are too short for a busy machine's JupyterLab
    with sync_playwright() as playwright:
        browser = chromium(playwright)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: "Browser") -> Iterator["Page"]:
    """A page of a fresh visitor: no cookies, desktop size."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(60_000)
    yield context.new_page()
    context.close()

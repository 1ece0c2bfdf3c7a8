"""B4: browsers that lack something, or whose script fails halfway: the pages lead to the server all the same.

Real Chromium and the real application with its pages; around it a cluster in memory whose agent the test plays.
"""

import contextlib
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext
from playwright.sync_api import Error as PlaywrightError
from werkzeug.serving import WSGIRequestHandler, make_server

from common.runtime.clock import utc_now
from tests.support.browsing import ARGUMENTS, visit
from tests.unit.frontend.fakes import Clock, FakeCluster, settings

# Visitors are promised 15 s from the moment that there is a server; a machine that is full of tests gets twice that.
PATIENCE_MS = 30_000
# Longer than the page's own refresh takes.
UNTOUCHED_MS = 13_000
# Runs before any script of the page.
BROKEN = {
    "nothing": "",
    "no AbortSignal.timeout": "delete AbortSignal.timeout;",
    "no AbortController": "delete window.AbortController;",
    "no Worker": "delete window.Worker;",
    "Worker throws": "window.Worker = class { constructor() { throw new Error('blocked'); } };",
    "Worker never answers": "window.Worker = class { postMessage() {} };",
    "no fetch": "delete window.fetch;",
    "fetch throws": "window.fetch = () => { throw new Error('blocked'); };",
    "fetch rejects": "window.fetch = () => Promise.reject(new TypeError('blocked'));",
    "fetch hangs": "window.fetch = () => new Promise(() => {});",
    "timers throw": "window.setTimeout = () => { throw new Error('blocked'); };",
    "timers never ring": "window.setTimeout = () => 0;",
    "fails at its beginning": "document.getElementById = () => { throw new Error('odd'); };",
    "fails in the middle": """
        Object.defineProperty(Element.prototype, 'dataset', { get() { throw new Error('odd'); } });""",
    "fails when it shows": """
        Object.defineProperty(Node.prototype, 'textContent', { set() { throw new Error('odd'); } });""",
    "fails at the second answer": """
        const real = window.fetch.bind(window);
        let count = 0;
        window.fetch = (...all) => { if (count++) throw new Error('odd'); return real(...all); };""",
    "hangs at the second answer": """
        const real = window.fetch.bind(window);
        let count = 0;
        window.fetch = (...all) => (count++ ? new Promise(() => {}) : real(...all));""",
    "cannot stop": "delete window.stop;",
}


class Live(Clock):
    """The clock goes by itself."""

    def now(self) -> datetime:
        return utc_now()

    def monotonic(self) -> float:
        return time.monotonic()


class _Quiet(WSGIRequestHandler):
    def log(self, *_: object) -> None:
        pass


class Frontend:
    """The public application on a port of this machine. Nothing is free until ``let_in``."""

    def __init__(self) -> None:
        self.cluster = FakeCluster(settings(), Live())
        self.cluster.agent.serving = False
        app = self.cluster.client.application
        self._server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def let_in(self) -> str:
        """Give the one who waits a server; its path."""
        reply = self.cluster.agent.reply_to(self.cluster.agent.requests[0])
        self.cluster.late(reply)
        return reply.url.partition("?")[0]


@contextlib.contextmanager
def cookies_blocked(browser: Browser, folder: Path) -> Iterator[BrowserContext]:
    """A context of somebody who has forbidden all cookies, in the browser's own settings."""
    (folder / "Default").mkdir()
    blocked = {"profile": {"default_content_setting_values": {"cookies": 2}}}
    (folder / "Default" / "Preferences").write_text(json.dumps(blocked))
    context = browser.browser_type.launch_persistent_context(
        folder, executable_path="/usr/bin/chromium", args=ARGUMENTS
    )
    yield context
    context.close()


# Goes on at each ``next``: where it stops, something takes its time, and others go on meanwhile.
Journey = Iterator[None]


class Visitor:
    """A browser on its way from a start page through the waiting room, in a cluster of its own."""

    def __init__(self, context: BrowserContext, start: str = "/") -> None:
        self.frontend = Frontend()
        self.page = context.new_page()
        visit(self.page, self.frontend.url + start, wait_until="commit")

    def waits(self) -> None:
        self.page.wait_for_url("**/waiting/*", timeout=PATIENCE_MS, wait_until="load")
        # The script has asked by now, if it can.
        self.page.wait_for_load_state("networkidle")

    def arrives(self) -> Journey:
        path, begun = self.frontend.let_in(), time.monotonic()
        yield
        left_ms = max(1.0, PATIENCE_MS - 1000 * (time.monotonic() - begun))
        self.page.wait_for_url(f"**{path}*", timeout=left_ms, wait_until="commit")
        assert len(self.frontend.cluster.agent.requests) == 1, "one seat"


class Travellers:
    """Visitors of one module: all their contexts are closed at its end."""

    def __init__(self, browser: Browser, there: contextlib.ExitStack) -> None:
        self.browser = browser
        self._there = there

    def context(self, script: str = "", **options: Any) -> BrowserContext:
        context = self.browser.new_context(**options)
        self._there.callback(context.close)
        context.add_init_script(script)
        return context

    def without_cookies(self) -> BrowserContext:
        folder = Path(self._there.enter_context(tempfile.TemporaryDirectory()))
        return self._there.enter_context(cookies_blocked(self.browser, folder))

    def visitor(self, context: BrowserContext, start: str = "/") -> Visitor:
        visitor = Visitor(context, start)
        self._there.callback(visitor.frontend.close)
        return visitor


Way = Callable[[Travellers, str], Journey]
Case = tuple[str, str]
WAYS: dict[Case, Way] = {}


def together(*values: str) -> Callable[[Way], Callable[..., None]]:
    """A test whose visitor is on the way at the same time as those of all others: nearly all of it is waiting for a
    page to ask again by itself. ``values``: of its parameter."""

    def made(way: Way) -> Callable[..., None]:
        name = way.__name__
        WAYS.update({(name, value): way for value in values})

        @pytest.mark.parametrize("value", values)
        def test(failed: dict[Case, Exception], value: str) -> None:
            if (name, value) in failed:
                raise failed[name, value]

        test.__name__, test.__doc__ = name, way.__doc__
        return test

    return made


@pytest.fixture(scope="module")
def failed(request: pytest.FixtureRequest, browser: Browser) -> Iterator[dict[Case, Exception]]:
    """What went wrong on the ways of the tests that were chosen."""
    chosen = {item.name for item in request.session.items if item.path == request.path}
    failed: dict[Case, Exception] = {}
    with contextlib.ExitStack() as there:
        travellers = Travellers(browser, there)
        going = {
            (name, value): way(travellers, value) for (name, value), way in WAYS.items() if f"{name}[{value}]" in chosen
        }
        while going:
            for case, journey in tuple(going.items()):
                try:
                    next(journey)
                except StopIteration:
                    del going[case]
                except (PlaywrightError, AssertionError) as exc:
                    failed[case] = exc
                    del going[case]
        yield failed


@together(*BROKEN)
def test_b4_whatever_a_browser_lacks_it_gets_from_the_start_page_to_the_server(there: Travellers, lack: str) -> Journey:
    learner = there.visitor(there.context(BROKEN[lack]))
    yield
    learner.waits()
    yield from learner.arrives()


@together("/lab/tree/a.ipynb?reset")
def test_b4_without_javascript(there: Travellers, start: str) -> Journey:
    learner = there.visitor(there.context(java_script_enabled=False), start)
    yield
    learner.waits()
    yield from learner.arrives()


@together("/")
def test_b4_with_scripts_that_do_not_load(there: Travellers, start: str) -> Journey:
    context = there.context()
    context.route("**/*.js*", lambda route: route.abort())
    learner = there.visitor(context, start)
    yield
    learner.waits()
    yield from learner.arrives()


@together("/")
def test_b4_with_cookies_blocked(there: Travellers, start: str) -> Journey:
    context = there.without_cookies()
    learner = there.visitor(context, start)
    yield
    learner.waits()
    yield from learner.arrives()
    assert context.cookies() == []


@together("/")
def test_b4_a_page_whose_script_works_is_not_loaded_again(there: Travellers, start: str) -> Journey:
    learner = there.visitor(there.context(), start)
    yield
    learner.waits()
    learner.page.evaluate("window.same = true")
    until = time.monotonic() + UNTOUCHED_MS / 1000
    yield
    learner.page.wait_for_timeout(max(0.0, 1000 * (until - time.monotonic())))  # nothing is to happen
    assert learner.page.evaluate("window.same")
    yield from learner.arrives()


@together("nothing", "timers never ring", "fails in the middle")
def test_b4_while_a_store_is_away_the_page_goes_on_by_itself(there: Travellers, lack: str) -> Journey:
    learner = there.visitor(there.context(BROKEN[lack]), "/robots.txt")
    learner.frontend.cluster.broker.down = True
    # Who has no cookie yet gets there by the start page.
    visit(learner.page, learner.frontend.url + "/spawn")
    yield
    learner.page.get_by_text("cannot be started right now").first.wait_for(state="attached", timeout=PATIENCE_MS)
    learner.frontend.cluster.broker.down = False
    yield
    learner.waits()

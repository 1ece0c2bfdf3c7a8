"""One arena per mode, two learners in it, and what the table of docs/attacks.md says of each attack."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Error

from common.broker.rabbitmq import RabbitAddress
from tests.attack.arena import Arena, Learner
from tests.attack.table import MODES, PAGE, rows
from tests.support.light import build_light_image

# Everybody's timeouts: pages here are small, and what is refused must not be waited for.
PATIENCE_MS = 20_000


@pytest.fixture(scope="package", params=MODES)
def arena(
    request: pytest.FixtureRequest, consul_url: str, rabbitmq: RabbitAddress, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Arena]:
    build_light_image()
    arena = Arena(consul_url, rabbitmq, tmp_path_factory.mktemp("arena"), request.param)
    try:
        arena.start()
        yield arena
    finally:
        arena.close()


@pytest.fixture(scope="package")
def chromium(arena: Arena, browser: Browser) -> Iterator[Browser]:
    with arena.chromium(browser) as chromium:
        yield chromium


@pytest.fixture(scope="package")
def new_context(chromium: Browser) -> Callable[[], BrowserContext]:
    """A browser that was never here."""

    def new_context() -> BrowserContext:
        context = chromium.new_context()
        context.set_default_timeout(PATIENCE_MS)
        return context

    return new_context


@pytest.fixture(scope="package")
def new_learner(arena: Arena, new_context: Callable[[], BrowserContext]) -> Callable[..., Learner]:
    """Somebody who just got a server: for attacks that leave traces in a browser, or end a server."""
    return lambda pool="", front="": Learner(arena, new_context(), pool, front)


@pytest.fixture(scope="package")
def attacker(new_learner: Callable[..., Learner]) -> Learner:
    """A learner who controls everything in their server, and knows the victim's id."""
    return new_learner()


@pytest.fixture(scope="package")
def victim(new_learner: Callable[..., Learner]) -> Learner:
    """A learner at work, who opens a page of the attacker's."""
    return new_learner()


@pytest.fixture
def stranger(new_context: Callable[[], BrowserContext]) -> Iterator[BrowserContext]:
    """A browser without a server, which knows the victim's address."""
    context = new_context()
    yield context
    context.close()


class Hole(AssertionError):
    """An attack works that is stopped, as docs/attacks.md says."""


# Other containers of the machine come and go, and Chromium gives up whatever it loads when a network interface does.
# What did not work for once is no proof; what did, is.
@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool:
    fixtures = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    for again in (True, True, False):
        try:
            pyfuncitem.obj(**fixtures)
        except Hole:
            raise
        except (Error, AssertionError):
            if not again:
                raise
        else:
            break
    return True


@pytest.fixture
def judge(request: pytest.FixtureRequest, arena: Arena) -> Iterator[Callable[[bool], None]]:
    """Told whether the attack worked: fails unless docs/attacks.md says the same."""
    mark = request.node.get_closest_marker("tries")
    assert mark is not None, "name the attack: @pytest.mark.tries(…)"
    expected = rows(PAGE.read_text())[mark.args[0]][arena.mode]
    told: list[bool] = []

    def judge(works: bool) -> None:
        told.append(works)
        if works and expected == "stopped":
            raise Hole(f"{mark.args[0]}, with {arena.mode}: it works, and docs/attacks.md says that it is stopped")
        assert works == (expected == "works"), f"{mark.args[0]}, with {arena.mode}: it is stopped"

    yield judge
    assert told, "nobody said whether the attack worked"


@pytest.fixture(autouse=True)
def no_tab_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """The next attack begins with what the browsers remember, and nothing else."""
    yield
    for name in ("attacker", "victim"):
        if name in request.fixturenames:
            learner: Learner = request.getfixturevalue(name)
            for page in learner.context.pages:
                page.close()

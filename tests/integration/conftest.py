"""Light servers as an image, and a proxy tier, for tests against real parts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.light import IMAGE, build_light_image
from tests.support.proxy_rig import Rig


@dataclass(frozen=True)
class DockerImages:
    """Images built for tests, by tag."""

    echo: str


@pytest.fixture(scope="session")
def docker_images() -> DockerImages:
    """Build what tests/images describes; a second build takes no time."""
    build_light_image()
    return DockerImages(echo=IMAGE)


@pytest.fixture
def make_rig(consul_url: str, tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """Makes proxy tiers of which nothing runs yet; ``consul_url`` may be another one's."""
    rigs: list[Rig] = []

    def make_rig(url: str = consul_url, **env: str) -> Rig:
        folder = tmp_path / f"rig-{len(rigs)}"
        folder.mkdir()
        rigs.append(Rig(url, folder, env))
        return rigs[-1]

    yield make_rig
    for rig in rigs:
        rig.close()


@pytest.fixture
def rig(make_rig: Callable[..., Rig]) -> Rig:
    """A proxy tier that runs, for a test that stops and starts its parts."""
    rig = make_rig()
    rig.start_sync()
    rig.start_haproxy()
    rig.wait_ready()
    return rig


@pytest.fixture(scope="module")
def shared_rig(consul_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A proxy tier that runs, for tests that leave its parts alone."""
    rig = Rig(consul_url, tmp_path_factory.mktemp("rig"))
    try:
        rig.start_sync()
        rig.start_haproxy()
        rig.wait_ready()
        yield rig
    finally:
        rig.close()

"""Images are looked at and fetched in advance, and what became of it is told."""

import pytest

from agent.engine.memory import MemoryEngine
from agent.pool.images import ASKED_KEPT_S, RETRY_S, Images
from agent.wakeup import Wakeup
from common.errors import EngineUnavailable
from common.records.hosts import ImageState
from tests.unit.agent.world import Clock


class Looking:
    def __init__(self) -> None:
        self.engine = MemoryEngine(images={"image:1"}, registry={"image:2"})
        self.clock = Clock()
        self.wakeup = Wakeup()
        self.wakeup.begin_pass()
        self.images = Images(self.engine, self.wakeup, self.clock)

    def states(self) -> dict[str, ImageState]:
        while self.images.look():
            pass
        return {image: status.state for image, status in self.images.statuses().items()}


def test_images_of_pools_are_found_or_fetched_and_said() -> None:
    looking = Looking()
    looking.images.use(["image:1", "image:2", "image:3"])
    found = looking.states()
    assert found == {
        "image:1": ImageState.PRESENT, "image:2": ImageState.PRESENT, "image:3": ImageState.FAILED,
    }  # fmt: skip
    assert "image:3" in looking.images.statuses()["image:3"].reason
    assert looking.wakeup._due


def test_a_failed_image_is_tried_again_after_a_while_and_at_once_when_asked_for() -> None:
    looking = Looking()
    looking.images.use(["image:3"])
    assert looking.states() == {"image:3": ImageState.FAILED}
    looking.engine.registry.add("image:3")
    assert looking.states() == {"image:3": ImageState.FAILED}
    looking.images.ask("image:3")
    assert looking.states() == {"image:3": ImageState.PRESENT}

    looking.images.use(["image:4"])
    looking.states()
    looking.engine.registry.add("image:4")
    looking.clock.now += RETRY_S
    assert looking.states()["image:4"] is ImageState.PRESENT


def test_images_nobody_wants_any_more_are_not_told_of() -> None:
    looking = Looking()
    looking.images.use(["image:1"])
    looking.images.ask("image:2")
    assert set(looking.states()) == {"image:1", "image:2"}
    looking.clock.now += ASKED_KEPT_S + 1
    looking.images.use([])
    assert looking.states() == {}


def test_an_engine_that_is_away_proves_nothing_about_an_image() -> None:
    looking = Looking()
    looking.images.use(["image:2"])
    looking.engine.down = True
    with pytest.raises(EngineUnavailable):
        looking.images.look()
    looking.engine.down = False
    assert looking.images.state("image:2") is None

"""A simulated agent: a real one on fakes (tests/unit/agent/world.py), which can end or be frozen between any two calls
to the outside world."""

from collections.abc import Callable
from typing import Any

from agent.claims import claims, recreate, replies
from agent.records import repair
from common.broker.port import Delivery, Handler
from common.errors import StoreUnavailable
from common.records.pools import PoolSpec
from tests.unit.agent.world import World


class Crash(BaseException):
    """The process ends here, and nothing of it is carried out any more."""


class Crossings:
    """Stands between the agent and one part: every call crosses twice, on the way there and on the way back."""

    def __init__(self, part: Any, crossing: Callable[[str], None]) -> None:
        self._part = part
        self._crossing = crossing

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._part, name)
        if not callable(value) or name == "clock_skew_s":  # known, and asked at every look at the time
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            self._crossing(name)
            result = value(*args, **kwargs)
            self._crossing(name)
            return result

        return call


class SimulatedAgent(World):
    """Steps happen on the caller's thread. ``frozen``: stopped (SIGSTOP), it holds what is delivered to it;
    ``dead``: ended, its deliveries are back in their queues; ``cut``: its network is; ``zombie``: it was frozen for so
    long that a successor runs on its host, and ends as soon as it notices."""

    def __init__(self, *specs: PoolSpec, **where: Any) -> None:
        self._interrupt: tuple[int, Callable[[], None]] | None = None
        self._in_hand: list[tuple[Handler, Delivery]] = []
        self.frozen = self.dead = self.cut = self.zombie = self.must_repair = False
        super().__init__(*specs, **where)

    def restart(self, **settings: Any) -> None:
        self._interrupt, self._in_hand = None, []
        self.frozen = self.dead = self.zombie = False
        self.must_repair = True
        super().restart(**settings)

    @property
    def working(self) -> bool:
        return not (self.frozen or self.dead or self.cut)

    # What may befall it

    def interrupt(self, crossings: int, act: Callable[[], None]) -> None:
        """Do something at the crossing after so many more."""
        self._interrupt = (crossings, act)

    def die(self) -> None:
        """SIGKILL."""
        self.dead, self._interrupt, self._in_hand = True, None, []
        self.disconnect()

    def thaw(self) -> None:
        """SIGCONT: what was delivered meanwhile is handled."""
        self.frozen = False
        in_hand, self._in_hand = self._in_hand, []
        for handle, delivery in in_hand:
            self._attempt(lambda handle=handle, delivery=delivery: handle(delivery))

    def step(self, passes: int = 1) -> None:
        """What its threads do in a while, if they can."""
        if self.working:
            self._attempt(lambda: self._round(passes))

    def _round(self, passes: int) -> None:
        if not self.store._down:
            self.may_claim = True
        self.turn(passes)
        full, self.must_repair = self.must_repair, False
        try:
            if not self.repairer.repair(full):
                self.must_repair = full
        except StoreUnavailable:
            self.must_repair = True

    # What it is given

    def port(self, part: Any) -> Any:
        return Crossings(part, self._cross)

    def serve(self, handle: Handler, delivery: Delivery) -> None:
        if self.working:
            self._attempt(lambda: handle(delivery))
        else:
            self._in_hand.append((handle, delivery))

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Crash:
            self.die()
        if self.zombie:
            self.die()

    def _cross(self, _name: str) -> None:
        if self.dead:
            raise Crash
        if self._interrupt is None:
            return
        left, act = self._interrupt
        self._interrupt = (left - 1, act) if left else None
        if not left:
            act()


def hurry(patch: Any) -> None:
    """Nothing in a simulation waits for real time to pass. ``patch``: pytest's ``MonkeyPatch``."""
    for module, name in (
        (claims, "CLAIM_TRY_S"), (claims, "MARK_TRY_S"), (replies, "ANSWER_TRY_S"), (recreate, "CLAIM_TRY_S"),
        (recreate, "ADOPTION_S"), (recreate, "ADOPTION_LOOK_S"),
    ):  # fmt: skip
        patch.setattr(module, name, 0.0)
    patch.setattr(repair, "ABSENT_S", 0.0)

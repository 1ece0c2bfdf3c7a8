"""When a certificate is asked for, and that the one of before stays until there is another."""

import itertools
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.acme import metrics
from proxy.acme.keeper import JITTER, SPREAD, Keeper, Pauses, remove_others
from proxy.acme.lego import NotObtained, Stopped
from proxy.certificates.pem import Certificate, Refused

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
LIFE = timedelta(days=90)
PAUSES = Pauses(first_s=60, later_s=3600, max_s=14400)
NAME = "workshop.example.org"


def certificate(begins: datetime, life: timedelta = LIFE) -> Certificate:
    pem = f"of {begins}".encode()
    return Certificate(frozenset({NAME}), begins, begins + life, "CN=ca", self_signed=False, fingerprint="", pem=pem)


class FakeLego:
    """Obtains a certificate of ``life`` at ``now``, or raises ``error``; counts how often it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = NOW
        self.life = LIFE
        self.error: Exception | None = None
        self.obtained: Certificate | None = None
        self.asked = 0

    def read(self, name: str) -> Certificate:
        assert name == NAME
        if self.obtained is None:
            raise Refused("malformed", "nothing here")
        return self.obtained

    def obtain(self, name: str) -> Certificate:
        self.asked += 1
        if self.error is not None:
            raise self.error
        self.obtained = certificate(self.now, self.life)
        return self.read(name)


class World:
    def __init__(self, folder: Path) -> None:
        self.lego = FakeLego(folder / "data" / "ca")
        self.folder = folder / "certs"
        self.folder.mkdir()
        self.file = self.folder / f"{NAME}.pem"
        self.keeper = Keeper(NAME, self.lego, self.folder, PAUSES)  # type: ignore[arg-type]

    def step(self, after: timedelta | float = 0.0) -> int:
        """One step, later; how often lego was asked so far."""
        self.lego.now += after if isinstance(after, timedelta) else timedelta(seconds=after)
        self.keeper.step(self.lego.now)
        return self.lego.asked

    def fail(self, kind: str = "", not_before: datetime | None = None) -> None:
        self.lego.error = NotObtained("why", kind, not_before)

    @property
    def is_failing(self) -> bool:
        return bool(metrics.FAILING.labels(NAME)._value.get())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_one_that_is_missing_is_obtained_at_once_and_then_left_alone(world: World) -> None:
    assert world.step() == 1
    assert world.file.read_bytes() == f"of {NOW}".encode()
    assert world.file.stat().st_mode & 0o777 == 0o600
    assert world.step(LIFE * 0.6) == 1


def test_it_is_renewed_when_a_third_of_its_life_is_left(world: World) -> None:
    world.step()
    assert world.step(LIFE * (2 / 3 - SPREAD) - timedelta(seconds=1)) == 1
    assert world.step(LIFE * SPREAD + timedelta(seconds=2)) == 2
    assert world.file.read_bytes() == f"of {world.lego.now}".encode()


def test_after_a_restart_what_was_obtained_is_used(world: World) -> None:
    world.lego.obtained = certificate(NOW - LIFE / 2)
    assert world.step() == 0
    assert world.file.exists()


def test_a_file_that_vanished_is_put_back_without_asking_the_server(world: World) -> None:
    world.step()
    world.file.unlink()
    assert world.step(5) == 1
    assert world.file.exists()


def test_at_a_failure_the_old_one_stays_and_it_is_said_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world.step()
    before = world.file.read_bytes()
    caplog.clear()
    world.fail()
    for _ in range(20):
        world.step(LIFE / 3 if not world.is_failing else timedelta(hours=6))
    assert world.file.read_bytes() == before
    assert [record.message for record in caplog.records] == ["certificate not obtained"]
    assert caplog.records[0].levelname == "WARNING"
    caplog.clear()
    world.lego.error = None
    world.step(timedelta(hours=6))
    assert [record.message for record in caplog.records] == ["certificate installed", "certificate obtained again"]
    assert not world.is_failing


def test_another_reason_is_said_too(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for kind in ("dns", "dns", "connection"):
        world.fail(kind)
        world.step(timedelta(days=1))
    assert [record.message for record in caplog.records] == [
        "certificate not obtained",
        "certificate still not obtained",
    ]


def test_pauses_after_failures_grow_and_the_first_few_are_short(world: World) -> None:
    world.fail()
    attempts = []
    for second in range(0, 12 * 3600, 10):
        if world.step(10) > len(attempts):
            attempts.append(second)
    pauses = [after - before for before, after in itertools.pairwise(attempts)]
    for pause, least in zip(pauses, (60, 120, 240, 3600, 7200, 14400), strict=False):
        assert least <= pause <= least * (1 + JITTER) + 10
    assert len(pauses) == 6


@given(failures=st.integers(1, 10**6), limited=st.booleans())
def test_after_the_first_few_failures_nobody_is_asked_more_than_once_an_hour(failures: int, limited: bool) -> None:
    pause_s = PAUSES.after(failures, limited=limited)
    assert pause_s <= PAUSES.max_s
    assert pause_s >= (3600 if limited or failures > 3 else 60)


def test_a_server_that_is_asked_too_often_is_not_asked_soon(world: World) -> None:
    world.fail("rateLimited")
    world.step()
    assert world.step(3590) == 1
    assert world.step(3600 * JITTER + 20) == 2


def test_a_server_that_says_when_to_ask_again_is_asked_then(world: World) -> None:
    world.fail("rateLimited", NOW + timedelta(hours=5))
    world.step()
    assert world.step(timedelta(hours=5) - timedelta(seconds=10)) == 1
    assert world.step(20) == 2


def test_one_that_wants_to_be_asked_next_year_is_asked_tomorrow(world: World) -> None:
    world.fail("rateLimited", NOW + timedelta(days=365))
    world.step()
    assert world.step(timedelta(days=1, seconds=10)) == 2


def test_a_new_one_that_is_over_already_is_a_failure(world: World) -> None:
    """This machine's clock is wrong; every attempt would bring another one like it."""
    world.lego.life = timedelta(0)
    world.step()
    assert world.step(5) == 1
    assert world.is_failing


def test_a_stop_is_no_failure(world: World) -> None:
    world.lego.error = Stopped()
    world.step()
    assert not world.is_failing


def test_a_folder_that_cannot_be_written_is_said_and_the_certificate_kept(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world.folder.rmdir()
    world.step()
    world.step(5)
    assert world.is_failing
    world.folder.mkdir()
    assert world.step(5) == 1
    assert not world.is_failing
    assert [record.message for record in caplog.records] == [
        "certificate not installed",
        "certificate installed again",
        "certificate installed",
    ]


def test_what_is_left_of_a_crash_while_writing_does_not_stop_the_next(world: World) -> None:
    (world.folder / f".{NAME}.pem.new").write_text("half")
    world.step()
    assert [path.name for path in world.folder.iterdir()] == [f"{NAME}.pem"]


def test_certificates_of_names_that_are_no_more_are_taken_away_and_nobody_else_s(world: World) -> None:
    known = world.lego.folder / "certificates"
    known.mkdir(parents=True)
    for stem in ("old.example.org", "_.users.example.org"):
        (known / f"{stem}.key").touch()
    for file in ("old.example.org.pem", "_.users.example.org.pem", "bought.example.org.pem"):
        (world.folder / file).touch()
    remove_others(world.lego, world.folder, ("*.users.example.org",))  # type: ignore[arg-type]
    assert sorted(path.name for path in world.folder.iterdir()) == ["_.users.example.org.pem", "bought.example.org.pem"]

"""From the folder to HAProxy: what is renewed is taken up, what is wrong is not, and the one before goes on."""

import logging
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from proxy.certificates.folder import FILE_MAX_BYTES
from proxy.certificates.keeper import Keeper, keeper_of
from proxy.certificates.made import is_made
from proxy.certificates.pem import Certificate, read
from proxy.metrics import CERTIFICATE_EXPIRES, CERTIFICATE_PROBLEMS
from proxy.runtime_api.memory import MemoryHaproxy
from proxy.runtime_api.port import CertificateRefused
from tests.support.authority import Authority, key_pem, new_key

FRONT = {"front.pem": "w.example"}
BOTH = FRONT | {"users.pem": "*.u.example"}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


class World:
    """A folder, a run directory, a HAProxy that starts with what is in it, and a clock."""

    def __init__(self, path: Path, authority: Authority) -> None:
        self.folder, self.run_dir = path / "folder", path / "run"
        self.folder.mkdir()
        self.run_dir.mkdir()
        self.authority = authority
        self.haproxy = MemoryHaproxy()
        self.haproxy.stop()
        self.days = 0
        self.keeper: Keeper | None = None

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(days=self.days)

    def start_sync(self, names: dict[str, str] = FRONT, *, is_self_signed: bool = False) -> None:
        folder = None if is_self_signed else self.folder
        self.keeper = keeper_of(names, folder, self.run_dir, self.haproxy, self.now)
        self.keeper.tick()

    def start_haproxy(self) -> None:
        names = (self.run_dir / "certs" / "list").read_text().split()
        self.haproxy.certificates = {name: (self.run_dir / "certs" / name).read_bytes() for name in names}
        self.haproxy.start({})

    def put(self, name: str, *names: str, **options: float) -> Certificate:
        return read(self.authority.file(self.folder / name, *names, **options).read_bytes())

    def look(self) -> None:
        assert self.keeper is not None
        self.keeper.tick()

    def used(self, slot: str = "front.pem") -> Certificate:
        """What HAProxy has, which is what it would start with."""
        pem = self.haproxy.certificates[slot]
        assert (self.run_dir / "certs" / slot).read_bytes() == pem
        return read(pem)

    def status(self) -> str:
        return (self.run_dir / "certificates.txt").read_text()


@pytest.fixture
def world(tmp_path: Path, authority: Authority) -> World:
    return World(tmp_path, authority)


def test_haproxy_starts_with_what_is_in_the_folder(world: World) -> None:
    there = world.put("a.pem", "w.example")
    world.start_sync()
    world.start_haproxy()
    assert world.used() == there
    world.look()
    assert world.used() == there


def test_without_any_it_starts_with_a_self_signed_one_for_all_names_and_says_so(world: World) -> None:
    world.start_sync(BOTH)
    world.start_haproxy()
    assert is_made(world.used())
    assert all(map(world.used("users.pem").covers, BOTH.values()))
    assert "! w.example: missing" in world.status()
    assert CERTIFICATE_PROBLEMS.labels("missing")._value.get() == 2


def test_the_first_real_one_and_a_renewed_one_are_taken_up_while_haproxy_runs(world: World) -> None:
    world.start_sync()
    world.start_haproxy()
    for begins_s in (-3600, -1800):
        new = world.put("a.pem", "w.example", begins_s=begins_s)
        world.look()
        assert world.used() == new
        assert "!" not in world.status()
        assert CERTIFICATE_EXPIRES.labels("w.example")._value.get() == new.expires.timestamp()
    assert CERTIFICATE_PROBLEMS.labels("missing")._value.get() == 0


def test_a_renewed_one_under_another_name_is_taken_up_as_well(world: World) -> None:
    world.put("a.pem", "w.example", begins_s=-7200)
    world.start_sync()
    world.start_haproxy()
    new = world.put("b.pem", "w.example")
    world.look()
    assert world.used() == new


def test_an_older_one_that_replaces_a_withdrawn_one_is_taken_up(world: World) -> None:
    """Whoever takes a file away means it: what is kept for bad times must not win over what is there."""
    world.put("a.pem", "w.example")
    world.start_sync()
    world.start_haproxy()
    (world.folder / "a.pem").unlink()
    older = world.put("b.pem", "w.example", begins_s=-86400)
    world.look()
    assert world.used() == older


def bad_files(authority: Authority) -> dict[str, Callable[[], bytes]]:
    leaf, _ = authority.certificate("w.example")
    return {
        "malformed": lambda: b"-----BEGIN CERTIFICATE-----\n",
        "key": lambda: leaf + authority.chain + key_pem(new_key()),
        "expired": lambda: b"".join(authority.certificate("w.example", begins_s=-90000, lasts_s=3600)),
        "future": lambda: b"".join(authority.certificate("w.example", begins_s=3600)),
        "foreign": lambda: b"".join(authority.certificate("elsewhere.example")),
    }


@pytest.mark.parametrize("reason", ["malformed", "key", "expired", "future", "foreign"])
def test_a_bad_file_in_the_place_of_a_good_one_changes_nothing_but_is_reported(
    world: World, authority: Authority, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    good = world.put("a.pem", "w.example")
    world.start_sync()
    world.start_haproxy()
    (world.folder / "a.pem").write_bytes(bad_files(authority)[reason]())
    with caplog.at_level(logging.WARNING):
        world.look()
        world.look()
    assert world.used() == good
    assert f"! a.pem: {reason}: " in world.status()
    assert CERTIFICATE_PROBLEMS.labels(reason)._value.get() == 1
    assert [record.getMessage() for record in caplog.records] == ["certificate problem"], "once, not at every look"
    world.put("a.pem", "w.example")
    world.look()
    assert "!" not in world.status()


def test_also_after_a_restart_of_the_sync_the_one_before_goes_on(world: World) -> None:
    good = world.put("a.pem", "w.example")
    world.start_sync()
    world.start_haproxy()
    (world.folder / "a.pem").write_bytes(b"rubbish")
    world.start_sync()
    assert world.used() == good


def test_a_certificate_that_runs_out_stays_for_there_is_nothing_better(world: World) -> None:
    good = world.put("a.pem", "w.example")
    world.start_sync()
    world.start_haproxy()
    world.days = 91
    world.look()
    assert world.used() == good
    assert "! w.example: missing: " in world.status()
    assert "(over)" in world.status()


def test_a_missing_wildcard_gets_a_self_signed_one_and_the_front_its_own(world: World) -> None:
    front = world.put("a.pem", "w.example", "u.example")
    world.start_sync(BOTH)
    world.start_haproxy()
    assert world.used() == front
    assert is_made(world.used("users.pem"))
    assert "! *.u.example: missing" in world.status()
    assert "w.example: missing" not in world.status()


def test_self_signed_means_that_nothing_else_is_used_and_nothing_is_wrong(world: World) -> None:
    world.put("a.pem", "w.example")
    world.start_sync(is_self_signed=True)
    world.start_haproxy()
    made = world.used()
    assert is_made(made)
    assert "!" not in world.status()
    world.look()
    world.start_sync(is_self_signed=True)
    assert world.used() == made, "browsers that were told to trust it still do"


def test_a_self_signed_one_is_renewed_in_time(world: World) -> None:
    world.start_sync(is_self_signed=True)
    world.start_haproxy()
    first = world.used()
    world.days = 340
    world.look()
    assert world.used() != first
    assert world.used().is_valid(world.now() + timedelta(days=300))


def test_one_for_other_names_than_now_is_made_anew(world: World) -> None:
    world.start_sync(is_self_signed=True)
    world.start_sync({"front.pem": "other.example"}, is_self_signed=True)
    world.start_haproxy()
    assert world.used().covers("other.example")


def test_a_changed_chain_alone_reaches_haproxy(world: World, authority: Authority) -> None:
    leaf, key = authority.certificate("w.example")
    (world.folder / "a.pem").write_bytes(leaf + key)
    world.start_sync()
    world.start_haproxy()
    assert "! a.pem: chain" in world.status()
    (world.folder / "a.pem").write_bytes(leaf + authority.chain + key)
    world.look()
    assert authority.chain.strip() in world.used().pem
    assert "!" not in world.status()


def test_while_haproxy_is_away_it_is_written_down_for_its_start(world: World) -> None:
    world.put("a.pem", "w.example", begins_s=-7200)
    world.start_sync()
    world.start_haproxy()
    world.haproxy.stop()
    new = world.put("a.pem", "w.example")
    world.look()
    assert read((world.run_dir / "certs" / "front.pem").read_bytes()) == new
    world.haproxy.start({})  # with the old one: it had read its files just before
    world.look()
    assert world.used() == new


def test_what_haproxy_refuses_is_not_written_for_its_next_start(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    good = world.put("a.pem", "w.example", begins_s=-7200)
    world.start_sync()
    world.start_haproxy()

    def refuse(_name: str, _pem: bytes) -> None:
        raise CertificateRefused("HAProxy does not take it: ee key too small")

    monkeypatch.setattr(world.haproxy, "put", refuse)
    world.put("a.pem", "w.example")
    world.look()
    world.look()
    assert world.used() == good
    assert "! a.pem: refused: HAProxy does not take it: ee key too small" in world.status()


def test_keys_are_for_their_user_alone_and_no_line_of_the_log_has_one(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        world.start_sync(BOTH)
        world.start_haproxy()
        world.put("a.pem", "w.example")
        world.look()
    for file in (world.run_dir / "certs").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert stat.S_IMODE((world.run_dir / "certs").stat().st_mode) == 0o700
    said = caplog.text + str([vars(record) for record in caplog.records]) + world.status()
    assert "PRIVATE" not in said
    secret = world.used().pem.split(b"PRIVATE KEY-----\n")[1][:30].decode()
    assert secret not in said


def test_a_file_that_may_not_be_read_is_reported(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root, as whom tests run in containers, may read everything."""
    world.put("a.pem", "w.example")
    opened = Path.open

    def refuse(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path.name == "a.pem":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    world.start_sync()
    assert "! a.pem: unreadable" in world.status()


def test_odd_things_in_the_folder_are_reported_or_left_alone(world: World) -> None:
    good = world.put("a.pem", "w.example")
    (world.folder / "dir.pem").mkdir()
    (world.folder / "gone.pem").symlink_to(world.folder / "nowhere")
    (world.folder / "large.pem").write_bytes(b"x" * (FILE_MAX_BYTES + 1))
    (world.folder / ".hidden.pem").write_text("x")
    (world.folder / "README").write_text("x")
    world.start_sync()
    world.start_haproxy()
    assert world.used() == good
    problems = [line.split(": ")[:2] for line in world.status().splitlines() if line.startswith("!")]
    assert problems == [["! dir.pem", "unreadable"], ["! gone.pem", "unreadable"], ["! large.pem", "malformed"]]


def test_a_folder_that_is_not_there_is_reported(world: World) -> None:
    world.folder.rmdir()
    world.start_sync()
    assert f"! {world.folder}: unreadable: the folder cannot be read: No such file or directory" in world.status()


def test_a_key_beside_its_certificate_is_found(world: World, authority: Authority) -> None:
    leaf, key = authority.certificate("w.example")
    (world.folder / "a.pem").write_bytes(leaf + authority.chain)
    (world.folder / "a.key").write_bytes(key)
    world.start_sync()
    assert "!" not in world.status()


def test_a_disk_that_is_full_ends_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world.start_sync()

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "open", full)
    world.put("a.pem", "w.example")
    world.look()
    world.look()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == [
        "certificates not written"
    ]

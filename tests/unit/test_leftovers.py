"""What counts as left over by the tests."""

import pytest
from testcontainers.core.labels import SESSION_ID

from tests.support import leftovers
from tests.support.leftovers import Thing, left, ours

THEIRS = Thing("container", "1", "db", "{}")
BRIDGE = Thing("network", "b", "bridge", "{}")


@pytest.fixture(autouse=True)
def _ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "_ours", set())
    ours("tmpnb-ha")
    ours("e2e")


def test_only_what_is_new_and_ours_is_left_over() -> None:
    found = {
        Thing("container", "2", "eager_fermi", f"{{'org.testcontainers.session-id': '{SESSION_ID}'}}"),
        Thing("container", "3", "tmpnb-ha-consul-1", "{}"),
        Thing("network", "4", "tmpnb-ha", "{}"),
        Thing("volume", "v", "v", "{'tmpnb.cluster': 'e2e'}"),
        Thing("anonymous volume", "5" * 64, "5" * 64, "{}"),
    }
    before = frozenset({BRIDGE, THEIRS})
    others = {
        Thing("container", "6", "web", "{}"),
        Thing("container", "8", "tmpnb-consul-1", "{}"),
        Thing("volume", "w", "their-data", "{}"),
        Thing("anonymous volume", "9" * 64, "9" * 64, "{}", is_used=True),
    }
    assert left(before, before | others | found) == found
    assert left(before, before - {THEIRS} | others) == set()


def test_what_was_there_before_is_nobody_s_fault() -> None:
    old = Thing("network", "4", "tmpnb-ha", "{}")
    assert left(frozenset({old}), frozenset({old})) == set()
    again = Thing("network", "7", "tmpnb-ha", "{}")
    assert left(frozenset({old}), frozenset({again})) == {again}, "another one of the same name"


def test_without_an_engine_there_is_nothing_to_say() -> None:
    assert left(None, frozenset({BRIDGE})) == left(frozenset(), None) == set()

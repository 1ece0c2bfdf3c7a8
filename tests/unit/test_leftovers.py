"""What counts as left over by the tests."""

from tests.leftovers import Thing, left

THEIRS = Thing("container", "1", "db", "postgres:16 {}")
BRIDGE = Thing("network", "b", "bridge", "{}")


def test_only_what_is_new_and_ours_is_left_over() -> None:
    ours = [
        Thing("container", "2", "eager_fermi", "tmpnb-local/consul:1.8 {}"),
        Thing("container", "3", "x", "busybox {'org.testcontainers': 'true'}"),
        Thing("network", "4", "tmpnb-ha", "{}"),
        Thing("volume", "v", "v", "{'tmpnb.cluster': 'e2e'}"),
        Thing("anonymous volume", "5" * 64, "5" * 64, "{}"),
    ]
    before = frozenset({BRIDGE, THEIRS})
    others = {Thing("container", "6", "web", "nginx {}"), Thing("volume", "w", "their-data", "{}")}
    assert left(before, before | others | set(ours)) == set(ours)
    assert left(before, before - {THEIRS} | others) == set()


def test_what_was_there_before_is_nobody_s_fault() -> None:
    old = Thing("network", "4", "tmpnb-ha", "{}")
    assert left(frozenset({old}), frozenset({old})) == set()
    again = Thing("network", "7", "tmpnb-ha", "{}")
    assert left(frozenset({old}), frozenset({again})) == {again}, "another one of the same name"


def test_without_an_engine_there_is_nothing_to_say() -> None:
    assert left(None, frozenset({BRIDGE})) == left(frozenset(), None) == set()

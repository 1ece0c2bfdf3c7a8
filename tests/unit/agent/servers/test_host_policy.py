"""What pools may have of a host: nothing that the agent does not allow, and nothing that leads elsewhere."""

from pathlib import Path

import pytest

from agent.servers.host_policy import HostPolicy
from common.errors import StartFailed
from tests.unit.agent.world import pool


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory that is allowed, with ``open/deep`` in it, beside one that is not."""
    (tmp_path / "allowed" / "open" / "deep").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    return tmp_path


def check(place: Path, wanted: str) -> None:
    HostPolicy(directories=(str(place / "allowed"),)).check(pool(host_directories=f"{place}/{wanted}:/data:ro"))


@pytest.mark.parametrize("wanted", ["allowed", "allowed/open", "allowed/open/deep"])
def test_an_allowed_directory_and_those_below_it_may_be_mounted(place: Path, wanted: str) -> None:
    check(place, wanted)


@pytest.mark.parametrize("wanted", ["secret", "allowed2", ""])
def test_what_only_begins_alike_or_lies_above_is_refused(place: Path, wanted: str) -> None:
    (place / "allowed2").mkdir()
    with pytest.raises(StartFailed, match=r"is not allowed on this host; allowed: .*/allowed "):
        check(place, wanted)


@pytest.mark.parametrize("wanted", ["link", "link/x", "open/link"])
def test_a_symbolic_link_is_refused_wherever_it_leads(place: Path, wanted: str) -> None:
    (place / "secret" / "x").mkdir()
    (place / "allowed" / "link").symlink_to(place / "secret")
    (place / "allowed" / "open" / "link").symlink_to(place / "allowed" / "open" / "deep")
    with pytest.raises(StartFailed, match="/link is a symbolic link"):
        check(place, f"allowed/{wanted}")


def test_a_link_that_an_operator_names_is_the_operator_s_word(place: Path) -> None:
    (place / "link").symlink_to(place / "allowed")
    HostPolicy(directories=(str(place / "link"),)).check(pool(host_directories=f"{place}/link/open"))


def test_the_nearest_directory_that_is_allowed_counts(place: Path) -> None:
    (place / "allowed" / "link").symlink_to(place / "secret")
    both = (str(place / "allowed"), str(place / "allowed" / "link"))
    HostPolicy(directories=both).check(pool(host_directories=f"{place}/allowed/link"))


def test_what_is_no_directory_is_refused(place: Path) -> None:
    (place / "allowed" / "docker.sock").write_text("")
    with pytest.raises(StartFailed, match=r"docker.sock is not a directory"):
        check(place, "allowed/docker.sock")


@pytest.mark.parametrize("wanted", ["allowed/none", "allowed/none/deep"])
def test_a_directory_that_the_agent_does_not_see_is_refused_with_a_hint(place: Path, wanted: str) -> None:
    with pytest.raises(StartFailed, match=r"No such file or directory; an agent in a container must see it"):
        check(place, wanted)


def test_an_allowed_directory_that_the_agent_does_not_see_is_refused_with_a_hint(place: Path) -> None:
    (place / "allowed").rename(place / "gone")
    with pytest.raises(StartFailed, match=r"sees no directory .*/allowed; an agent in a container"):
        check(place, "allowed/open")


def test_a_directory_inside_one_that_a_pool_s_learners_can_write_is_refused(place: Path) -> None:
    """They could put a link in its place just when the engine mounts it."""
    inside = pool("inside", host_directories=f"{place}/allowed/open/deep")
    pools = {"inside": inside, "outside": pool("outside", host_directories=f"{place}/allowed/open:ro")}
    policy = HostPolicy(directories=(str(place / "allowed"),), pools=lambda: pools)
    policy.check(inside)
    for above in ("allowed", "allowed/open"):
        pools["outside"] = pool("outside", host_directories=f"{place}/{above}:/work")
        with pytest.raises(StartFailed, match=r"/deep is not allowed: .* learners of pool outside can write"):
            policy.check(inside)
        policy.check(pools["outside"])


def test_it_is_not_refused_where_the_operator_has_named_it(place: Path) -> None:
    inside = pool("inside", host_directories=f"{place}/allowed/open")
    outside = pool("outside", host_directories=f"{place}/allowed")
    named = (str(place / "allowed"), str(place / "allowed" / "open"))
    HostPolicy(directories=named, pools=lambda: {"inside": inside, "outside": outside}).check(inside)


def test_two_pools_may_share_a_directory(place: Path) -> None:
    specs = {name: pool(name, host_directories=f"{place}/allowed/open") for name in "ab"}
    HostPolicy(directories=(str(place / "allowed"),), pools=lambda: specs).check(specs["a"])


def test_one_directory_that_is_not_allowed_is_enough(place: Path) -> None:
    spec = pool(host_directories=[f"{place}/allowed", f"{place}/secret"])
    with pytest.raises(StartFailed, match="/secret is not allowed"):
        HostPolicy(directories=(str(place / "allowed"),)).check(spec)


def test_nothing_is_allowed_by_default() -> None:
    HostPolicy().check(pool())
    with pytest.raises(StartFailed, match="allowed: none"):
        HostPolicy().check(pool(host_directories="/"))
    with pytest.raises(StartFailed, match="host_network"):
        HostPolicy(directories=("/",)).check(pool(host_network=True))

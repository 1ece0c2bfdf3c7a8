"""Operators' pool files: clear errors that name the field, the value and what is accepted."""

from pathlib import Path

import pytest

from common.errors import InvalidPool
from common.records.hosts import HostRecord
from common.records.pools import PoolSpec
from frontend.operations.pool_files import check_sizes, read_file, read_tables
from tests.unit.frontend.fakes import START

ROOT = Path(__file__).parents[4]


def written(tmp_path: Path, text: str) -> str:
    file = tmp_path / "pools.toml"
    file.write_text(text)
    return str(file)


def test_the_file_that_we_ship_is_valid() -> None:
    shipped = ROOT / "deploy" / "config" / "pools.toml"
    (spec,) = read_file(str(shipped), {"TMPNB_NOTEBOOK_IMAGE": "jupyter/minimal-notebook"})
    assert (spec.name, spec.image) == ("default", "jupyter/minimal-notebook")


def test_tables_by_name_and_lists_of_tables_mean_the_same(tmp_path: Path) -> None:
    named = read_file(written(tmp_path, '[pools.a]\nimage = "x"\n[pools.b]\nimage = "y"\npool_size = 3\n'), {})
    listed = read_file(
        written(tmp_path, '[[pool]]\nname = "a"\nimage = "x"\n[[pool]]\nname = "b"\nimage = "y"\npool_size = 3\n'), {}
    )
    assert named == listed
    assert [spec.name for spec in named] == ["a", "b"]


def test_variables_are_expanded_in_the_image_only() -> None:
    (spec,) = read_tables(
        {"pools": {"a": {"image": "${HUB}/x:${TAG}", "command": "echo ${HOME} {port}"}}},
        "f",
        {"HUB": "hub.example:5000", "TAG": "1"},
    )
    assert spec.image == "hub.example:5000/x:1"
    assert spec.command == "echo ${HOME} {port}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no pool in it"),
        ("[pools]\n", "no pool in it"),
        ("nonsense", "not valid TOML"),
        ("[pool.a]\nimage = 'x'\n", "a list of tables"),
        ("pools = 3\n", "tables by name"),
        ("pools.a = 3\n", "tables by name"),
        ("[other]\nx = 1\n", "unknown field 'other'"),
        ("[pools.a]\nimage = 'x'\nmem = '1g'\n", "pools.a: unknown field 'mem'; accepted: background_paths"),
        ("[pools.a]\n", "pools.a: image"),
        ("[pools.a]\nimage = 7\n", "image"),
        ("[pools.a]\nimage = '${NOPE}'\n", "variable ${NOPE} is not set"),
        ("[pools.a]\nimage = 'a b'\n", "(given: 'a b')"),
        ("[pools.a]\nimage = 'x'\npool_size = 'many'\n", "pool_size"),
        ("[pools.a]\nimage = 'x'\npool_size = -1\n", "(given: '-1')"),
        ("[pools.a]\nimage = 'x'\npool_size = 1\nready = 2\n", "ready (2) may not exceed pool_size (1)"),
        ("[pools.a]\nimage = 'x'\nmem_limit = 'lots'\n", "mem_limit"),
        ("[pools.a]\nimage = 'x'\nname = 'b'\n", "name is 'b'"),
        ("[pools.'Bad Name']\nimage = 'x'\n", "name"),
        ("[[pool]]\nname='a'\nimage='x'\n[[pool]]\nname='a'\nimage='y'\n", "'a' is there twice"),
        ("[[pool]]\nimage='x'\n", "pool 1: name"),
    ],
)
def test_a_wrong_file_is_refused_with_the_reason(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InvalidPool) as refused:
        read_file(written(tmp_path, text), {})
    assert says in str(refused.value)
    assert "pools.toml" in str(refused.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidPool, match="cannot be read"):
        read_file(str(tmp_path / "none.toml"), {})
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidPool, match="not valid TOML"):
        read_file(str(tmp_path / "bad.toml"), {})


def hosts(**memory_bytes: int) -> dict[str, HostRecord]:
    return {
        name: HostRecord(
            host=name, address="a", agent_version="1", started_at=START, updated_at=START, memory_bytes=size
        )
        for name, size in memory_bytes.items()
    }


def test_a_server_larger_than_every_host_is_refused() -> None:
    spec = PoolSpec(name="a", image="x", mem_limit="2g")
    with pytest.raises(InvalidPool, match=r"a: mem_limit: at most 1073741824 bytes .*\(given: '2g'\)"):
        check_sizes([spec], hosts(small=2**29, large=2**30))
    assert check_sizes([spec], hosts(large=2**34)) == []
    assert check_sizes([spec], hosts(unknown=0)) == []
    assert check_sizes([spec], {}) == []


def test_more_memory_than_a_host_can_promise_is_a_warning() -> None:
    spec = PoolSpec(name="a", image="x", mem_limit="1g", pool_size=100)
    (warning,) = check_sizes([spec], hosts(small=2**33, large=2**37))
    assert "host small" in warning
    assert "12.5 times" in warning

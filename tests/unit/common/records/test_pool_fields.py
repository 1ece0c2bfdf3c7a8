"""tmpnb's options in a pool's table: how they may be written, and what is said of wrong ones."""

from typing import Any

import pytest

from common.errors import InvalidPool
from common.records.pools import PoolSpec


def spec(**fields: Any) -> PoolSpec:
    return PoolSpec.parse({"name": "a", "image": "x"} | fields, "pools.toml: pools.a")


@pytest.mark.parametrize("fields", [{"mem-limit": "1g"}, {"mem_limit": "1g"}])
def test_fields_may_have_dashes_or_underscores(fields: dict[str, Any]) -> None:
    assert spec(**fields).mem_limit == "1g"


def test_names_inside_a_field_keep_their_dashes() -> None:
    assert spec(environment={"a-b": "1"}, host_labels={"room-b": "x"}).environment == {"a-b": "1"}


def test_a_field_that_is_there_in_both_spellings_is_an_error() -> None:
    with pytest.raises(InvalidPool, match=r"pools.a: mem_limit is there twice \(also as 'mem-limit'\)"):
        spec(**{"mem_limit": "1g", "mem-limit": "2g"})


@pytest.mark.parametrize("name", ["pool_name", "pool-name"])
def test_the_pool_s_name_may_be_called_as_in_tmpnb(name: str) -> None:
    assert PoolSpec.parse({name: "course", "image": "x"}, "f").name == "course"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("", ()),
        ("/data", ("/data:/mnt/vol0:rw",)),
        ("/data/:/d/", ("/data:/d:rw",)),
        ("/data:ro, /home", ("/data:/mnt/vol0:ro", "/home:/mnt/vol1:rw")),
        ("/data:/d:ro,/home:/h:rw", ("/data:/d:ro", "/home:/h:rw")),
        (["/a b", "/data:/d"], ("/a b:/mnt/vol0:rw", "/data:/d:rw")),
        ("/", ("/:/mnt/vol0:rw",)),
    ],
)
def test_directories_of_the_host(given: object, meant: tuple[str, ...]) -> None:
    found = spec(host_directories=given)
    assert found.host_directories == meant
    assert tuple(map(str, found.directories)) == meant
    assert PoolSpec.decode("k", found.encode()) == found


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("", ()),
        ("db:10.0.0.7", ("db:10.0.0.7",)),
        ("db:10.0.0.7, six:fd00::7,six2:[FD00:0::8]", ("db:10.0.0.7", "six:fd00::7", "six2:fd00::8")),
        (["db.example.org:10.0.0.7", "one:::1"], ("db.example.org:10.0.0.7", "one:::1")),
    ],
)
def test_extra_hosts(given: object, meant: tuple[str, ...]) -> None:
    found = spec(extra_hosts=given)
    assert found.extra_hosts == meant
    assert PoolSpec.decode("k", found.encode()) == found


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"host_directories": 3}, "a list of texts is accepted (given: '3')"),
        ({"host_directories": [3]}, "a list of texts"),
        ({"host_directories": "data"}, "an absolute path without '..'"),
        ({"host_directories": "/data/../etc"}, "not '/data/../etc'"),
        ({"host_directories": "/data//x"}, "absolute path"),
        ({"host_directories": "/data/./x"}, "absolute path"),
        ({"host_directories": ["/a,b"]}, "absolute path"),
        ({"host_directories": "/data\n"}, None),
        ({"host_directories": ["/da\nta"]}, "absolute path"),
        ({"host_directories": "/" + "x" * 5000}, "of at most 4096 bytes"),
        ({"host_directories": "/data:d"}, "with mode rw or ro, not '/data:d'"),
        ({"host_directories": "/data:/d:rx"}, "with mode rw or ro"),
        ({"host_directories": "/data:/d:ro:z"}, "/host[:/mount[:ro]]"),
        ({"host_directories": "/data:/../etc"}, "absolute path"),
        ({"host_directories": "/data:/"}, "a mount point below /"),
        ({"host_directories": "/a:/d,/b:/d"}, "'/d' twice"),
        ({"host_directories": ",".join(["/a"] * 33)}, "at most 32 entries"),
        ({"extra_hosts": {"db": "10.0.0.7"}}, "a list of texts"),
        ({"extra_hosts": "db"}, "name:IP or name:[IPv6] is accepted, not 'db'"),
        ({"extra_hosts": "db:10.0.0"}, "not 'db:10.0.0'"),
        ({"extra_hosts": "db:[10.0.0.7"}, "name:IP"),
        ({"extra_hosts": "db:fe80::1%eth0"}, "name:IP"),
        ({"extra_hosts": "d b:10.0.0.7"}, "name:IP"),
        ({"extra_hosts": "d" * 254 + ":10.0.0.7"}, "name:IP"),
        ({"extra_hosts": [f"h{i}:10.0.0.7" for i in range(65)]}, "at most 64 entries"),
        ({"docker_network": "host"}, "for the host's own there is host_network (given: 'host')"),
        ({"docker_network": "none"}, "a network of the host's Docker Engine"),
        ({"docker_network": "container:x"}, "of at most 128 characters"),
        ({"docker_network": "x" * 129}, "of at most 128 characters"),
        ({"docker_network": ""}, "of at most 128 characters"),
        ({"docker_network": ["x"]}, "string"),
        ({"host_network": "maybe"}, "boolean"),
        ({"host_network": True, "docker_network": "net"}, "not both ('net')"),
        ({"cpu_shares": 1}, "greater than or equal to 2"),
        ({"cpu_quota": "much"}, "integer"),
        ({"container_port": 65536}, "less than or equal to 65535"),
        ({"mem_limit": "0"}, "512m"),
        ({"user_length": 8}, "greater than or equal to 12"),
        ({"pool_size": -1}, "greater than or equal to 0"),
        ({"cull_timeout": "1h"}, "number"),
        ({"redirect_uri": "lab"}, "a path that starts with one '/'"),
        ({"redirect_uri": "/" + "x" * 4096}, "at most 4096 characters"),
        ({"command": ""}, "at least 1 character"),
        ({"command": "x" * 65537}, "at most 65536 characters"),
        ({"container_user": ""}, "pattern"),
        ({"container_user": "a b"}, "pattern"),
        ({"container_user": 1000}, "string"),
        ({"image": "x" * 256}, "pattern"),
        ({"use_tokens": "perhaps"}, "boolean"),
    ],
)
def test_a_wrong_value_is_named_with_its_field_and_what_is_accepted(fields: dict[str, Any], says: str | None) -> None:
    if says is None:  # space around an item of a list is no part of it
        assert spec(**fields).host_directories == ("/data:/mnt/vol0:rw",)
        return
    with pytest.raises(InvalidPool, match=r"^pools.toml: pools.a: ") as caught:
        spec(**fields)
    assert says in str(caught.value)
    assert next(iter(fields)) in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"host_network": True},
        {"docker_network": "net"},
        {"host_directories": "/data"},
        {"host_directories": "/data:ro"},
        {"extra_hosts": "db:10.0.0.7"},
    ],
)
def test_what_shapes_a_container_makes_a_new_generation(fields: dict[str, Any]) -> None:
    assert spec(**fields).generation != spec().generation


def test_a_pool_that_uses_none_of_the_later_fields_keeps_its_generation_over_an_update() -> None:
    """Or every ready server of every cluster would be replaced by an update of the software."""
    assert PoolSpec(name="a", image="x").generation == "f3da21602270"
    assert PoolSpec(name="a", image="x", mem_limit="1g").generation == "6c3d2c376b00"

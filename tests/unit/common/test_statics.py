"""How static files are named: what operators may write, and what becomes of it."""

import pytest

from common.errors import InvalidPool
from common.records.pools import PoolSpec
from common.statics import Tree, content_type, parse_tree, set_id, stored_name, url_of


def pool(static_files: object) -> PoolSpec:
    return PoolSpec.parse({"name": "a", "image": "x", "static_files": static_files}, "pools.toml")


def test_a_path_alone_is_served_below_static_as_tmpnb_had_it() -> None:
    assert parse_tree("/opt/share/static/") == Tree("/opt/share/static", "/static")


def test_a_comma_list_and_a_list_mean_the_same() -> None:
    trees = tuple(map(parse_tree, pool("/a/b:/static/lab, /c").static_files))
    assert trees == (Tree("/a/b", "/static/lab"), Tree("/c", "/static"))
    assert pool(["/a/b:/static/lab", "/c"]) == pool("/a/b:/static/lab, /c")


@pytest.mark.parametrize(
    "wrong",
    [
        "relative", "/", "", "/a/../etc", "/a/./b", "//a", "/a//b", "/a:static", "/a:", "/a:/", "/a:/x/../y", "/a b",
        "/a:/x?y", "/a:/x%2e", "/a:/x:/y", "/a\n", "/" + "a" * 300, "/a:/..", "/ä",
    ],
)  # fmt: skip
def test_what_is_no_path_is_refused_with_the_field_and_what_is_accepted(wrong: str) -> None:
    with pytest.raises(InvalidPool, match=r"static_files: .*/path/in/image"):
        pool([wrong])


@pytest.mark.parametrize("wrong", [5, {"a": 1}, ["/a", 5], None])
def test_what_is_no_list_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidPool, match="static_files"):
        pool(wrong)


def test_there_is_a_limit_to_their_number() -> None:
    with pytest.raises(InvalidPool, match="at most 16"):
        pool([f"/a/{n}" for n in range(17)])


def test_they_shape_the_generation_and_their_absence_does_not() -> None:
    plain = PoolSpec(name="a", image="x")
    assert pool(["/a"]).generation != plain.generation
    assert pool([]).generation == plain.generation
    assert plain.generation == "f3da21602270", "upgrading must not replace everybody's servers"


def test_a_set_is_named_by_the_image_s_content_and_the_places() -> None:
    assert set_id("sha256:1", ["/a"]) != set_id("sha256:2", ["/a"])
    assert set_id("sha256:1", ["/a"]) != set_id("sha256:1", ["/a", "/b"])


def test_a_url_is_written_as_browsers_write_it() -> None:
    assert url_of("/lab/extensions", "@org/ext/a b#c%.js") == "lab/extensions/@org/ext/a%20b%23c%25.js"
    assert url_of("/x", "") == "x"
    assert url_of("/x", "y" * 500) is None


def test_a_file_is_stored_by_content_and_keeps_the_sign_of_its_type() -> None:
    assert stored_name("static/lab/main.js", "f00") == "f00.js"
    assert stored_name("static/lab/a.js%20x", "f00") == "f00.bin"
    assert stored_name("static/lab/LICENSE", "f00") == "f00.bin"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("f.js", "text/javascript"), ("f.css", "text/css"), ("f.svg", "image/svg+xml"), ("f.html", "text/html"),
        ("f.json", "application/json"), ("f.bin", "application/octet-stream"), ("f.gz", "application/octet-stream"),
        ("f.woff2", "font/woff2"), ("f.wasm", "application/wasm"),
    ],
)  # fmt: skip
def test_types_are_those_of_the_name_whatever_the_machine_knows(name: str, expected: str) -> None:
    assert content_type(name) == expected

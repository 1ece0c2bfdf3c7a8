"""Out of an image's archives into one bundle: which files, under which names, within which limits."""

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterator, Mapping

import pytest

from agent.engine.memory import MemoryEngine
from agent.statics.extract import ExtractLimits, TooMuch, extract, merge
from common.errors import PermanentError
from common.records.statics import StaticFile
from common.statics import Tree


class Archives(MemoryEngine):
    """An engine whose archives are what the test says."""

    def __init__(self, archives: Mapping[str, bytes]) -> None:
        super().__init__()
        self.archives = archives

    def archive(self, container: str, path: str) -> Iterator[bytes] | None:
        data = self.archives.get(path)
        # In odd pieces, as a socket gives them.
        return None if data is None else (data[n : n + 700] for n in range(0, len(data), 700))


def entry(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(data)
    return info, data


def tar(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def file(data: bytes) -> StaticFile:
    return StaticFile(sha256=sha(data), size=len(data))


LAB = Tree("/opt/lab", "/static/lab")


def test_plain_files_are_taken_each_content_once() -> None:
    files = tar(entry("lab/a.js", b"one"), entry("lab/d/b.js", b"two"), entry("lab/c.js", b"one"))
    extracted = extract(Archives({LAB.path: files}), "c", [LAB], ExtractLimits())
    assert extracted.files == {
        "static/lab/a.js": file(b"one"), "static/lab/d/b.js": file(b"two"), "static/lab/c.js": file(b"one"),
    }  # fmt: skip
    bundle = zipfile.ZipFile(io.BytesIO(extracted.bundle))
    assert {name: bundle.read(name) for name in bundle.namelist()} == {sha(b"one"): b"one", sha(b"two"): b"two"}


def test_links_and_devices_are_left_out_and_hard_links_are_their_file() -> None:
    entries = [
        entry("lab", kind=tarfile.DIRTYPE),
        entry("lab/a", b"one"),
        entry("lab/hard", kind=tarfile.LNKTYPE, link="lab/a"),
        entry("lab/hard-outside", kind=tarfile.LNKTYPE, link="etc/passwd"),
        entry("lab/soft", kind=tarfile.SYMTYPE, link="/etc/passwd"),
        entry("lab/near", kind=tarfile.SYMTYPE, link="a"),
        entry("lab/device", kind=tarfile.CHRTYPE),
        entry("lab/pipe", kind=tarfile.FIFOTYPE),
    ]
    extracted = extract(Archives({LAB.path: tar(*entries)}), "c", [LAB], ExtractLimits())
    assert set(extracted.files) == {"static/lab/a", "static/lab/hard"}
    assert extracted.left_out == 5


def test_names_that_climb_or_are_no_text_are_not_served() -> None:
    odd = entry("lab/x\udcff", b"one")
    extracted = extract(
        Archives({LAB.path: tar(entry("lab/../../b", b"1"), entry("lab/d/../c", b"2"), odd)}),
        "c",
        [LAB],
        ExtractLimits(),
    )
    assert extracted.files == {}


def test_a_path_that_is_a_link_brings_nothing_and_one_that_is_a_file_itself() -> None:
    archives = {
        "/link": tar(entry("link", kind=tarfile.SYMTYPE, link="/etc")),
        "/one.css": tar(entry("one.css", b"body {}")),
    }
    extracted = extract(Archives(archives), "c", [Tree("/link", "/l"), Tree("/one.css", "/style.css")], ExtractLimits())
    assert extracted.files == {"style.css": file(b"body {}")}


def test_what_the_image_does_not_have_is_said() -> None:
    extracted = extract(
        Archives({LAB.path: tar(entry("lab/a", b"1"))}), "c", [Tree("/opt/conda", "/static/lab"), LAB], ExtractLimits()
    )
    assert (extracted.missing, set(extracted.files)) == (["/opt/conda"], {"static/lab/a"})


def test_the_longest_prefix_owns_what_is_below_it() -> None:
    shallow, deep = Tree("/s", "/static"), Tree("/l", "/static/lab")
    one, two = file(b"one"), file(b"two")
    shallow_files = {"a": one, "lab/a": one, "lab/b": one, "labels": one, "lab": one}
    for order in ([(shallow, shallow_files), (deep, {"a": two})], [(deep, {"a": two}), (shallow, shallow_files)]):
        assert merge(order) == {"static/a": one, "static/lab/a": two, "static/labels": one}


def test_of_equal_prefixes_the_first_listed_wins_file_by_file() -> None:
    first, second = Tree("/1", "/static"), Tree("/2", "/static")
    one, two = file(b"one"), file(b"two")
    assert merge([(first, {"a": one}), (second, {"a": two, "b": two})]) == {"static/a": one, "static/b": two}


def test_a_file_that_is_too_large_is_left_out_and_the_others_are_taken() -> None:
    engine = Archives({LAB.path: tar(entry("lab/big", b"x" * 2000), entry("lab/a", b"1"))})
    extracted = extract(engine, "c", [LAB], ExtractLimits(max_file_bytes=1000))
    assert (set(extracted.files), extracted.left_out) == ({"static/lab/a"}, 1)


@pytest.mark.parametrize(
    ("limits", "names_it"),
    [(ExtractLimits(max_bytes=2999), "statics_max_bytes"), (ExtractLimits(max_count=2), "statics_max_count")],
)
def test_a_set_beyond_the_limits_is_refused_by_the_setting_s_name(limits: ExtractLimits, names_it: str) -> None:
    engine = Archives({LAB.path: tar(*(entry(f"lab/{n}", bytes([n]) * 1000) for n in range(3)))})
    with pytest.raises(TooMuch, match=names_it):
        extract(engine, "c", [LAB], limits)


def test_an_archive_that_is_none_is_said() -> None:
    with pytest.raises(PermanentError, match="cannot be read"):
        extract(Archives({LAB.path: b"x" * 4096}), "c", [LAB], ExtractLimits())

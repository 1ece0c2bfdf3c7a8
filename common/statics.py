"""Static files that an image brings along (the pool option ``static_files``): how they are named, on both ends.

A *set* is what one image holds at the places that a pool names. Its id depends on the image's content, not on its name,
so that whatever has the same id has the same files, on every host and for ever.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote

TREES_MAX = 16
DEFAULT_PREFIX = "/static"
# Printable ASCII but for what separates entries (","), path and prefix (":"), or would have to be encoded in a URL.
_PATH = re.compile(r"(/[A-Za-z0-9._@+~=-]+)+")
PATH_MAX = 256
# As browsers leave them in a path.
_SAFE = "/@:!$&'()*+,;=~-._"
# Of a file below its prefix. HAProxy's table of files holds it, in commands of 16 KB at most.
URL_MAX = 400
_SUFFIX = re.compile(r"[A-Za-z0-9]{1,10}")
# What pages load. Python's own table differs by its version and by the machine's.
_TYPES = {
    "css": "text/css",
    "eot": "application/vnd.ms-fontobject",
    "gif": "image/gif",
    "htm": "text/html",
    "html": "text/html",
    "ico": "image/vnd.microsoft.icon",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "js": "text/javascript",
    "json": "application/json",
    "map": "application/json",
    "mjs": "text/javascript",
    "otf": "font/otf",
    "pdf": "application/pdf",
    "png": "image/png",
    "svg": "image/svg+xml",
    "ttf": "font/ttf",
    "txt": "text/plain",
    "wasm": "application/wasm",
    "webmanifest": "application/manifest+json",
    "webp": "image/webp",
    "woff": "font/woff",
    "woff2": "font/woff2",
    "xml": "text/xml",
}


@dataclass(frozen=True, slots=True)
class Tree:
    """A directory (or file) in an image, and where it is served below a server's path; both absolute, no slash at
    the end."""

    path: str
    prefix: str


def parse_tree(text: str) -> Tree:
    """``/path/in/image[:/url/prefix]``. Raises ``ValueError`` with what is accepted."""
    path, colon, prefix = text.partition(":")
    tree = Tree(path.rstrip("/"), prefix.rstrip("/") if colon else DEFAULT_PREFIX)
    for part in (tree.path, tree.prefix):
        dots = {".", ".."} & set(part.split("/"))
        if len(part) > PATH_MAX or dots or _PATH.fullmatch(part) is None:
            raise ValueError(
                f"/path/in/image or /path/in/image:/url/prefix is accepted, absolute, without '.' or '..' segments, of "
                f"at most {PATH_MAX} letters, digits and . _ @ + ~ = - each, not {text[:80]!r}"
            )
    return tree


def check_trees(value: Sequence[str]) -> None:
    """Raises ``ValueError`` for a list that no image can be asked for."""
    if len(value) > TREES_MAX:
        raise ValueError(f"at most {TREES_MAX} entries are accepted, not {len(value)}")
    for text in value:
        parse_tree(text)


def set_id(image_id: str, static_files: Iterable[str]) -> str:
    """The id of the set that an image of this content has at these places."""
    return hashlib.sha256("\n".join([image_id, *static_files]).encode()).hexdigest()[:16]


def is_set_id(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{16}", text) is not None


def url_of(prefix: str, below: str) -> str | None:
    """Where a file is served: percent-encoded, without the leading slash. None: nowhere, its name is too long."""
    url = quote(f"{prefix}/{below}" if below else prefix, safe=_SAFE).lstrip("/")
    return url if len(url) <= URL_MAX else None


def stored_name(url: str, sha256: str) -> str:
    """The name under which frontends serve a file: by content, with a suffix that tells its type."""
    suffix = PurePosixPath(url).suffix.removeprefix(".")
    return f"{sha256}.{suffix if _SUFFIX.fullmatch(suffix) else 'bin'}"


def content_type(name: str) -> str:
    """The type of a file, from its name as servers do."""
    return _TYPES.get(name.rpartition(".")[2].lower(), "application/octet-stream")

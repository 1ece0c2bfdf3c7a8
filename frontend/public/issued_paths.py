"""Issued paths: which ones this cluster once gave to somebody, and whose they are. Their owner is told why the server
ended, and may have one made there again.

An id that anybody could name would let strangers squat ids and burn servers. So the owner is who shows it: the
browser's signed cookie names the user, or the request shows the key of the seat that was there, of which the word that
was left of the server's end (``gone/<user>``, for ``remember_s`` seconds) has the digest. Of a seat that was open to
everybody the word alone is enough.
"""

from collections.abc import Iterable

from flask import request, session

from common.ids import is_key_of, is_seat_key
from common.records.servers import Gone
from frontend.public.session_cookie import own_key

# How a request shows the key of a seat, beside "~<key>" in its path.
HEADER = "X-Tmpnb-Seat"
COOKIES = ("__Host-Http-tmpnb-seat", "__Http-tmpnb-seat", "tmpnb-seat")


def shown_keys(key: str = "") -> list[str]:
    """What the request shows that has the form of a seat's key; ``key``: what its path does."""
    cookies = [value for name in COOKIES for value in request.cookies.getlist(name)]
    return [text for text in (key, request.headers.get(HEADER, ""), *cookies) if is_seat_key(text)]


def fitting(seat: str, keys: Iterable[str]) -> str:
    """The key of the ``seat`` whose digest is given; empty: it is not among ``keys``, or the seat needs none."""
    return next((key for key in keys if is_key_of(seat, key)), "")


def proof(user: str, word: Gone | None, keys: Iterable[str]) -> str | None:
    """What shows that the path of ``user`` is the requester's: a key, or nothing where the cookie does, or where nobody
    has to. None: it does not seem to be. ``word``: what was left of its server's end."""
    is_open = word is not None and not word.seat
    if is_open or session.get("user") == user:
        return ""
    return (fitting(word.seat, keys) or None) if word is not None else None


def way_in(user: str, seat: str, keys: Iterable[str] = ()) -> str:
    """The key by which the requester opens the ``seat`` (its digest) of ``user``; empty: none is known, or needed."""
    return fitting(seat, [*keys, own_key(user)])

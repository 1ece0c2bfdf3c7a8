"""Issued paths: which ones this cluster once gave to somebody, so that a server may be made there again.

An id that anybody could name would let strangers squat ids and burn servers. So it is signed (the browser's cookie
names it), or remembered (word was left of a claimed server's end, ``gone/<user>``, for ``remember_s`` seconds).
"""

from flask import session


def was_issued(user: str, *, has_word: bool) -> bool:
    """Whether the path of ``user`` was, as far as anybody knows; ``has_word``: there is a record of its end."""
    return has_word or session.get("user") == user

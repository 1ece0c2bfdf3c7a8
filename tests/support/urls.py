"""Addresses of servers as learners are told them, with the key of the seat as the first segment (common/urls.py)."""

from urllib.parse import urlsplit

from common.urls import SEAT_MARK, base_path, seat_key_of


def user_of(url: str) -> str:
    return urlsplit(url).path.split("/")[2]


def key_of(url: str) -> str:
    """The key of the seat; empty: it is open."""
    return seat_key_of(_target(url))


def plain(url: str) -> str:
    """The same without the key, as the server itself knows it."""
    key = key_of(url)
    return url.replace(f"/{SEAT_MARK}{key}/", "/", 1) if key else url


def base(url: str) -> str:
    """Path and key of the server, for whoever asks it for something else."""
    key = key_of(url)
    return base_path(user_of(url)) + (f"{SEAT_MARK}{key}/" if key else "")


def shown(url: str) -> dict[str, str]:
    """The header that shows the key, for who comes without it in the address."""
    key = key_of(url)
    return {"X-Tmpnb-Seat": key} if key else {}


def _target(url: str) -> str:
    parts = urlsplit(url)
    return parts.path + (f"?{parts.query}" if parts.query else "")

"""Users, route records and store entries for these tests."""

from datetime import UTC, datetime, timedelta

from common.ids import USER_ALPHABET
from common.records.servers import Route
from tests.support.keys import Keys

KEYS = Keys("test")
T0 = datetime(2026, 1, 1, tzinfo=UTC)


def user(number: int) -> str:
    """A user id; consecutive numbers begin with different symbols."""
    symbols = [USER_ALPHABET[number % 32], USER_ALPHABET[number // 32 % 32], USER_ALPHABET[number // 1024 % 32]]
    return "".join(symbols) + "a" * 9


def route(who: str, target: str, age_s: float = 0) -> Route:
    return Route(
        user=who,
        host="host-1",
        target=target,
        container="c" * 12,
        pool="default",
        generation="g",
        created_at=T0 - timedelta(seconds=age_s),
    )


def value(who: str, target: str, age_s: float = 0) -> bytes:
    """A route's record; ``target`` may be one that no route can have."""
    return route(who, "192.0.2.1:1", age_s).encode().replace(b"192.0.2.1:1", target.encode())


def target_of(number: int) -> str:
    """An address for each number, as in a record."""
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}:8888"


def map_value(number: int) -> str:
    """The same, as in HAProxy's table."""
    address, _, port = target_of(number).rpartition(":")
    return f"{port}@{address}"

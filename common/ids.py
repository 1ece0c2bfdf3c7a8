"""Ids and tokens. Everything a stranger must not guess comes from the operating system's CSPRNG."""

import base64
import hashlib
import hmac
import re
import secrets

# 32 symbols (5 bits each), no look-alikes (0/o, 1/l): ids are read aloud in workshops. Lower case only,
# so that ids are also valid in container and DNS names.
USER_ALPHABET = "23456789abcdefghijkmnpqrstuvwxyz"

# Twelve symbols of 32 are 60 bits: with 20,000 live servers a guess hits with 2e4/2**60, and the token is
# still in front of it. docs/design.md asks for at least 12.
USER_LENGTH_MIN = 12
USER_LENGTH_MAX = 32

_USER = re.compile(f"[{USER_ALPHABET}]{{{USER_LENGTH_MIN},{USER_LENGTH_MAX}}}")


def new_user(length: int = USER_LENGTH_MIN) -> str:
    """A new user id of ``length`` symbols."""
    return "".join(secrets.choice(USER_ALPHABET) for _ in range(length))


def is_user(text: str) -> bool:
    """Whether ``text`` has the form of a user id that this cluster could have issued."""
    return _USER.fullmatch(text) is not None


def new_server_token() -> str:
    """A server's token: 192 random bits, URL-safe, and never taken for an option on a command line."""
    while (token := secrets.token_urlsafe(24)).startswith("-"):
        pass
    return token


def new_seat_key() -> str:
    """What opens a seat at the edge: 192 random bits, as 32 characters that may stand in a path."""
    return secrets.token_urlsafe(24)


def server_token_of(key: str) -> str:
    """The token of a server whose seat has that ``key``: who may open the seat for others can give them the token, too.
    Nothing leads back from it to the key. It is never taken for an option either."""
    token = base64.urlsafe_b64encode(hmac.digest(key.encode(), b"server token", "sha256")[:24]).decode()
    return f"t{token[1:]}" if token.startswith("-") else token


def is_seat_key(text: str) -> bool:
    """Whether ``text`` has the form of a seat's key."""
    return re.fullmatch(r"[A-Za-z0-9_-]{32}", text) is not None


def new_link_code() -> str:
    """What opens a link once: 128 random bits. Spelled as tickets are, which no log shows."""
    return secrets.token_hex(16)


def is_link_code(text: str) -> bool:
    """Whether ``text`` has the form of a link's code."""
    return is_request_id(text)


def is_key_of(seat: str, key: str) -> bool:
    """Whether ``key`` is that of the ``seat`` whose digest is given; empty ones are of none."""
    return bool(seat and key) and hmac.compare_digest(digest(key), seat)


def new_request_id() -> str:
    """A request id, for logs and records. It opens nothing."""
    return secrets.token_hex(16)


def new_ticket() -> str:
    """A ticket: whoever has it is told of the server it gets, token and all. 128 random bits, and in no log."""
    return secrets.token_hex(16)


def request_of(ticket: str) -> str:
    """The id of the request that a ticket stands for: its name in records, messages and logs. It does not lead back."""
    return hashlib.sha256(ticket.encode()).hexdigest()[:32]


def is_request_id(text: str) -> bool:
    """Whether ``text`` has the form of a request id, which is that of a ticket, too."""
    return re.fullmatch(r"[0-9a-f]{32}", text) is not None


def digest(token: str) -> str:
    """What may be stored and shown of a token: its SHA-256, hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()

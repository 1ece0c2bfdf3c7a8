"""Wrong tokens, counted per client: one that was wrong often has to wait, and nobody else has.

A client is an address, and behind one address may be a whole campus (or, where Docker publishes a port, everybody). So
what cannot have been guessed is never held up: a token of ours (256 random bits), and one that was right from there
before. Only the token that an operator has chosen, shown there for the first time, waits for guessers to give up.
"""

import ipaddress
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b

from common.records.tokens import split
from frontend.http.guess_throttle import Throttle
from frontend.settings import GunicornSettings


class Guesses:
    """Safe from any thread. ``clock``: monotonic seconds."""

    def __init__(self, settings: GunicornSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._throttle = Throttle(settings.wrong_tokens_max, settings, clock)
        #: Pairs of address and token that were right, some 150 bytes each.
        self._known_max = settings.right_tokens_max
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def pause_s(self, client: str, token: str) -> float:
        """How long this client has to wait until this token is looked at; 0: not at all."""
        if split(token) is not None:
            return 0.0
        pause_s = self._throttle.pause_s(client)
        return 0.0 if pause_s > 0 and self._mark(client, token) in self._known else pause_s

    def wrong(self, client: str, token: str) -> float:
        """It was wrong: how long the client has had to wait already, so that the answer can say so."""
        # A client that sends a revoked token over and over is not guessing, and must not hold up others at its address.
        key = f"named {client}" if split(token) is not None else client
        pause_s = self._throttle.pause_s(key)
        if pause_s <= 0:
            self._throttle.failed(key)
        return pause_s

    def right(self, client: str, token: str) -> None:
        if split(token) is not None:
            return
        mark = self._mark(client, token)
        if mark in self._known:
            return
        with self._lock:
            self._known[mark] = None
            while len(self._known) > self._known_max:
                self._known.popitem(last=False)

    def _mark(self, client: str, token: str) -> bytes:
        """Nothing from which a token could be read."""
        return blake2b(f"{client}\0{token}".encode(errors="replace"), key=self._key, digest_size=16).digest()


def client_of(address: str | None) -> str:
    """What counts as one client: an IPv4 address, or the /64 that one machine has of IPv6."""
    try:
        found = ipaddress.ip_address((address or "").strip().strip("[]"))
    except ValueError:
        return "unknown"
    if found.version == 6:
        mapped = found.ipv4_mapped
        return str(mapped) if mapped is not None else str(ipaddress.ip_network((int(found), 64), strict=False))
    return str(found)

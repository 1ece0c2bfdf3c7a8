"""Who asks, as far as that can be told: for the bounds on what one visitor may hold. No address is written down."""

import hmac
import ipaddress

from flask import current_app, request

from frontend.auth import ANYBODY, caller

# Enough that no two visitors share one.
MARK_LENGTH = 16
# What one subscriber has of IPv6.
IPV6_PREFIX = 64


def visitor() -> str:
    """A digest of the token's name, or of the address that the proxy tier names, for everybody else."""
    name = caller()
    text = f"token {name}" if name != ANYBODY else f"address {_address()}"
    key = str(current_app.config["SECRET_KEY"]).encode()
    return hmac.digest(key, text.encode(), "sha256").hex()[:MARK_LENGTH]


def _address() -> str:
    """The last one named: what stands before it may have been written by the client. Of IPv6 the network."""
    said = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip() or request.remote_addr or ""
    try:
        address = ipaddress.ip_address(said)
    except ValueError:
        return said[:64]
    if address.version == 6:
        return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False))
    return str(address)

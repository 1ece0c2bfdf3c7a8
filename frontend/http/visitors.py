"""Who asks, as far as that can be told: a browser, a robot, and for the bounds on what one visitor may hold, who. No
address is written down."""

import hmac
import re

from flask import current_app, request

from frontend.http.auth import ANYBODY, caller, client

# Enough that no two visitors share one.
MARK_LENGTH = 16
# Previews of chats and mail programs, virus scanners, crawlers: they look at every link, and would take a server each.
# (Cubot makes telephones. Headless browsers are left alone: tests use them, and robots can say what they like.)
_ROBOT = re.compile(
    r"(?<!cu)bot\b|crawl|spider|slurp|scanner|preview|unfurl|linkexpand|facebookexternalhit|facebookcatalog|facebot"
    r"|whatsapp/|embedly|iframely|vkshare|ms-office|msoffice|microsoft office|google-|googleother|feedfetcher"
    r"|mediapartners|barracuda|proofpoint|mimecast|safelinks|symantec|sophos|trendmicro|virustotal|urlscan|fortiguard"
    r"|zscaler|nessus|nikto|validator|httrack|archiver|mastodon/",
    re.IGNORECASE,
)


def visitor() -> str:
    """A digest of the token's name, or of the address that the proxy tier names, for everybody else."""
    name = caller()
    text = f"token {name}" if name != ANYBODY else f"address {client()}"
    key = str(current_app.config["SECRET_KEY"]).encode()
    return hmac.digest(key, text.encode(), "sha256").hex()[:MARK_LENGTH]


def is_robot() -> bool:
    """Whether the client says itself that it is neither a person's browser nor a program that wants a server."""
    return _ROBOT.search(request.headers.get("User-Agent", "")) is not None


def is_browser() -> bool:
    """Whether it calls itself one, as all of them do. So do scanners."""
    return "Mozilla/" in request.headers.get("User-Agent", "")

"""Opening addresses in a browser on a machine where containers come and go."""

from typing import Any

from playwright.sync_api import Browser, Page, Playwright, Response
from tenacity import retry, retry_if_exception_message, stop_after_attempt

# As root in a container Chromium has no sandbox; the rest keeps it from talking to the internet.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium(playwright: Playwright) -> Browser:
    """The machine's Chromium."""
    return playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)


# A container that starts brings a network interface, and Chromium gives up whatever it loads when it sees one.
@retry(retry=retry_if_exception_message(match="(?s).*ERR_NETWORK_CHANGED"), stop=stop_after_attempt(5), reraise=True)
def visit(page: Page, url: str, **options: Any) -> Response | None:
    """``page.goto`` that does not mind interfaces of other containers. Raises what ``goto`` raises."""
    return page.goto(url, **options)

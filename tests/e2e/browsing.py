"""Opening addresses in a browser on a machine where containers come and go."""

from typing import Any

from playwright.sync_api import Page, Response
from tenacity import retry, retry_if_exception_message, stop_after_attempt


# A container that starts brings a network interface, and Chromium gives up whatever it loads when it sees one.
@retry(retry=retry_if_exception_message(match="(?s).*ERR_NETWORK_CHANGED"), stop=stop_after_attempt(5), reraise=True)
def visit(page: Page, url: str, **options: Any) -> Response | None:
    """``page.goto`` that does not mind interfaces of other containers. Raises what ``goto`` raises."""
    return page.goto(url, **options)

"""What Jupyter promises to the links that lead to it: of two tokens in an address the last one counts."""

import os
from collections.abc import Iterator

import pytest
import requests

from tests.support.waiting import wait_until

IMAGE = os.environ.get("TMPNB_NOTEBOOK_IMAGE", "tmpnb-local/jupyter:4")
BASE = "/user/u/"
# What a link to a private repository brings along, and bytes that are no UTF-8.
FOREIGN = "reset&u=%E9&f=a;b&token=ghp_x"


@pytest.fixture(scope="module")
def jupyter() -> Iterator[str]:
    """The URL of a server whose token is ``secret``."""
    from testcontainers.core.container import DockerContainer

    command = f"exec jupyter lab --no-browser --allow-root --ip=0.0.0.0 --port=8888 --ServerApp.base_url={BASE}"
    container = (
        DockerContainer(IMAGE)
        .with_kwargs(entrypoint=["/bin/sh", "-c"])
        .with_command([f"{command} --IdentityProvider.token=secret"])
        .with_exposed_ports(8888)
    )
    with container:
        url = f"http://127.0.0.1:{container.get_exposed_port(8888)}{BASE}"

        def answers() -> bool:
            try:
                return requests.get(url + "api", timeout=5).status_code == 200
            except requests.ConnectionError:
                return False

        wait_until(answers, "Jupyter to answer", 60)
        yield url


def opens(session: requests.Session, url: str) -> bool:
    answer = session.get(url, timeout=30, allow_redirects=False)
    assert answer.status_code in {200, 302}, answer.text
    return answer.status_code == 200


def test_b1_the_last_token_counts(jupyter: str) -> None:
    assert opens(requests.Session(), f"{jupyter}lab?{FOREIGN}&token=secret")
    assert not opens(requests.Session(), f"{jupyter}lab?token=secret&{FOREIGN}")


def test_b1_a_foreign_token_does_not_shut_out_a_browser_that_was_let_in(jupyter: str) -> None:
    browser = requests.Session()
    assert not opens(browser, f"{jupyter}lab?{FOREIGN}")
    assert opens(browser, f"{jupyter}lab?{FOREIGN}&token=secret")
    assert opens(browser, f"{jupyter}lab?{FOREIGN}")

"""Options of tmpnb's own two applications: flags and environment of the frontend and the admin application now."""

import secrets
from collections.abc import Iterator

import pytest
import requests

from frontend.settings import CORS_HEADERS
from tests.migrating.site import CORS, Site
from tests.support.proxy_rig import accepts, free_port
from tests.support.waiting import wait_until

OTHER_IP = "127.0.0.2"
TOKEN = "a secret of this test"
AUTHORIZED = {"Authorization": f"token {TOKEN}"}


@pytest.fixture(scope="module")
def closed(site: Site) -> Iterator[int]:
    """The port at 127.0.0.2 of a public application that asks for a token and has no cross-origin headers."""
    port = free_port(OTHER_IP)
    process = site.run(
        "frontend", f"--ip={OTHER_IP}", f"--port={port}", "--workers=1", f"--secret-key={secrets.token_hex(16)}",
        API_AUTH_TOKEN=TOKEN,
    )  # fmt: skip
    yield _wait(port)
    process.terminate()


@pytest.fixture(scope="module")
def closed_admin(site: Site) -> Iterator[int]:
    """The port at 127.0.0.2 of an admin application that asks for a token."""
    port = free_port(OTHER_IP)
    process = site.run("frontend.admin", f"--admin-ip={OTHER_IP}", f"--admin_port={port}", ADMIN_AUTH_TOKEN=TOKEN)
    yield _wait(port)
    process.terminate()


def _wait(port: int) -> int:
    def answers() -> bool:
        return accepts(OTHER_IP, port) and requests.get(f"http://{OTHER_IP}:{port}/healthz", timeout=10).ok

    wait_until(answers, f"the application at port {port} to answer")
    return port


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("allow_origin", marks=pytest.mark.tmpnb("allow_origin")),
        pytest.param("allow_methods", marks=pytest.mark.tmpnb("allow_methods")),
        pytest.param("allow_headers", marks=pytest.mark.tmpnb("allow_headers")),
        pytest.param("allow_credentials", marks=pytest.mark.tmpnb("allow_credentials")),
        pytest.param("expose_headers", marks=pytest.mark.tmpnb("expose_headers")),
        pytest.param("max_age", marks=pytest.mark.tmpnb("max_age")),
    ],
)
def test_a_cross_origin_header_is_on_every_answer_through_the_proxy(site: Site, closed: int, name: str) -> None:
    header = CORS_HEADERS[name]
    preflight = site.ask("OPTIONS", "/api/spawn/", headers={"Origin": CORS["allow_origin"]})
    assert (preflight.status_code, preflight.content) == (204, b"")
    found = [preflight, site.ask("GET", "/api/stats"), site.ask("POST", "/api/spawn", json={"pool": "none"})]
    assert [answer.headers.get(header) for answer in found] == [CORS[name]] * 3
    unset = requests.options(f"http://{OTHER_IP}:{closed}/api/spawn", timeout=10)
    assert (unset.status_code, header in unset.headers) == (204, False)


@pytest.mark.parametrize(
    "application",
    [
        pytest.param("closed", marks=pytest.mark.tmpnb("ip")),
        pytest.param("closed_admin", marks=pytest.mark.tmpnb("admin_ip")),
    ],
)
def test_an_application_listens_at_its_address_only(request: pytest.FixtureRequest, application: str) -> None:
    port: int = request.getfixturevalue(application)
    assert accepts(OTHER_IP, port)
    assert not accepts("127.0.0.1", port)


@pytest.mark.tmpnb("port")
def test_the_public_application_listens_at_its_port(site: Site) -> None:
    answer = requests.get(f"http://{site.proxy.gateway}:{site.port}/api/stats", timeout=10)
    assert answer.json()["capacity"] > 0


@pytest.mark.tmpnb("admin_port")
def test_the_admin_application_listens_at_its_port_which_the_proxy_does_not_lead_to(site: Site) -> None:
    answer = requests.get(f"http://127.0.0.1:{site.admin_port}/api/v1/pools", timeout=10)
    assert site.pool("all") in answer.json()["pools"]
    assert site.ask("GET", "/api/v1/pools").status_code == 404


@pytest.mark.tmpnb("API_AUTH_TOKEN")
def test_a_token_is_asked_for_by_the_api_and_turns_the_pages_off(site: Site, closed: int) -> None:
    url = f"http://{OTHER_IP}:{closed}"
    body = {"pool": site.pool("none")}
    answers = {
        given: requests.post(f"{url}/api/spawn", json=body, headers={"Authorization": given}, timeout=10).status_code
        for given in ("", "token x", f"token {TOKEN}")
    }
    assert answers == {"": 401, "token x": 403, f"token {TOKEN}": 404}, "404: there is no such pool"
    assert requests.get(f"{url}/api/stats", headers=AUTHORIZED, timeout=10).status_code == 200
    assert requests.get(f"{url}/", headers=AUTHORIZED | {"Accept": "text/html"}, timeout=10).status_code == 404
    assert site.ask("GET", "/", headers={"Accept": "text/html"}).status_code == 200, "without it there are pages"


@pytest.mark.tmpnb("ADMIN_AUTH_TOKEN")
def test_a_token_is_asked_for_by_the_admin_application(site: Site, closed_admin: int) -> None:
    url = f"http://{OTHER_IP}:{closed_admin}/api/v1/pools"
    assert requests.get(url, timeout=10).status_code == 401
    assert requests.get(url, headers=AUTHORIZED, timeout=10).status_code == 200

"""Pages of other sites that run code on servers from here: Thebe 0.x as it was, and what a page does today.

Real Jupyter behind a frontend with cross-origin headers; the pages come from another origin. The pools are those of
docs/migrating-from-tmpnb.md, read from it.
"""

import os
import re
import secrets
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
from playwright.sync_api import Page, expect

from tests.migrating.site import Site
from tests.migrating.table import PAGE
from tests.support.browsing import visit
from tests.support.proxy_rig import Rig, free_port
from tests.support.waiting import wait_until

JUPYTER = os.environ.get("TMPNB_NOTEBOOK_IMAGE", "tmpnb-local/jupyter:4")
# The calls of Thebe 0.x in its order, with its own way of putting URLs together (static/main.coffee, kernel.js): plain
# requests without a preflight, the image that it always asks for, no token.
THEBE = """
const tmpnb_url = BASE.replace(/\\/?$/, "/");
const xhr = (method, url, body, done) => {
  const request = new XMLHttpRequest();
  request.open(method, url, true);
  request.onreadystatechange = () => request.readyState === 4 && done(request);
  request.onerror = () => show("error", url);
  if (url.endsWith("api/kernels")) {
    request.setRequestHeader("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8");
  }
  request.send(body);
};
xhr("GET", tmpnb_url + "api/stats", null, (stats) => show("capacity", JSON.parse(stats.responseText).capacity));
xhr("POST", tmpnb_url + "api/spawn/", JSON.stringify({ image_name: "jupyter/notebook" }), (spawned) => {
  const data = JSON.parse(spawned.responseText);
  if (data.status === "full") return show("state", "full");
  const url = tmpnb_url + data.url + "/";
  xhr("POST", url + "api/kernels", JSON.stringify({ name: "python3" }), (started) => {
    const kernel_url = url + "api/kernels/" + JSON.parse(started.responseText).id;
    run(kernel_url.replace("http", "ws") + "/channels?session_id=" + SESSION);
  });
});
"""
# A page of today: fetch with JSON, the token in a header, and for the WebSocket in its address.
TODAY = """
(async () => {
  const json = { "Content-Type": "application/json" };
  const spawned = await fetch(BASE + "/api/spawn", {
    method: "POST", headers: json, body: JSON.stringify({ pool: POOL, path: "/", wait_s: 20 }),
  });
  if (spawned.status === 429) return show("state", "full");
  const url = new URL((await spawned.json()).url, BASE);
  const token = url.searchParams.get("token");
  const started = await fetch(new URL("api/kernels", url), {
    method: "POST", headers: { ...json, Authorization: `token ${token}` }, body: JSON.stringify({ name: "python3" }),
  });
  const channels = new URL(`api/kernels/${(await started.json()).id}/channels`, url);
  channels.protocol = "ws:";
  channels.search = new URLSearchParams({ session_id: SESSION, token });
  run(channels);
})().catch((error) => show("error", String(error)));
"""
HTML = """<!doctype html><title>A page elsewhere</title>
<p id="state"></p><p id="capacity"></p><p id="output"></p><p id="error"></p>
<script>
const [BASE, POOL, SESSION] = [%(base)r, %(pool)r, "abc"];
const show = (id, text) => (document.getElementById(id).textContent = text);
const run = (channels) => {
  const socket = new WebSocket(channels);
  const header = { msg_id: "1", msg_type: "execute_request", username: "username", session: SESSION, version: "5.0" };
  const content = { code: "print(6*7)", silent: false, store_history: false, user_expressions: {}, allow_stdin: false };
  socket.onopen = () => socket.send(
    JSON.stringify({ header, content, channel: "shell", parent_header: {}, metadata: {}, buffers: [] })
  );
  socket.onmessage = (event) => {
    const message = JSON.parse(event.data);
    if (message.header.msg_type === "stream") show("output", message.content.text);
  };
  socket.onerror = () => show("error", "WebSocket");
};
%(script)s
</script>"""


class Elsewhere:
    """Another site: ``origin`` is where its pages come from."""

    def __init__(self) -> None:
        self.pages: dict[str, str] = {}
        pages = self.pages

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = pages.get(self.path, "").encode()
                self.send_response(200 if body else 404)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    elsewhere = Elsewhere()
    yield elsewhere
    elsewhere.close()


@pytest.fixture(scope="module")
def pools(site: Site, elsewhere: Elsewhere) -> dict[str, str]:
    """The documented pools by their names there, as the site has them now: with the other origin, and small."""
    text = PAGE.read_text().partition("### Pages of other sites")[2]
    (table,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    written = tomllib.loads(table.replace("https://docs.example.org", elsewhere.origin))["pools"]
    small = {"image": JUPYTER, "pool_size": 1, "ready": 1, "start_timeout_s": 120}
    specs = {site.pool(name): fields | small for name, fields in written.items()}
    for name, fields in specs.items():
        answer = requests.put(f"http://127.0.0.1:{site.admin_port}/api/v1/pools/{name}", json=fields, timeout=30)
        assert answer.status_code == 200, answer.text
        site.agent.ready(1, name)
    return {name: site.pool(name) for name in written}


@pytest.fixture(scope="module")
def base(
    site: Site, elsewhere: Elsewhere, pools: dict[str, str], consul_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a frontend, behind a HAProxy of its own, that lets pages of that origin in."""
    port = free_port(site.proxy.gateway)
    site.run(
        "frontend", f"--ip={site.proxy.gateway}", f"--port={port}", "--workers=1", "--window_s=20",
        f"--default-pool={pools['thebe']}", f"--secret_key={secrets.token_hex(16)}",
        f"--allow_origin={elsewhere.origin}", "--allow_headers=Content-Type", "--allow_methods=GET, POST",
    )  # fmt: skip
    rig = Rig(consul_url, tmp_path_factory.mktemp("rig"), {"TMPNB_FRONTEND": f"{site.proxy.gateway}:{port}"})
    try:
        rig.start_sync(cluster=site.proxy.cluster, proxy_name="proxy-2")
        rig.start_haproxy()
        wait_until(lambda: _answers(rig.url), "the frontend behind the second HAProxy", 60)
        yield rig.url
    finally:
        rig.close()


def _answers(url: str) -> bool:
    try:
        return requests.get(url + "/readyz", timeout=5).ok
    except requests.RequestException:
        return False


def open_page(page: Page, elsewhere: Elsewhere, script: str, base: str, pool: str) -> None:
    page.on("console", lambda message: print(message.text))
    elsewhere.pages["/page"] = HTML % {"base": base, "pool": pool, "script": script}
    visit(page, elsewhere.origin + "/page")


@pytest.mark.tmpnb("POST /api/spawn/")
def test_thebe_0_x_spawns_from_another_site_and_runs_code(
    page: Page, elsewhere: Elsewhere, base: str, pools: dict[str, str]
) -> None:
    open_page(page, elsewhere, THEBE, base, pools["thebe"])
    expect(page.locator("#output")).to_have_text("42", timeout=60_000)
    assert page.locator("#error").text_content() == ""
    assert int(page.locator("#capacity").text_content() or 0) > 0


def test_thebe_0_x_is_told_when_everything_is_taken(
    page: Page, elsewhere: Elsewhere, base: str, pools: dict[str, str]
) -> None:
    """Its only server is the one of the test before. A short wait, as Thebe's user would not wait for longer."""
    patient = THEBE.replace('image_name: "jupyter/notebook"', 'image_name: "jupyter/notebook", wait_s: 0.2')
    open_page(page, elsewhere, patient, base, pools["thebe"])
    expect(page.locator("#state")).to_have_text("full")
    assert page.locator("#error").text_content() == ""


def test_a_page_of_today_uses_the_token(page: Page, elsewhere: Elsewhere, base: str, pools: dict[str, str]) -> None:
    open_page(page, elsewhere, TODAY, base, pools["pages"])
    expect(page.locator("#output")).to_have_text("42", timeout=60_000)
    assert page.locator("#error").text_content() == ""


def test_a_page_of_any_other_site_is_kept_out(page: Page, base: str, pools: dict[str, str]) -> None:
    stranger = Elsewhere()
    try:
        open_page(page, stranger, TODAY, base, pools["pages"])
        expect(page.locator("#error")).to_have_text(re.compile("Failed to fetch"))
    finally:
        stranger.close()

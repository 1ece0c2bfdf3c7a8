"""JupyterLab's static files come from the image by way of the frontends and HAProxy, not out of learners' servers."""

import threading
from typing import Any

import pytest
from playwright.sync_api import Page, Response, expect

from tests.e2e.test_journey import user_of
from tests.support.browsing import visit
from tests.support.cluster import Cluster, ask
from tests.support.waiting import wait_until

# What JupyterLab loads of the image's files, uncompressed, is some 5 MB.
STATIC_BYTES = 4_000_000


def is_shared(answer: Response) -> bool:
    """Whether it is the proxy tier's: Jupyter gives static files no ETag, and says nothing of encodings."""
    return "etag" in answer.headers and answer.headers.get("vary") == "Accept-Encoding"


def sent_bytes(cluster: Cluster, user: str) -> int:
    """What a user's container has sent over its network interface."""
    (container,) = [found for found, whose in cluster.servers().items() if whose == user]
    shown = cluster.docker("exec", container, "cat", "/sys/class/net/eth0/statistics/tx_bytes")
    return int(shown)


def a_static_file(cluster: Cluster) -> str:
    (statics,) = cluster.records("statics").values()
    return next(url for url in statics["files"] if url.startswith("static/lab/main.") and url.endswith(".js"))


def wait_shared(cluster: Cluster, base_url: str) -> None:
    """Until the set is taken, fetched, and in HAProxy's table."""
    wait_until(lambda: any(s["served"] for s in cluster.records("statics").values()), "the set to be taken", 60)
    url = f"{base_url}/{a_static_file(cluster)}"
    wait_until(lambda: ask(url).headers.get("vary") == "Accept-Encoding", "HAProxy's table of files")


@pytest.mark.tmpnb("static_files")
def test_jupyterlab_loads_and_its_server_is_asked_for_no_static_file(cluster: Cluster, page: Page) -> None:
    url = cluster.spawn()
    user = user_of(url)
    wait_shared(cluster, url.partition("/lab")[0])
    before = sent_bytes(cluster, user)
    answers: list[Response] = []
    page.on("response", lambda answer: answers.append(answer))
    visit(page, url)
    expect(page.locator('.jp-LauncherCard[data-category="Notebook"]').first).to_be_visible()
    page.wait_for_load_state("networkidle")
    files = [a for a in answers if "/static/" in a.url and "/api/" not in a.url]
    assert len(files) > 30
    assert [a.url for a in files if not is_shared(a)] == []
    assert all(a.status in (200, 304) for a in files)
    assert sent_bytes(cluster, user) - before < STATIC_BYTES / 4
    assert sum(len(a.body()) for a in files) > STATIC_BYTES


def test_they_are_the_files_that_the_server_itself_would_give(cluster: Cluster) -> None:
    url = cluster.spawn().partition("/lab")[0]
    wait_shared(cluster, url)
    (statics,) = cluster.records("statics").values()
    files = sorted(statics["files"])
    chosen = [a_static_file(cluster), *files[:: max(1, len(files) // 12)]]
    for name in chosen:
        shared, own = ask(f"{url}/{name}"), ask(f"{url}/{name}?tmpnb-server=1")
        # Asked without any token: Jupyter gives static files to everybody, too.
        assert (shared.status, own.status, shared.body == own.body) == (200, 200, True), name
        assert "vary" in shared.headers
        assert "vary" not in own.headers


def test_the_host_says_what_it_took_and_what_the_image_does_not_have(cluster: Cluster) -> None:
    (statics,) = cluster.records("statics").values()

    def status() -> dict[str, Any]:
        (host,) = cluster.records("hosts").values()
        return dict(host["pools"]["default"])

    note = wait_until(lambda: status()["statics_note"], "the host record")
    assert f"{len(statics['files'])} files" in note
    assert "/opt/" in note, "one of the two images that deploy/config/pools.toml serves is not here"
    assert status()["statics"] == statics["id"]
    wait_until(lambda: not cluster.looked_at(), "the container that was looked at to be gone")
    starts = cluster.docker("logs", cluster.container("frontend")).count("Listening at")
    assert 1 <= fetched_count(cluster) <= starts, "once per container that starts, not once per worker"


def fetched_count(cluster: Cluster) -> int:
    return cluster.docker("logs", cluster.container("frontend")).count('"static files fetched"')


def test_who_loads_a_file_notices_no_restart(cluster: Cluster) -> None:
    base_url = cluster.spawn().partition("/lab")[0]
    wait_shared(cluster, base_url)
    url = f"{base_url}/{a_static_file(cluster)}?v=1"
    expected = ask(url).body
    fetched = fetched_count(cluster)
    wrong: list[tuple[int, dict[str, str]]] = []
    over = threading.Event()

    def load() -> None:
        while not over.wait(0.02):
            answer = ask(url)
            if answer.status == 307:
                answer = ask(cluster.url + answer.headers["location"])
            if answer.status != 200 or answer.body != expected:
                wrong.append((answer.status, answer.headers))

    loading = threading.Thread(target=load)
    loading.start()
    try:
        # A new agent has forgotten its bundle, and a new frontend has nothing: the files are taken once more.
        cluster.restart("agent")
        cluster.restart("frontend")
        wait_until(lambda: fetched_count(cluster) > fetched, "the files to be fetched again", 60)
        wait_until(lambda: ask(url).headers.get("vary") == "Accept-Encoding", "HAProxy to use them again")
    finally:
        over.set()
        loading.join()
    assert wrong == []
    wait_until(lambda: not cluster.looked_at(), "the container that was looked at to be gone")


def test_the_internal_address_is_closed(cluster: Cluster) -> None:
    url = cluster.spawn().partition("/lab")[0]
    wait_shared(cluster, url)
    (statics,) = cluster.records("statics").values()
    name = f"{statics['files'][a_static_file(cluster)]['sha256']}.js"
    for path in (f"/_statics/plain/{name}", f"/%5fstatics/plain/{name}", f"//_statics/plain/{name}", "/_statics/"):
        assert ask(cluster.url + path).status == 404, path

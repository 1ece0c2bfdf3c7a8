"""More visitors than servers: they wait in line, in order, and are let in one by one."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browsing import visit
from tests.support.cluster import Cluster, ask
from tests.support.waiting import wait_until


@pytest.fixture
def full(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with every server that its one host may run claimed."""
    wait_until(lambda: cluster.available() > 0, "a ready server", 120)

    def fill() -> bool:
        stats = ask(cluster.url + "/api/stats").json()
        if stats["available"] == 0 and len(cluster.records("claims")) >= stats["capacity"]:
            return True
        ask(cluster.url + "/api/spawn", "POST", timeout_s=60)
        return False

    wait_until(fill, "the pool to be full", 180)
    yield cluster
    cluster.make_room()


def free(cluster: Cluster, count: int) -> None:
    cluster.cull(list(cluster.records("claims"))[:count])


def test_a_full_cluster_says_so_and_lets_the_first_in_line_in_first(
    full: Cluster, browser: Browser, photograph: Callable[[Page, str], Path]
) -> None:
    program = ask(full.url + "/api/spawn", "POST", timeout_s=60)
    assert program.status == 429
    assert program.json() == {"status": "full"}
    assert int(program.headers["retry-after"]) > 0

    contexts = [browser.new_context() for _ in range(2)]
    first, second = (context.new_page() for context in contexts)
    for page, position in ((first, 1), (second, 2)):
        visit(page, full.url + "/spawn")
        expect(page.locator("#position")).to_have_text(str(position), timeout=30_000)
    photograph(second, "waiting-room")
    free(full, 1)
    first.wait_for_url("**/user/*/**", timeout=90_000)
    assert "/user/" not in second.url
    free(full, 1)
    second.wait_for_url("**/user/*/**", timeout=90_000)
    for context in contexts:
        context.close()


def test_twenty_visitors_at_once_end_in_one_outcome_each(cluster: Cluster) -> None:
    """I1 and I2: a server of one's own, or a clear refusal."""
    wait_until(lambda: cluster.available() > 0, "a ready server", 120)
    answers: list[tuple[int, bytes]] = []

    def visit() -> None:
        answer = ask(cluster.url + "/api/spawn", "POST", timeout_s=60)
        answers.append((answer.status, answer.body))

    threads = [threading.Thread(target=visit) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 20
    assert {status for status, _ in answers} <= {200, 429}
    urls = [json.loads(body)["url"] for status, body in answers if status == 200]
    assert urls
    assert len(set(urls)) == len(urls)
    free(cluster, len(urls))

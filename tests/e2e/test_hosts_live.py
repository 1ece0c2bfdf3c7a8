"""The operator's page over several real hosts: what it shows during a burst of claims and a drain is what Consul and
Docker say; it is worked by keys alone; and the public plot."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browsing import visit
from tests.support.cluster import ask
from tests.support.hosts_rig import Host, HostsRig
from tests.support.learners import HTML, claim
from tests.support.waiting import wait_until

Photograph = Callable[[Page, str], Path]

BURST = 50
# As the waiting room counts: whoever was not seen for so long does not wait any more (TMPNB_ABANDON_S).
ABANDON_S = 45
COUNTS = ("ready", "claimed", "starting", "capacity")

# Every number on the page, as a person reads it.
READ_PAGE = """() => {
  const number = (element) => Number(element.textContent.replace(/[^0-9]/g, ""));
  const counts = (element) => Object.fromEntries(
    [...element.querySelectorAll("b[data-count]")].map((shown) => [shown.dataset.count, number(shown)]));
  const all = [...document.querySelectorAll("[data-total]")];
  const totals = Object.fromEntries(all.map((element) => [element.dataset.total, number(element)]));
  const hosts = {};
  for (const row of document.querySelectorAll("tr[data-host]")) {
    const pools = Object.fromEntries([...row.querySelectorAll("[data-pool]")].map((e) => [e.dataset.pool, counts(e)]));
    const state = row.querySelector(".pill").dataset.state;
    hosts[row.dataset.host] = { state, pools, left: row.querySelector("[data-drain]").textContent };
  }
  const pools = {};
  for (const row of document.querySelectorAll("tr[data-pool-row]")) {
    pools[row.dataset.poolRow] = { ...counts(row), waiting: number(row.querySelector("[data-count=waiting]")) };
  }
  const records = document.querySelector("#records").textContent.match(/\\d+/g).map(Number);
  return { totals, hosts, pools, records };
}"""


@pytest.fixture(autouse=True)
def _room() -> None:
    """In place of the one that the other modules' cluster needs: this module shares test_hosts.py's."""


@pytest.fixture
def operators_page(hosts: HostsRig, browser: Browser) -> Iterator[Page]:
    """The page, logged in by its form, without any error of a script or of the content security policy."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.set_default_timeout(60_000)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
    try:
        log_in(hosts, page)
        yield page
    finally:
        context.close()
    assert wrong == []


def log_in(hosts: HostsRig, page: Page) -> None:
    visit(page, hosts.cluster.admin_url + "/")
    page.get_by_label("Token").fill(hosts.cluster.secret("ADMIN_AUTH_TOKEN"))
    page.keyboard.press("Enter")
    expect(page.locator("#connection")).to_have_text("Live")


def consuls_numbers(hosts: HostsRig) -> dict[str, Any]:
    """What the page should show, as Consul's records have it."""
    records = hosts.cluster.records("hosts")
    now = datetime.now(UTC)
    waiting = [
        ticket
        for ticket in hosts.cluster.records("tickets").values()
        if ticket["state"] == "waiting"
        and now - datetime.fromisoformat(ticket["seen_at"]) <= timedelta(seconds=ABANDON_S)
    ]  # fmt: skip

    def total(count: str, *states: str) -> int:
        of = [record for record in records.values() if not states or record["state"] in states]
        return sum(pool[count] for record in of for pool in record["pools"].values())

    rows = {
        name: {
            "state": record["state"],
            "pools": {
                pool: {count: status[count] for count in COUNTS} for pool, status in record["pools"].items()
            },
            "left": left_of(record),
        }
        for name, record in records.items()
    }  # fmt: skip
    # Known, but away: destroyed by an earlier test, until somebody forgets it. What it said last is shown, too.
    away = {name: {"state": "away"} for name in hosts.cluster.records("notes") if name not in records}
    return {
        "totals": {
            "available": total("ready", "active"), "used": total("claimed"), "starting": total("starting"),
            "capacity": total("capacity"), "waiting": len(waiting), "hosts": len(records),
            "active_hosts": sum(1 for record in records.values() if record["state"] == "active"),
        },
        "hosts": rows | away,
        "pools": {"default": {count: total(count) for count in COUNTS} | {"waiting": len(waiting)}},
        "records": [len(hosts.cluster.records("claims")), len(hosts.cluster.records("routes"))],
    }  # fmt: skip


def left_of(record: dict[str, Any]) -> str:
    """The progress of a drain, in the page's words."""
    if record["state"] != "draining":
        return ""
    left = sum(pool["ready"] + pool["claimed"] + pool["starting"] for pool in record["pools"].values())
    return f"{left} of {max(left, record['drain']['claimed'])} left" if left else "empty"


def dockers_numbers(host: Host) -> tuple[int, int]:
    """Servers that run on the host, and how many of them are somebody's."""
    names = [inner.name for inner in host.servers() if inner.state == "running"]
    return len(names), sum(name.endswith(".claimed") for name in names)


def claims_per_s(page: Page) -> float:
    text = page.locator("[data-rate=per_s]").inner_text()
    return float(text) if text[:1].isdigit() else 0.0


def is_learners_only(host: Host) -> bool:
    running, claimed = dockers_numbers(host)
    return running == claimed > 0


def shown(page: Page) -> dict[str, Any]:
    found: dict[str, Any] = page.evaluate(READ_PAGE)
    for row in found["hosts"].values():
        if row["state"] == "away":
            del row["pools"], row["left"]
    return found


def agree(hosts: HostsRig, page: Page, when: str) -> dict[str, Any]:
    """Wait for an instant at which nothing moves, and in which page, Consul and Docker say the same. What they say."""
    last: dict[str, Any] = {}

    def same() -> bool:
        before, consul = shown(page), consuls_numbers(hosts)
        docker = {host.name: dockers_numbers(host) for host in hosts.alive()}
        last.update(page=before, consul=consul, docker=docker)
        if (shown(page), consuls_numbers(hosts)) != (before, consul) or before != consul:
            return False
        return all(of_docker(before["hosts"][name]) == numbers for name, numbers in docker.items())

    try:
        wait_until(same, f"page, Consul and Docker to say the same {when}", 90, every_s=0.3)
    except AssertionError as exc:
        raise AssertionError(
            f"{exc}\npage:   {last['page']}\nconsul: {last['consul']}\ndocker: {last['docker']}"
        ) from exc
    return dict(last["page"])


def of_docker(row: dict[str, Any]) -> tuple[int, int]:
    pools = row["pools"].values()
    return sum(p["ready"] + p["claimed"] + p["starting"] for p in pools), sum(p["claimed"] for p in pools)


def is_empty(hosts: HostsRig) -> bool:
    """Nobody has a server. Cull whoever has: a freed server goes to the next in line, again and again."""
    claims = hosts.cluster.records("claims")
    hosts.cluster.cull(claims)
    return not claims


def photograph_all(page: Page, photograph: Photograph, name: str) -> None:
    """On a desktop in light and dark, and on a phone, where nothing sticks out."""
    photograph(page, f"{name}-light")
    page.emulate_media(color_scheme="dark")
    photograph(page, f"{name}-dark")
    page.set_viewport_size({"width": 390, "height": 844})
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
    page.screenshot(path=photograph(page, f"{name}-phone"), full_page=True)
    page.set_viewport_size({"width": 1400, "height": 900})
    page.emulate_media(color_scheme="light")


def test_every_number_is_what_consul_and_docker_say_during_a_burst_and_a_drain(
    hosts: HostsRig, operators_page: Page, photograph: Photograph
) -> None:
    page, host = operators_page, hosts.alive()[-1]
    hosts.cluster.make_room()
    agree(hosts, page, "before the burst")
    row = page.locator(f"tr[data-host={host.name}]")

    with ThreadPoolExecutor(10) as learners:
        burst: list[Future[str]] = [learners.submit(claim, hosts) for _ in range(BURST)]
        wait_until(lambda: sum(future.done() for future in burst) >= BURST // 2, "half of the burst", 120)
        row.get_by_role("button", name=f"Drain {host.name}").click()
        page.get_by_role("dialog").get_by_role("button", name="Drain").click()
        expect(row.locator("[data-drain]")).to_contain_text("left")
        photograph_all(page, photograph, "operator-burst")
        urls = {future.result() for future in burst}
    assert len(urls) == BURST
    # Of the last minute, so before anything else is waited for.
    expect(page.locator("#events li[data-event='server.claimed']")).not_to_have_count(0)
    wait_until(lambda: claims_per_s(page) > 0, "the rate of claims")
    expect(page.locator("[data-time='1']")).to_contain_text("s")
    wait_until(lambda: is_learners_only(host), "the drained host's ready servers to be gone", 60)
    numbers = agree(hosts, page, "after the burst, during the drain")
    assert numbers["totals"]["used"] == BURST
    assert int(numbers["hosts"][host.name]["left"].split()[0]) == dockers_numbers(host)[1] > 0

    def visitor_waits() -> bool:
        answer = ask(hosts.cluster.url + "/spawn", headers=HTML)
        return answer.headers.get("location", "").startswith("/waiting/")

    wait_until(visitor_waits, "somebody to have to wait", 90)
    ask(hosts.cluster.url + "/spawn", headers=HTML)
    numbers = agree(hosts, page, "while visitors wait")
    assert numbers["totals"]["waiting"] > 0
    assert numbers["totals"]["available"] == 0

    drained = [user for user, record in hosts.cluster.records("claims").items() if record["host"] == host.name]
    hosts.cluster.cull(drained[: len(drained) // 2 or 1])
    wait_until(lambda: len(host.servers()) < len(drained), "the drain to go on", 60)
    agree(hosts, page, "when some of the drained host's learners are gone")
    photograph(page, "operator-drain")

    row.get_by_role("button", name=f"Uncordon {host.name}").click()
    expect(row.locator(".pill")).to_have_text("Active")
    wait_until(lambda: is_empty(hosts), "all learners to be gone, and those who waited", 90, every_s=2)
    agree(hosts, page, "after it all")


def test_it_is_worked_by_keys_alone(hosts: HostsRig, operators_page: Page, photograph: Photograph) -> None:
    page, host = operators_page, hosts.alive()[0]
    user = claim(hosts).split("/")[4]

    def tab_to(name: str) -> None:
        for _ in range(80):
            page.keyboard.press("Tab")
            label = page.evaluate(
                "document.activeElement.getAttribute('aria-label') || document.activeElement.textContent"
            )
            if label == name:
                assert page.evaluate("document.activeElement.matches(':focus-visible')"), "the focus can be seen"
                return
        raise AssertionError(f"no way to {name!r} by the Tab key")

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    tab_to(f"Cordon {host.name}")
    page.keyboard.press("Enter")
    expect(page.locator(f"tr[data-host={host.name}] .pill")).to_have_text("Cordoned")
    wait_until(lambda: hosts.cluster.records("hosts")[host.name]["state"] == "cordoned", "the host to follow", 30)
    page.locator("body").focus()
    tab_to(f"Uncordon {host.name}")
    page.keyboard.press("Enter")
    expect(page.locator(f"tr[data-host={host.name}] .pill")).to_have_text("Active")

    page.keyboard.press("/")
    page.keyboard.type(user[:8])
    page.keyboard.press("Enter")
    expect(page.locator("#found-title")).to_be_focused()
    found = page.locator(f"tr[data-user='{user}']")
    expect(found.locator("[data-forecast]")).to_contain_text("At ")
    tab_to(f"Keep {user} for 4 hours more")
    page.keyboard.press("Enter")
    expect(found.locator("[data-forecast]")).to_contain_text("kept by an operator until")
    assert hosts.cluster.records("claims")[user]["kept_until"]
    photograph(page, "operator-search")
    page.keyboard.press("/")
    page.keyboard.press("Enter")
    # The rows are new ones once it has answered.
    expect(page.locator("#found-title")).to_be_focused()
    tab_to(f"Cull {user}")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(f"Cull {user}?")
    photograph(page, "operator-cull")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == f"Cull {user}", "the focus is back"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    wait_until(lambda: user not in hosts.cluster.records("claims"), "the server to be gone", 60)


def test_it_says_which_store_is_away_and_goes_on_by_itself(
    hosts: HostsRig, operators_page: Page, photograph: Photograph
) -> None:
    page = operators_page
    before = shown(page)["totals"]["capacity"]
    hosts.cluster.compose("stop", "--timeout", "1", "rabbitmq", "consul")
    try:
        for store in ("rabbitmq", "consul"):
            expect(page.locator(f"[data-away={store}]")).to_contain_text("is away since")
        assert shown(page)["totals"]["capacity"] == before, "the last figures stay"
        photograph(page, "operator-away")
    finally:
        hosts.cluster.compose("start", "rabbitmq", "consul")
    expect(page.locator("[data-away]")).to_have_count(0, timeout=60_000)
    wait_until(lambda: hosts.cluster.available() > 0, "a ready server", 120)
    agree(hosts, page, "after the outage")


def test_the_public_page_plots_what_there_is(hosts: HostsRig, page: Page, photograph: Photograph) -> None:
    visit(page, hosts.cluster.url + "/info")
    expect(page.locator("#plot path.line")).to_have_count(2)
    wait_until(lambda: page.locator("#plot path.line.available").get_attribute("d"), "a line in the plot", 60)

    def used() -> int:
        return int(consuls_numbers(hosts)["totals"]["used"])

    claim(hosts)
    wait_until(lambda: used() > 0, "the claim to be counted", 30)
    wait_until(lambda: page.locator("[data-figure=used]").inner_text() == str(used()), "the page to follow", 60)
    photograph(page, "info-plot")

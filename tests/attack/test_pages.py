"""A page in the attacker's server, opened by the victim: what it reaches of the victim's server."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page

from tests.attack.arena import Arena, Learner
from tests.support.waiting import wait_until

Judge = Callable[[bool], None]

# Beside the attacker's JupyterLab; nobody is asked for a token there. It shows in its title what it has stolen.
LAB_PAGE = """<!doctype html><iframe src="%s/spawn"></iframe><script>
const frame = document.querySelector("iframe");
frame.onload = async () => {
  try {
    const base = frame.contentWindow.location.href.replace(/[/]lab.*/, "");
    const file = await fetch(base + "/api/contents/secret.txt", { credentials: "include" });
    document.title = (await file.json()).content;
  } catch (error) {
    document.title = "failed: " + error;
  }
};
</script>"""
LABEXTENSION = ".local/share/jupyter/labextensions/mine/static/page.html"
# What a page gets to read of an address, as its visitor.
READ = """async (url) => {
  try {
    const answer = await fetch(url, { credentials: "include" });
    return await answer.text();
  } catch (error) {
    return String(error);
  }
}"""
WEBSOCKET = """(url) => new Promise((done) => {
  const socket = new WebSocket(url.replace("http", "ws"));
  socket.onmessage = (event) => { socket.send("by the attacker"); done(event.data); };
  socket.onerror = () => done("refused");
})"""
SCRIPT = """(url) => new Promise((done) => {
  const script = document.createElement("script");
  script.src = url;
  script.onload = () => done(window.stolen || "nothing");
  script.onerror = () => done("refused");
  document.head.append(script);
})"""
IMAGE = """(url) => new Promise((done) => {
  const image = new Image();
  image.onload = () => done(image.naturalWidth);
  image.onerror = () => done(0);
  image.src = url;
})"""
FRAME = """(url) => new Promise((done) => {
  const frame = document.createElement("iframe");
  frame.onload = () => {
    try { done(frame.contentDocument.body.textContent); } catch (error) { done("unreadable"); }
  };
  frame.src = url;
  document.body.append(frame);
})"""
POPUP = """(url) => new Promise((done) => {
  const other = window.open(url);
  const read = () => {
    try {
      if (other.location.href !== "about:blank" && other.document.readyState === "complete") {
        return done(other.document.body.textContent);
      }
    } catch (error) {
      return done("unreadable");
    }
    setTimeout(read, 50);
  };
  read();
})"""
OPENER = """() => {
  try { return window.opener.document.body.textContent; } catch (error) { return "unreadable"; }
}"""
# Where an address leads to, as a script gets to know it, and as a window shows it that it has opened.
LEADS_TO = """(url) => fetch(url, { credentials: "include" }).then((answer) => answer.url, String)"""
OPENS = """(url) => new Promise((done) => {
  const [seen, other, until] = [[], window.open(url), Date.now() + 1000];
  const look = () => {
    try { seen.push(other.location.href); } catch (error) { return done("unreadable"); }
    if (Date.now() < until) return setTimeout(look, 1);
    other.close();
    done(seen.join(" "));
  };
  look();
})"""
POST = """(url) => fetch(url, { method: "POST", mode: "no-cors", credentials: "include", body: "by the attacker" })
  .then(() => true, () => false)"""
FORM = """(url) => {
  const form = document.createElement("form");
  form.method = "POST";
  form.action = url;
  document.body.append(form);
  form.submit();
}"""


@pytest.fixture
def page(victim: Learner, attacker: Learner) -> Page:
    """The attacker's page in the victim's browser."""
    attacker.say("page.html", "<!doctype html><title>Look what I have found</title>")
    return victim.visits(attacker, "page.html")


@pytest.fixture
def at_jupyterlab(arena: Arena, new_learner: Callable[..., Learner]) -> tuple[Learner, Learner]:
    """Victim and attacker, as a workshop has them."""
    return new_learner(arena.jupyter), new_learner(arena.jupyter)


@pytest.mark.tries("A page in one's own JupyterLab finds another learner's server through `/spawn` and reads its files")
def test_a_page_beside_jupyterlab_finds_the_victims_server_and_reads_their_files(
    arena: Arena, at_jupyterlab: tuple[Learner, Learner], judge: Judge
) -> None:
    victim, attacker = at_jupyterlab
    arena.exec(victim.user, "echo -n 'the exam' > secret.txt")
    page = LAB_PAGE % arena.front
    arena.exec(attacker.user, f"mkdir -p ~/{LABEXTENSION.rpartition('/')[0]} && echo '{page}' > ~/{LABEXTENSION}")
    opened = victim.open(attacker.link(f"lab/extensions/{LABEXTENSION.partition('labextensions/')[2]}"))
    title = wait_until(opened.title, "the page to be through")
    judge(title == "the exam")


@pytest.mark.tries("A page finds the victim's server through `/spawn`")
def test_a_page_finds_the_victims_server(page: Page, arena: Arena, victim: Learner, judge: Judge) -> None:
    url = arena.front + "/spawn"
    judge(victim.user in page.evaluate(LEADS_TO, url) + page.evaluate(OPENS, url))


@pytest.mark.tries("A page learns the key of the victim's seat")
def test_a_page_learns_no_key(page: Page, arena: Arena, victim: Learner, judge: Judge) -> None:
    addresses = [f"{arena.front}{path}" for path in ("/spawn", "/spawn/lab", f"/seat/{victim.user}/", "/seat", "/")]
    found = [page.evaluate(LEADS_TO, url) for url in (*addresses, victim.base)]
    found += [page.evaluate(OPENS, url) for url in (*addresses, victim.base)]
    assert victim.key
    judge(any(victim.key in text for text in found))


@pytest.mark.tries("A page includes what is the victim's by an address of the front that leads there with the key")
def test_a_page_includes_by_way_of_the_front(page: Page, arena: Arena, victim: Learner, judge: Judge) -> None:
    found = []
    for start in (f"{arena.front}/spawn", f"{arena.front}/seat/{victim.user}"):
        found.append(page.evaluate(SCRIPT, f"{start}/secret.js"))
        found.append(page.evaluate(FRAME, f"{start}/files/secret.txt"))
        found.append(page.evaluate(READ, f"{start}/files/secret.txt"))
        found.append(victim.secret if page.evaluate(IMAGE, f"{start}/secret.gif") else "no image")
    judge(any(victim.secret in text for text in found))


@pytest.mark.tries("`fetch` reads a file of the victim's server, whose id is known")
def test_a_page_reads_a_file_of_the_victims(page: Page, victim: Learner, judge: Judge) -> None:
    judge(page.evaluate(READ, victim.base + "files/secret.txt") == victim.secret)


@pytest.mark.tries("`fetch` sends what it cannot read: a `no-cors` POST arrives at the victim's server")
def test_a_page_posts_without_cors(page: Page, victim: Learner, judge: Judge) -> None:
    page.evaluate(POST, victim.base + "no-cors")
    judge(victim.heard("no-cors") != [])


@pytest.mark.tries("A form posts to the victim's server")
def test_a_page_posts_a_form(page: Page, victim: Learner, judge: Judge) -> None:
    with page.expect_navigation():
        page.evaluate(FORM, victim.base + "by-form")
    judge(victim.heard("by-form") != [])


@pytest.mark.tries("A page opens a WebSocket to the victim's server")
def test_a_page_opens_a_websocket(page: Page, victim: Learner, judge: Judge) -> None:
    judge(page.evaluate(WEBSOCKET, victim.base + "ws") == victim.secret)


@pytest.mark.tries("A page includes a script of the victim's server")
def test_a_page_includes_a_script(page: Page, victim: Learner, judge: Judge) -> None:
    judge(page.evaluate(SCRIPT, victim.base + "secret.js") == victim.secret)


@pytest.mark.tries("A page shows an image of the victim's server")
def test_a_page_shows_an_image(page: Page, victim: Learner, judge: Judge) -> None:
    judge(page.evaluate(IMAGE, victim.base + "secret.gif") > 0)


@pytest.mark.tries("A page frames the victim's server and reads it")
def test_a_page_frames_the_victims_server(page: Page, victim: Learner, judge: Judge) -> None:
    judge(page.evaluate(FRAME, victim.base + "files/secret.txt") == victim.secret)


@pytest.mark.tries("A page frames the victim's server, for clicks that the victim does not mean")
def test_a_page_shows_the_victims_server_in_a_frame(page: Page, victim: Learner, judge: Judge) -> None:
    page.evaluate(FRAME, victim.base + "in-a-frame")
    judge("A learner's server" in [frame.title() for frame in page.frames[1:]])


@pytest.mark.tries("A page opens the victim's server in a window and reads it")
def test_a_page_reads_a_window_that_it_opened(page: Page, victim: Learner, judge: Judge) -> None:
    judge(page.evaluate(POPUP, victim.base + "files/secret.txt") == victim.secret)


@pytest.mark.tries("A page that was opened from the victim's server reads the window it came from")
def test_a_page_reads_the_window_that_opened_it(victim: Learner, attacker: Learner, judge: Judge) -> None:
    attacker.say("page.html", "<!doctype html><title>Look what I have found</title>")
    mine = victim.open(victim.base + "files/secret.txt")
    with victim.context.expect_page() as opened:
        mine.evaluate("(url) => { window.open(url); }", attacker.link("page.html"))
    opened.value.wait_for_load_state()
    judge(opened.value.evaluate(OPENER) == victim.secret)


@pytest.mark.tries("A page has the victim's browser open an address of the victim's server, which does something")
def test_a_page_opens_an_address(page: Page, victim: Learner, judge: Judge) -> None:
    with victim.context.expect_page() as opened:
        page.evaluate("(url) => { window.open(url); }", victim.base + "by-a-link?do=it")
    opened.value.wait_for_load_state()
    judge(victim.heard("by-a-link?do=it") != [])

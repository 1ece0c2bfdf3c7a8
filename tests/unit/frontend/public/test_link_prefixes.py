"""B2: links written for JupyterHub and its friends start a server there; pools say which links are theirs."""

import html
import re

import pytest
from flask.testing import FlaskClient

from common.errors import InvalidPool
from common.records.pool_fields import TAKEN_LINKS, USUAL_LINKS
from common.records.pools import PoolSpec
from frontend.public.views.pages import meant
from tests.unit.frontend.fakes import BROWSER, FakeCluster, put_pool, user_id

NBGITPULLER = "git-pull?repo=https%3A%2F%2Fgit.example%2Fx&urlpath=lab%2Ftree%2Fa.ipynb%3Freset&branch=main"


def go(client: FlaskClient, path: str) -> str:
    """Where the start page at a path leads."""
    page = client.get(path, headers=BROWSER, environ_overrides={"RAW_URI": path})
    assert page.status_code == 200, page.text
    assert "landing.js" in page.text
    (link,) = re.findall(r'href="(/spawn[^"]*)"', page.text)
    return html.unescape(link)


@pytest.mark.parametrize(
    ("link", "target"),
    [
        (f"/hub/user-redirect/{NBGITPULLER}", f"/{NBGITPULLER}"),
        ("/hub/user-redirect/lab", "/lab"),
        ("/hub/user-redirect/some-app/a%2Fb?x", "/some-app/a%2Fb?x"),
        ("/hub/user-redirect/?pool=blue", "?pool=blue&tmpnb-pool="),
        ("/user-redirect/lab/tree/a.ipynb", "/lab/tree/a.ipynb"),
        ("/hub/user/anna/lab/tree/a.ipynb", "/lab/tree/a.ipynb"),
        ("/hub/spawn", ""),
        ("/hub/spawn/anna?profile=big", ""),
        ("/hub/spawn-pending/anna", ""),
        ("/hub", ""),
        ("/hub/", ""),
        ("/hub/home", ""),
        ("/hub/login", ""),
        ("/hub/login?next=%2Fhub%2Fuser-redirect%2Fgit-pull%3Fr%3Da%252Fb%26x%3D%25E9", "/git-pull?r=a%2Fb&x=%E9"),
        ("/hub/oauth_login?next=/hub/login?next=%2Fhub%2Fuser-redirect%2Flab", "/lab"),
        ("/hub/spawn?next=%2Fuser%2Fanna%2Flab%2Ftree%2Fmy%20file.ipynb", "/lab/tree/my%20file.ipynb"),
        ("/hub/login?next=https%3A%2F%2Fevil.example%2F", ""),
        ("/hub/login?next=%2F%2Fevil.example%2F", ""),
        ("/hub/login?next=%2Fhub%2Fhome", ""),
        (f"/{NBGITPULLER}", f"/{NBGITPULLER}"),
        ("/voila/render/a.ipynb", "/voila/render/a.ipynb"),
        ("/edit/a.py", "/edit/a.py"),
        ("/terminals/1", "/terminals/1"),
        ("/retro/notebooks/a.ipynb", "/retro/notebooks/a.ipynb"),
        ("/nbclassic/tree", "/nbclassic/tree"),
        ("/view/a.csv", "/view/a.csv"),
        ("/proxy/8501/", "/proxy/8501/"),
        ("/rstudio/", "/rstudio/"),
        ("/rstudio", "/rstudio"),
    ],
)  # fmt: skip
def test_b2_a_link_for_a_hub_starts_a_server_at_what_it_names(cluster: FakeCluster, link: str, target: str) -> None:
    assert go(cluster.client, link) == f"/spawn{target}"
    assert cluster.agent.requests == []
    # And with a server: the own one.
    cluster.client.get("/spawn", headers=BROWSER)
    page = cluster.client.get(link, headers=BROWSER, environ_overrides={"RAW_URI": link})
    assert "Return to your server" in page.text
    assert f'href="/spawn{html.escape(target)}"' in page.text


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/git-pulls", "/labs/x", "/hub/api/users", "/hub/static/x.js", "/hub/admin", "/services/x", "/static"],
)
def test_b2_other_paths_are_not_there(cluster: FakeCluster, path: str) -> None:
    assert cluster.client.get(path, headers=BROWSER).status_code == 404
    assert cluster.client.get(path).status_code == 404


def test_b2_a_link_is_a_page_to_be_got(browser: FlaskClient) -> None:
    assert browser.post("/rstudio/").status_code == 405
    assert browser.post("/hub/login").status_code == 405


@pytest.mark.parametrize(
    ("pools", "link", "goes_to"),
    [
        # A pool that names the segment itself, before one that has it with all the usual ones.
        ({"default": None, "r": "rstudio"}, "/rstudio/", "r"),
        ({"default": "lab,rstudio", "r": "rstudio"}, "/rstudio/", "default"),
        ({"default": "lab", "a": "rstudio", "r": "rstudio"}, "/rstudio/", "a"),
        ({"default": "lab", "r": None}, "/rstudio/", "default"),
        ({"default": None, "r": "rstudio"}, "/lab", "default"),
        ({"default": None, "r": "rstudio"}, "/rstudio/?tmpnb-pool=default", "default"),
        ({"default": "/my-app/"}, "/my-app/x", "default"),
        ({"default": "lab"}, "/rstudio/", None),
        ({"default": ""}, "/lab", None),
        ({"default": None, "r": ["shiny-apps"]}, "/shiny-apps", "r"),
    ],
)
def test_b2_pools_say_which_links_are_theirs(
    cluster: FakeCluster, pools: dict[str, str | None], link: str, goes_to: str | None
) -> None:
    for name, links in pools.items():
        put_pool(cluster.store, name, link_prefixes=links)
        if name != "default":
            cluster.agent.consume(name)
    cluster.parts.pools.load()
    if goes_to is None:
        assert cluster.client.get(link, headers=BROWSER).status_code == 404
        return
    cluster.client.get(go(cluster.client, link), headers=BROWSER)
    assert [request.pool for request in cluster.agent.requests] == [goes_to]
    for address in ("/api/spawn", "/api/v1/spawn"):
        if "?" not in link:
            assert cluster.client.post(address, json={"path": link}).status_code == 200
            assert cluster.agent.requests[-1].pool == goes_to


def test_b2_a_server_of_a_pool_without_the_link_is_not_offered_for_it(cluster: FakeCluster) -> None:
    put_pool(cluster.store, "r", link_prefixes="rstudio")
    cluster.parts.pools.load()
    cluster.agent.consume("r")
    cluster.client.get("/spawn", headers=BROWSER)
    there = cluster.client.get(go(cluster.client, "/rstudio/"), headers=BROWSER)
    assert there.headers["Location"].startswith(f"/user/{user_id(2)}/rstudio/")
    assert cluster.agent.requests[-1].pool == "r"
    # Now it is the browser's own.
    again = cluster.client.get("/spawn/rstudio/", headers=BROWSER)
    assert again.headers["Location"] == f"/user/{user_id(2)}/rstudio/"


def test_b2_before_consul_has_answered_the_usual_links_are_known(cluster: FakeCluster) -> None:
    cluster.store.delete("tmpnb/main/pools/default")
    client = cluster.browser(cluster.replica())
    assert go(client, "/git-pull?repo=x") == "/spawn/git-pull?repo=x"


def test_b2_a_pool_cannot_take_an_address_of_the_cluster(cluster: FakeCluster) -> None:
    rules = cluster.client.application.url_map.iter_rules()
    own = {rule.rule.split("/")[1] for rule in rules} - {""}
    assert {first for first in own if not first.startswith("<")} <= TAKEN_LINKS
    assert not TAKEN_LINKS & set(USUAL_LINKS)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("spawn", "'spawn' is an address of the cluster itself"),
        ("/hub/", "'hub' is an address of the cluster itself"),
        ("a/b", "the first segment of a path is accepted, such as rstudio, not 'a/b'"),
        ("..", "the first segment of a path"),
        ("a b", "the first segment of a path"),
        (["x"] * 65, "at most 64 entries"),
        (7, "comma-separated text or a list"),
    ],
)
def test_b2_a_wrong_list_is_refused_with_what_is_accepted(value: object, says: str) -> None:
    with pytest.raises(InvalidPool, match="link_prefixes") as caught:
        PoolSpec.parse({"name": "a", "image": "i", "link_prefixes": value}, "pools.toml")
    assert says in str(caught.value)


def test_b2_the_list_replaces_no_server() -> None:
    plain = PoolSpec.parse({"name": "a", "image": "i"}, "pools.toml")
    listed = PoolSpec.parse({"name": "a", "image": "i", "link-prefixes": "/lab, rstudio/,lab"}, "pools.toml")
    assert listed.link_prefixes == ("lab", "rstudio")
    assert listed.generation == plain.generation
    assert PoolSpec.decode("k", listed.encode()) == listed


def test_b2_links_that_lead_to_each_other_end() -> None:
    assert meant("/hub/login", "next=%2Fhub%2Flogin%3Fnext%3D" * 50) == ("", "")

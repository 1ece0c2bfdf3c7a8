"""``/user/<user>/…`` when the proxy tier has no route for it: gone, or only out of reach just now."""

from flask import Blueprint, Response, abort, g, request

from common.broker.messages import Reopen
from common.errors import StoreUnavailable
from common.ids import is_user
from common.records.servers import Claim, Gone, Route
from common.runtime.loops import poll
from common.urls import server_url
from frontend import texts
from frontend.http.responses import answer, go_to, page, pages_are_off, wants_html
from frontend.operations.host_commands import send
from frontend.public.dependencies import dependencies
from frontend.public.issued_paths import was_issued
from frontend.public.targets import BadTarget, below, checked, checked_target, raw_path_and_query, spawn_link
from frontend.public.views.waiting import say_estimate

views = Blueprint("server", __name__)

RETRY_AFTER_S = 3
# How long a learner waits for the way back: the agent answers in milliseconds, and the proxies follow.
REOPEN_S = 3.0
REOPEN_LOOK_S = 0.1
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def gone(user: str, rest: str = "") -> Response:  # noqa: ARG001 the raw path is used, not the decoded one
    """404 for a server that is gone (``{"status": "gone"}`` for programs), 503 for one that should be there."""
    if not is_user(user):
        return _nobodys()
    g.ids["user"] = user
    if request.headers.get("Upgrade", "").lower() == "websocket":
        return Response(status=404)
    before = dependencies().servers.peek(user)
    known = before or dependencies().servers.get(user)
    html = wants_html() and not pages_are_off()
    if known.is_routed:
        if html:
            return page("away.html", 503, RETRY_AFTER_S)
        return answer({"status": "unreachable"}, 503, RETRY_AFTER_S)
    word = known.gone
    if before is not None and (html or known.is_claimed):
        word = _word(user)  # it may just have been left
    left_s = (word.until - dependencies().now()).total_seconds() if word is not None and word.until is not None else 0.0
    is_ending = known.is_claimed and _is_ending(user, word)
    if known.is_claimed and left_s <= 0 and not is_ending:
        # Claimed and without a route: it is being made again at this path.
        if html:
            return page("starting.html", 503, RETRY_AFTER_S)
        return answer({"status": "starting"}, 503, RETRY_AFTER_S)
    if not html:
        return answer({"status": "gone"}, 404)
    return _farewell_page(user, word, left_s, is_ending)


def _word(user: str) -> Gone | None:
    """What was left in Consul about a server that is gone or about to go."""
    try:
        return dependencies().cluster.gone.get(user)
    except StoreUnavailable:
        return None


def _is_ending(user: str, word: Gone | None) -> bool:
    """Whether the word is of the very server that is claimed: its removal is under way, and may take its time."""
    if word is None or word.until is not None:
        return False
    try:
        claim = dependencies().cluster.claims.get(Claim.id_of(word.host, user))
    except StoreUnavailable:
        return False
    return claim is not None and claim.claimed_at < word.at


def _target() -> str:
    """What is asked for below the server."""
    path, query = raw_path_and_query(request.environ)
    try:
        return checked(below(path, 2).lstrip("/"), query)
    except BadTarget:
        return ""


def _nobodys() -> Response:
    """404 at an address that no server ever had: a handout for another installation, a name made up."""
    if not wants_html() or pages_are_off():
        abort(404)
    target = _target()
    return page("nobody.html", 404, target=target.partition("?")[0], go=spawn_link(target))


def _farewell_page(user: str, word: Gone | None, left_s: float, is_ending: bool) -> Response:
    target = _target()
    new = spawn_link(target, fresh=True)
    if left_s > 0:
        return page("leaving.html", 503, left=say_estimate(left_s), user=user, target=target, again=new)
    why = texts.why_ended(word.reason, word.note) if word is not None else texts.UNKNOWN_END
    # While its claim is there, nothing can be made at its address.
    may_return = was_issued(user, has_word=word is not None) and not is_ending
    again = spawn_link(f"user/{user}/{target}") if may_return else None
    return page("gone.html", 404, why=why, target=target, new=new, again=again)


@views.post("/leaving/<user>")
def once_more(user: str) -> Response:
    """Back to a server that is about to go with its host, to save what is on it: 303 to it, once there is a way."""
    word = _word(user) if is_user(user) else None
    if word is None or word.until is None:
        abort(404)
    deps = dependencies()
    try:
        target = checked_target(request.form.get("target", ""))
    except BadTarget:
        target = ""
    send(deps.broker, word.host, Reopen(sent_at=deps.now(), user=user), expires_s=REOPEN_S)
    route_id = Route.id_of(word.host, user)
    poll(lambda: deps.cluster.routes.find(route_id), lambda route: route is not None, REOPEN_S, REOPEN_LOOK_S)
    return go_to(server_url(user, target, None), 303)


for _rule in ("/user/<user>", "/user/<user>/", "/user/<user>/<path:rest>"):
    views.add_url_rule(_rule, "gone", gone, methods=_METHODS, strict_slashes=False)

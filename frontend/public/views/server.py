"""``/user/<user>/…`` when the proxy tier has no route for it: gone, out of reach just now, or about to have one. And
``/seat/<user>/…``, where it leads people to who have shown no key of the seat that they want."""

from flask import Blueprint, Response, abort, g, request

from common.broker.messages import Reopen
from common.errors import StoreUnavailable
from common.ids import is_key_of, is_user
from common.records.servers import Claim, Gone, Route
from common.runtime.loops import poll
from common.store.cluster import ServerRecords
from common.urls import server_url, split_key
from common.vocabulary import RequestRefusal
from frontend import texts
from frontend.http import auth
from frontend.http.responses import answer, go_to, page, pages_are_off, problem, wants_html
from frontend.operations.host_commands import send
from frontend.public import addresses
from frontend.public.dependencies import dependencies
from frontend.public.issued_paths import proof, shown_keys, way_in
from frontend.public.session_cookie import current_server, own_key
from frontend.public.targets import (
    BadTarget,
    below,
    checked,
    checked_target,
    raw_path_and_query,
    same_address,
    spawn_link,
)
from frontend.public.views.waiting import say_estimate

views = Blueprint("server", __name__)

RETRY_AFTER_S = 3
# How long a learner waits for the way back: the agent answers in milliseconds, and the proxies follow.
REOPEN_S = 3.0
REOPEN_LOOK_S = 0.1
# A route that is younger may be on its way to the proxies, where servers have host names and an old address gets any
# ready one at once: some 20 ms, longer when many change. Clocks of two processes differ by four seconds at most.
NEW_S = 5.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 0.7
# Between clocks of machines that keep time together.
SKEW_S = 0.1
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def gone(user: str, rest: str = "") -> Response:  # noqa: ARG001 the raw path is used, not the decoded one
    """404 for a server that is gone (``{"status": "gone"}`` for programs), 503 for one that should be there."""
    if not is_user(user):
        return _nobodys()
    g.ids["user"] = user
    if request.headers.get("Upgrade", "").lower() == "websocket":
        return Response(status=404)
    key, target = _target()
    before = dependencies().servers.peek(user)
    if before is not None and key and addresses.has_host_names():
        before = None  # led here by us: there may be a server since a moment ago
        known = dependencies().cluster.server(user)
    else:
        known = before or dependencies().servers.get(user)
    if known.is_routed and addresses.has_host_names():
        if not addresses.is_at_server():
            return _nobodys()  # it is at its own name
        wait_s = _on_its_way_s(known)
        if wait_s is not None:
            poll(lambda: False, bool, wait_s, wait_s)
            return go_to(addresses.public(server_url(user, target, None, key)), 307)
    return _without_route(user, known, is_news=before is None)


def _on_its_way_s(known: ServerRecords) -> float | None:
    """How long to wait for the proxies to have the route; None: it is no new one. All but those of servers that were
    ready at another address are known to them before anybody is told of the server."""
    if known.route is None or known.claim is None or known.claim.made_as is None:
        return None
    return pause_s((dependencies().now() - known.route.created_at).total_seconds())


def pause_s(age_s: float) -> float | None:
    """How long to wait before whoever asks is led to the same address again, whose route is so old. None: the proxies
    have it for sure, if they have anything.

    As long again as it is old, so that all are fewer than the twenty redirects that browsers follow."""
    if age_s > NEW_S:
        return None
    return LONGEST_PAUSE_S if age_s < -SKEW_S else min(max(FIRST_PAUSE_S, age_s), LONGEST_PAUSE_S)


def seat(user: str, rest: str = "") -> Response:  # noqa: ARG001 as above
    """Back to the server with the key that the browser's cookie has; 403 where it has none that fits."""
    if not is_user(user):
        return _nobodys()
    g.ids["user"] = user
    key, target = own_key(user), _target()[1]
    try:
        known = dependencies().servers.get(user)
    except StoreUnavailable:
        if not key:
            raise
        return go_to(addresses.public(server_url(user, target, None, key)))  # the proxies know whether it fits
    if not known.is_routed:
        return _without_route(user, known, is_news=True)
    digest = known.route.seat if known.route is not None else None
    if digest == "" or (key and (digest is None or is_key_of(digest, key))):
        return go_to(addresses.public(server_url(user, target, None, key if digest != "" else "")))
    return _somebodys(target)


def _somebodys(target: str) -> Response:
    """403 at a seat that the visitor has no key of."""
    reason = RequestRefusal.SEAT
    if not wants_html() or pages_are_off():
        return auth.forbidden(reason)
    own = current_server()
    back = spawn_link("") if own is not None else None
    response = page("seat.html", 403, target=target.partition("?")[0], go=spawn_link(target, fresh=True), back=back)
    return auth.refused(response, reason)


def _without_route(user: str, known: ServerRecords, *, is_news: bool) -> Response:
    """``is_news``: the records were read just now."""
    html = wants_html() and not pages_are_off()
    if known.is_routed:
        if html:
            return page("away.html", 503, RETRY_AFTER_S)
        return answer({"status": "unreachable"}, 503, RETRY_AFTER_S)
    word = known.gone
    if not is_news and (html or known.is_claimed):
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


def _target() -> tuple[str, str]:
    """The key that the path shows, and what is asked for below the server."""
    path, query = raw_path_and_query(request.environ)
    is_servers = request.endpoint in {"server.gone", "server.seat"}
    try:
        return split_key(checked(below(path, 2 if is_servers else 0).lstrip("/"), query))
    except BadTarget:
        return "", ""


def _nobodys() -> Response:
    """404 at an address that no server ever had (a handout for another installation, a name made up), or that is not
    the visitor's."""
    if not wants_html() or pages_are_off():
        abort(404)
    _, target = _target()
    return page("nobody.html", 404, target=target.partition("?")[0], go=spawn_link(target))


def misplaced() -> Response | None:
    """The answer where a host name is no server's, or a server's is asked for what is at the front; None elsewhere."""
    if not addresses.is_misplaced():
        return None
    if addresses.is_too_long():
        return problem(400, "Bad request", "The host name is longer than any can be.", "bad request")
    return _nobodys()


def _farewell_page(user: str, word: Gone | None, left_s: float, is_ending: bool) -> Response:
    shown, target = _target()
    key = proof(user, word, shown_keys(shown))
    if key is None:
        return _nobodys()
    new = spawn_link(target, fresh=True)
    if left_s > 0:
        left = say_estimate(left_s)
        return page("leaving.html", 503, left=left, user=user, key=key, target=target, again=new)
    why = texts.why_ended(word.reason, word.note) if word is not None else texts.UNKNOWN_END
    # While its claim is there, nothing can be made at its address.
    again = spawn_link(same_address(user, key, target)) if not is_ending else None
    return page("gone.html", 404, why=why, target=target, new=new, again=again)


@views.post("/leaving/<user>")
def once_more(user: str) -> Response:
    """Back to a server that is about to go with its host, to save what is on it: 303 to it, once there is a way."""
    word = _word(user) if is_user(user) else None
    keys = shown_keys(request.form.get("key", ""))
    if word is None or word.until is None or proof(user, word, keys) is None:
        abort(404)
    deps = dependencies()
    try:
        target = checked_target(request.form.get("target", ""))
    except BadTarget:
        target = ""
    send(deps.broker, word.host, Reopen(sent_at=deps.now(), user=user), expires_s=REOPEN_S)
    route_id = Route.id_of(word.host, user)
    poll(lambda: deps.cluster.routes.find(route_id), lambda route: route is not None, REOPEN_S, REOPEN_LOOK_S)
    return go_to(addresses.public(server_url(user, target, None, way_in(user, word.seat, keys))), 303)


for _rule in ("/user/<user>", "/user/<user>/", "/user/<user>/<path:rest>"):
    views.add_url_rule(_rule, "gone", gone, methods=_METHODS, strict_slashes=False)
for _rule in ("/seat/<user>", "/seat/<user>/", "/seat/<user>/<path:rest>"):
    views.add_url_rule(_rule, "seat", seat, strict_slashes=False)

"""The checker against histories made by hand: a good one stays silent, and each way to break it names its invariant."""

from dataclasses import replace

import pytest

from tests.faults.checker import RULES, check
from tests.faults.history import (
    Box,
    Cull,
    Fault,
    Given,
    History,
    HostLook,
    Kind,
    Look,
    Outcome,
    Request,
    Response,
    Stream,
)

ANNA, BERT, FREE = "anna", "bert", "free"


def box(user: str, **fields: object) -> Box:
    return replace(Box(f"c-{user}", user, "light", "running", user != FREE), **fields)


def look(at_s: float, *boxes: Box, **fields: object) -> Look:
    """One host with these containers; routes, claims and pointers as they should be for them."""
    boxes = boxes or (box(ANNA), box(BERT), box(FREE))
    host = HostLook(boxes, {"light": 3}, ready_count=sum(1 for b in boxes if not b.claimed))
    routes = {b.user: f"10.0.0.1:{i}" for i, b in enumerate(boxes)}
    claims = {b.user: f"r-{b.user}" for b in boxes if b.claimed}
    return replace(Look(at_s, {"h1": host}, routes, claims, pointers=dict.fromkeys(routes, "h1")), **fields)


def asked(by: str, **fields: object) -> Request:
    return replace(Request(f"r-{by}", Kind.BROWSER, "light", 1.0, 2.0, Outcome.SERVED, by), **fields)


GOOD = History(
    requests=(asked(ANNA), asked(BERT, kind=Kind.PROGRAM)),
    given=(Given(2.0, "r-anna", ANNA), Given(2.0, "r-bert", BERT)),
    looks=(look(3.0), look(5.0, box(ANNA), box(FREE)), look(100.0, calm=True), look(115.0, calm=True)),
    responses=(Response(4.0, ANNA, 200, ANNA), Response(4.0, BERT, 404)),
    streams=(Stream(ANNA, "h1", 3.0),),
    culls=(Cull(4.5, BERT),),
    faults=(Fault("agent killed", 10.0, 20.0),),
)


def broken(**fields: object) -> History:
    return replace(GOOD, **fields)


def last(seen: Look) -> tuple[Look, ...]:
    """The good looks, but both calm ones like this."""
    return (*GOOD.looks[:2], replace(seen, at_s=100.0, calm=True), replace(seen, at_s=115.0, calm=True))


LOSS = Fault("consul lost its data", 10.0, 20.0, loses_records=True)

BAD = {
    "I1 two replies": ("I1", broken(given=(*GOOD.given, Given(3.0, "r-other", ANNA)))),
    "I1 two clients that only know themselves": (
        "I1",
        broken(given=(*GOOD.given, Given(3.0, "~1", BERT))),
    ),
    "I1 another claim": ("I1", broken(looks=(look(2.5, claims={ANNA: "r-other"}), *GOOD.looks))),
    "I2 no news": ("I2", broken(requests=(asked("x", outcome=Outcome.OPEN, user=""),))),
    "I2 waits beside ready servers": ("I2", broken(requests=(asked("x", outcome=Outcome.WAITING, user=""),))),
    "I2 broke off without a fault": ("I2", broken(requests=(asked("x", outcome=Outcome.BROKEN, user=""),))),
    "I3 an agent holds it ready": (
        "I3",
        broken(looks=last(look(9.0, hosts={"h1": HostLook(GOOD.looks[0].hosts["h1"].boxes, {}, frozenset({ANNA}))}))),
    ),
    "I3 its mark is gone": ("I3", broken(looks=(*GOOD.looks, look(120.0, box(ANNA, claimed=False))))),
    "I3 nothing says that it is claimed": (
        "I3",
        broken(
            looks=(
                look(3.0, box(ANNA, claimed=False), claims={ANNA: "r-anna"}),
                *last(look(9.0, box(ANNA, claimed=False), box(FREE))),
            )
        ),
    ),
    "I3 counted as ready": (
        "I3",
        broken(looks=last(look(9.0, hosts={"h1": replace(GOOD.looks[0].hosts["h1"], ready_count=2)}))),
    ),
    "I4 a stream broke": ("I4", broken(streams=(Stream(ANNA, "h1", 3.0, broken_s=12.0),))),
    "I4 a number is missing": ("I4", broken(streams=(Stream(ANNA, "h1", 3.0, gap=True),))),
    "I4 a server is gone": ("I4", broken(looks=last(look(9.0, box(FREE))))),
    "I4 a server ended": ("I4", broken(looks=last(look(9.0, box(ANNA, state="exited"), box(FREE))))),
    "I4 another container": ("I4", broken(looks=last(look(9.0, box(ANNA, container="c-new"), box(FREE))))),
    "I5 somebody else answered": ("I5", broken(responses=(Response(4.0, ANNA, 404, BERT),))),
    "I6 a dead container stays": (
        "I6",
        broken(looks=last(look(9.0, box(ANNA), box(FREE), box("x", state="exited")))),
    ),
    "I6 a container without route": ("I6", broken(looks=last(look(9.0, routes={ANNA: "a:1", BERT: "a:2"})))),
    "I6 a route that leads nowhere": (
        "I6",
        broken(looks=last(look(9.0, routes=dict.fromkeys((ANNA, BERT, FREE, "x"), "a:1")))),
    ),
    "I6 a claim of nothing": (
        "I6",
        broken(looks=last(look(9.0, claims={ANNA: "r-anna", BERT: "r-bert", "x": "r-x"}))),
    ),
    "I6 never at rest": ("I6", broken(looks=GOOD.looks[:3])),
    "I7 one too many": ("I7", broken(looks=(look(2.5, *(box(f"u{i}") for i in range(4))), *GOOD.looks))),
    "I8 no claim": ("I8", broken(looks=last(look(9.0, claims={ANNA: "r-anna"})), culls=())),
    "I8 no route": ("I8", broken(looks=last(look(9.0, routes={ANNA: "a:1", FREE: "a:2"})))),
    "I8 no pointer": ("I8", broken(looks=last(look(9.0, pointers={ANNA: "h1"})))),
    "I8 a pointer to another host": (
        "I8",
        broken(looks=last(look(9.0, pointers={ANNA: "h1", BERT: "h1", FREE: "h2"}))),
    ),
    "I8 culled for it": ("I8", broken(looks=last(look(9.0, box(FREE))), faults=(LOSS,))),
}


def test_a_good_history_has_no_violations() -> None:
    assert check(GOOD) == []


@pytest.mark.parametrize("case", BAD)
def test_what_is_broken_is_named(case: str) -> None:
    invariant, history = BAD[case]
    assert invariant in {violation.invariant for violation in check(history)}


def test_every_invariant_is_shown_broken() -> None:
    assert {invariant for invariant, _ in BAD.values()} == set(RULES)


ALLOWED = {
    "a break of the connection while the proxy is killed": broken(
        streams=(Stream(ANNA, "h1", 3.0, broken_s=12.0),),
        faults=(Fault("haproxy killed", 10.0, 20.0, breaks_connections=True),),
    ),
    "the end of a server on a host that was destroyed": broken(
        looks=last(look(9.0, box(FREE))), faults=(Fault("host destroyed", 10.0, 20.0, hurts=frozenset({"h1"})),)
    ),
    "the end of a server that was culled": broken(
        looks=last(look(9.0, box(FREE))), culls=(Cull(4.0, ANNA), Cull(4.0, BERT))
    ),
    "the end of a server that was culled during a look": broken(
        looks=(GOOD.looks[0], look(4.0, box(ANNA), box(FREE), ended_s=4.9), *GOOD.looks[2:])
    ),
    "a request broken off by a fault": broken(requests=(asked("x", outcome=Outcome.BROKEN, user="", ended_s=12.0),)),
    "waiting while nothing is free": broken(
        requests=(asked("x", outcome=Outcome.WAITING, user=""),), looks=last(look(9.0, box(ANNA), box(BERT)))
    ),
    "a host that does not answer for a while": broken(
        looks=(GOOD.looks[0], look(9.0, hosts={"h1": HostLook(None, {"light": 3})}), *GOOD.looks[2:])
    ),
    "consul away for a while": broken(looks=(GOOD.looks[0], look(9.0, routes=None, claims=None), *GOOD.looks[2:])),
    "a client that does not know the cluster's name for its request": broken(given=(Given(2.0, "~1", ANNA),)),
    "a claim that no longer knows its request": broken(looks=(look(2.5, claims={ANNA: ""}), *GOOD.looks)),
    "a leftover that is gone by the next look": broken(
        looks=(*GOOD.looks[:2], look(90.0, box(ANNA), box("x", state="exited"), calm=True), *GOOD.looks[2:])
    ),
}


@pytest.mark.parametrize("case", ALLOWED)
def test_what_is_allowed_is_not_reported(case: str) -> None:
    assert check(ALLOWED[case]) == []

"""What an agent counts and what it writes into the audit log, on fakes."""

from datetime import timedelta

from common.broker import queues
from common.broker.messages import CullRequest
from common.broker.port import Outgoing
from common.errors import StartFailed
from common.records.hosts import HostState
from common.runtime.clock import utc_now
from common.vocabulary import EndReason
from tests.support.watching import Counted, audited
from tests.unit.agent.world import HOST, World, pool


def test_a_claim_is_counted_timed_by_stage_and_noted() -> None:
    world = World()
    world.settle()
    claimed = Counted("tmpnb_claims_total", pool="light", outcome="claimed")
    waited = Counted("tmpnb_time_to_server_seconds_count", pool="light")
    stages = [Counted("tmpnb_claim_stage_seconds_count", stage=stage) for stage in ("queue", "claim", "rename")]
    request = world.request()
    with audited() as lines:
        reply = world.send(request)
    assert reply is not None
    assert (claimed(), waited(), [stage() for stage in stages]) == (1, 1, [1, 1, 1])
    (line,) = lines
    assert (line.event, line.user, line.request_id) == ("server.claimed", reply.user, request.request_id)
    assert (line.host, line.pool) == (HOST, "light")
    assert line.container


def test_asked_again_is_not_claimed_again() -> None:
    world = World()
    world.settle()
    request = world.request()
    world.send(request)
    claimed = Counted("tmpnb_claims_total", pool="light", outcome="claimed")
    repeated = Counted("tmpnb_claims_total", pool="light", outcome="repeated")
    waited = Counted("tmpnb_time_to_server_seconds_count", pool="light")
    with audited() as lines:
        world.send(request)
    assert (claimed(), repeated(), waited(), lines) == (0, 1, 0, [])


def test_a_request_past_its_deadline_is_counted_and_noted() -> None:
    world = World()
    world.settle()
    dropped = Counted("tmpnb_claims_total", pool="light", outcome="dropped")
    with audited() as lines:
        world.send(world.request(deadline=utc_now() - timedelta(seconds=1)))
    assert dropped() == 1
    assert [(line.event, line.reason) for line in lines] == [("request.dropped", "expired")]


def test_bytes_that_are_no_request_are_counted() -> None:
    world = World()
    world.settle()
    unreadable = Counted("tmpnb_claims_total", pool="light", outcome="unreadable")
    world.requester.publish(queues.spawn("light"), Outgoing(b"{", "m"))
    assert unreadable() == 1


def test_starts_are_counted_by_outcome_and_reason() -> None:
    ready = Counted("tmpnb_server_starts_total", pool="light", outcome="ready")
    seconds = Counted("tmpnb_server_start_seconds_count", pool="light")
    World().settle()
    assert (ready(), seconds()) == (3, 3)

    failed = Counted("tmpnb_server_start_failures_total", pool="light", reason="no_answer")
    mute = World()
    mute.probe.mute = True
    mute.turn(2)
    assert failed() >= 1


def test_a_refused_cull_is_counted_and_noted() -> None:
    world = World(pool(pool_size=1, cull_timeout=600.0))
    world.settle()
    reply = world.send(world.request())
    assert reply is not None
    refused = Counted("tmpnb_culls_refused_total", pool="light", reason="active")
    with audited() as lines:
        cull = CullRequest(sent_at=utc_now(), user=reply.user, reason="idle")
        world.requester.publish(queues.host(HOST), Outgoing(cull.encode(), "m"))
    assert refused() == 1
    assert [(line.event, line.user) for line in lines] == [("server.cull_refused", reply.user)]


def test_the_collector_tells_what_the_host_has() -> None:
    world = World(pool("p", pool_size=4, ready=2))
    world.settle()
    for _ in range(2):
        world.send(world.request(pool="p"))
    world.settle()
    world.failures.failed("p", world.specs["p"].generation, utc_now(), StartFailed(EndReason.NO_ANSWER))
    world.state, world.store.skew_s = HostState.DRAINING, 3600.0
    told = {
        (s.name, *sorted(s.labels.values())): s.value for family in world.agent.status.collect() for s in family.samples
    }
    assert told[("tmpnb_pool_servers", "p", "ready")] == 2
    assert told[("tmpnb_pool_servers", "claimed", "p")] == 2
    assert told[("tmpnb_pool_servers", "p", "starting")] == 0
    assert (told[("tmpnb_pool_capacity", "p")], told[("tmpnb_pool_failing", "p")]) == (4, 1)
    assert (told[("tmpnb_host_state", "draining")], told[("tmpnb_host_state", "active")]) == (1, 0)
    assert (told[("tmpnb_host_claiming",)], told[("tmpnb_host_clock_skew_seconds",)]) == (0, 3600.0)
    assert told[("tmpnb_containers_stuck",)] == 0


def test_the_loops_success_is_the_engines_listing() -> None:
    world = World()
    world.settle()
    since = Counted("tmpnb_reconcile_last_success_timestamp_seconds")
    world.engine.down = True
    world.turn(2)
    assert since() == 0
    world.engine.down = False
    world.turn(1)
    assert since() > 0

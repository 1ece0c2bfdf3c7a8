"""The agent as a process, on real Docker, Consul and RabbitMQ."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker
import pytest
import requests
from testcontainers.core.container import DockerContainer

from common.broker import queues
from common.broker.messages import CullRequest, Event, RecyclePool, SetHostState, SpawnRequest
from common.broker.port import Outgoing
from common.broker.rabbitmq import RabbitAddress, RabbitSubscriber
from common.ids import new_request_id, new_user
from common.records.hosts import HostState
from common.records.servers import Gone
from common.records.tickets import Ticket, TicketState
from common.runtime.clock import utc_now
from common.vocabulary import EndReason
from frontend.admin.live.feed import Feed
from tests.conftest import CONSUL_IMAGE
from tests.support.agent_rig import KILL, ROOT, TERM, AgentRig
from tests.support.hanging_docker import HangingDocker
from tests.support.urls import plain
from tests.support.waiting import wait_until


@pytest.fixture
def rig(consul_url: str, rabbitmq: RabbitAddress, docker_images: Any, tmp_path: Path) -> Iterator[AgentRig]:
    rig = AgentRig(consul_url, rabbitmq, docker_images.echo, tmp_path)
    yield rig
    rig.close()


def cull(user: str, reason: str, **fields: Any) -> CullRequest:
    return CullRequest.model_validate({"sent_at": utc_now(), "user": user, "reason": reason} | fields)


def test_servers_become_ready_and_their_routes_lead_to_them(rig: AgentRig, consul_url: str) -> None:
    rig.apply(rig.spec())
    rig.start()
    record = rig.ready(3)
    routes = rig.routes()
    assert len(routes) == 3
    assert len({route.port for route in routes.values()}) == 3
    assert {rig.visit(f"/user/{user}/hello") for user in routes} == {200}
    assert record.state is HostState.ACTIVE
    assert record.memory_bytes > 0
    services = requests.get(f"{consul_url}/v1/health/service/tmpnb-agent?passing", timeout=5).json()
    assert rig.host in {tag for found in services for tag in found["Service"]["Tags"]}


def test_a_request_gets_a_server_that_opens_and_the_pool_is_refilled(rig: AgentRig) -> None:
    rig.apply(rig.spec(pool_size=4, ready=2))
    rig.start()
    rig.ready(2)
    reply = rig.claim()
    assert rig.visit(reply.url) == 200
    assert rig.visit(reply.url.replace("token=", "token=x")) == 403
    assert reply.user in rig.claims()
    assert [name.endswith(".claimed") for name in rig.named(reply.user)] == [True]
    wait_until(lambda: rig.counts() == (2, 1), "two ready servers again beside the claimed one")


def test_requests_beyond_the_capacity_wait_in_line_until_a_server_is_free(rig: AgentRig) -> None:
    """I1, I2, I7."""
    rig.apply(rig.spec(pool_size=2))
    rig.start()
    rig.ready(2)
    first, second = rig.claim(), rig.claim()
    assert first.user != second.user
    assert rig.request(wait_s=1.0, window_s=60.0) is None
    rig.command(cull(first.user, "operator"))
    wait_until(lambda: len(rig.claims() - {first.user, second.user}) == 1, "the one in line to get the free server")
    wait_until(lambda: first.user not in rig.routes() and len(rig.containers()) == 2, "the culled server to be gone")


def test_a18_while_rabbitmq_takes_no_messages_nothing_is_claimed_and_afterwards_the_line_is_served(
    rig: AgentRig, rabbitmq_container: DockerContainer
) -> None:
    """I1, I2: nobody could be told of a server; what was confirmed before stays in its queue."""
    rig.apply(rig.spec(pool_size=1))
    rig.start()
    rig.ready(1)
    first = rig.claim()
    with ThreadPoolExecutor(1) as thread:
        in_line = thread.submit(rig.request, wait_s=90.0)
        wait_until(lambda: rig.waiting() == 1, "the request to be in line")
        try:
            assert rabbitmq_container.exec(["rabbitmqctl", "set_disk_free_limit", "100000GB"]).exit_code == 0
            wait_until(lambda: "takes no messages" in rig.problem(), "the agent to say so")
            (name,) = rig.containers()
            rig.kill_container(name)
            wait_until(lambda: rig.counts() == (1, 0), "a ready server in its place")
            assert rig.waiting() == 1
            assert rig.claims() <= {first.user}
        finally:
            rabbitmq_container.exec(["rabbitmqctl", "set_disk_free_limit", "50MB"])
        second = in_line.result(60)
    assert second is not None
    assert rig.visit(second.url) == 200
    assert rig.claims() == {second.user}


def test_a_killed_agent_s_successor_adopts_everything_and_serves_at_once(rig: AgentRig) -> None:
    """I4."""
    rig.apply(rig.spec())
    agent = rig.start()
    rig.ready(3)
    reply = rig.claim()
    before = set(rig.containers())
    agent.signal(KILL)
    assert rig.visit(reply.url) == 200
    successor = rig.start()
    again = rig.claim()
    assert again.user != reply.user
    assert rig.visit(reply.url) == rig.visit(again.url) == 200
    assert {name.removesuffix(".claimed") for name in rig.containers()} == {
        name.removesuffix(".claimed") for name in before
    }
    assert "session of a dead predecessor closed" in successor.events()


def test_a_server_at_an_old_path_is_made_once_whenever_the_agent_is_killed(rig: AgentRig) -> None:
    """I1, I2, I6, I7: killed after the promise, while the container starts; the request comes once more."""
    user, request_id = new_user(), new_request_id()
    slow = "sleep 3; exec echo-server --ip {ip} --port {port} --base-path {base_path} --token={token}"
    rig.apply(rig.spec(pool_size=2))
    agent = rig.start()
    rig.ready(2)
    rig.apply(rig.spec(pool_size=2, command=slow))
    key, now = rig.keys.ticket(request_id), utc_now()
    ticket = Ticket(request_id=request_id, pool=rig.pool, created_at=now, seen_at=now, user=user, path="lab?x=1")
    rig.store.put(key, ticket.encode())
    request = SpawnRequest(sent_at=now, request_id=request_id, pool=rig.pool, window_s=30, path="lab?x=1", user=user)

    def publish() -> None:
        rig.requester.publish(queues.spawn(rig.pool), Outgoing(request.encode(), request_id))

    def told() -> Ticket:
        entry = rig.store.get(key)
        assert entry is not None
        return Ticket.decode(key, entry.value)

    def mine() -> list[str]:
        return rig.named(user)

    def is_running() -> bool:
        return any(c.labels["tmpnb.user"] == user and c.status == "running" for c in rig.containers().values())

    publish()
    # One that was only created is a leftover, and the ticket of a server that is not there is refused.
    wait_until(is_running, "the container to be started")
    agent.signal(KILL)
    assert user in rig.claims(), "the promise outlives the agent"
    assert user not in rig.routes()
    publish()
    rig.start()
    wait_until(lambda: told().state is not TicketState.WAITING, "the ticket to be told")
    assert told().state is TicketState.ASSIGNED
    assert [name.endswith(".claimed") for name in mine()] == [True]
    assert rig.visit(told().url or "") == 200
    assert plain(told().url or "").startswith(f"/user/{user}/lab?x=1&token=")
    assert len([c for c in rig.containers().values() if c.status == "running"]) <= 2


def test_a_stopped_agent_leaves_servers_and_routes_and_takes_its_record_with_it(rig: AgentRig) -> None:
    """I4."""
    rig.apply(rig.spec())
    agent = rig.start()
    rig.ready(3)
    reply = rig.claim()
    assert agent.signal(TERM) == 0
    assert rig.record() is None
    assert len(rig.routes()) == len(rig.containers()) == 3
    assert rig.visit(reply.url) == 200


def test_the_life_of_host_and_servers_is_told_to_those_who_watch(rig: AgentRig, rabbitmq: RabbitAddress) -> None:
    feed = Feed()
    listener = RabbitSubscriber(rabbitmq, feed.hear)
    listener.start()
    wait_until(lambda: listener.connected, "the listener to be connected")

    def told(name: str) -> Event | None:
        found = (h.event for h in feed.since(0) if h.event.name == name and h.event.host == rig.host)
        return next(found, None)

    def wait_told(name: str) -> Event:
        event = wait_until(lambda: told(name), f"{name} to be told", 60)
        assert event is not None
        return event

    try:
        broken = rig.spec(f"{rig.pool}-broken", command="echo I am broken; exit 3", pool_size=1)
        rig.apply(rig.spec(pool_size=1), broken)
        agent = rig.start()
        wait_told("host.joined")
        ready = wait_told("server.ready")
        assert ready.detail["stages_ms"].keys() >= {"start", "probe", "route"}
        reply = rig.claim()
        claimed = wait_told("server.claimed")
        assert (claimed.user, claimed.pool) == (reply.user, rig.pool)
        assert 0 < claimed.detail["time_to_server_s"] < 60
        rig.command(cull(reply.user, "operator"))
        culled = wait_told("server.culled")
        assert (culled.user, culled.detail["reason"]) == (reply.user, "operator")
        failed = wait_told("server.failed")
        assert (failed.pool, failed.detail) == (broken.name, {"reason": "exited"})
        rig.command(SetHostState(sent_at=utc_now(), state=HostState.CORDONED))
        assert wait_told("host.state").detail["state"] == "cordoned"
        agent.signal(TERM)
        wait_told("host.left")
    finally:
        listener.stop()


def test_an_idle_server_is_culled_unless_it_computes(rig: AgentRig) -> None:
    rig.apply(rig.spec(cull_timeout=0.001))
    agent = rig.start()
    rig.ready(3)
    busy, idle = rig.claim(), rig.claim()
    assert rig.visit(busy.url.replace("/hello", "/busy"), "PUT") == 200
    rig.command(cull(busy.user, "idle"))
    rig.command(cull(idle.user, "idle"))
    wait_until(lambda: idle.user not in rig.routes(), "the idle server to be culled")
    wait_until(lambda: "cull refused" in agent.events(), "the busy server's cull to be refused")
    assert rig.visit(busy.url) == 200
    wait_until(lambda: idle.user not in rig.claims(), "the culled server's claim to be closed")


def test_an_image_that_does_not_start_is_reported_and_other_pools_serve(rig: AgentRig) -> None:
    broken = rig.spec(f"{rig.pool}-broken", command="echo secret {token}; echo no such notebook >&2; exit 3")
    rig.apply(broken, rig.spec())
    rig.start()
    rig.ready(3)

    def failure() -> Any:
        record = rig.record()
        return record and record.pools[broken.name].last_failure

    found = wait_until(failure, "the failure in the host record")
    assert found.reason is EndReason.EXITED
    assert "no such notebook" in found.log
    assert "secret <token>" in found.log
    assert rig.visit(rig.claim().url) == 200


def test_an_image_that_is_nowhere_and_a_pool_too_big_are_reported(rig: AgentRig) -> None:
    missing = rig.spec(f"{rig.pool}-missing", image="127.0.0.1:9/nowhere:1")
    big = rig.spec(f"{rig.pool}-big", mem_limit="4000g")
    rig.apply(missing, big, rig.spec(pool_size=1))
    rig.start()
    rig.ready(1)

    def both() -> Any:
        record = rig.record()
        return record and record.pools[missing.name].last_failure and record

    record = wait_until(both, "the missing image in the host record")
    assert "127.0.0.1:9/nowhere:1" in record.pools[missing.name].last_failure.note
    assert "4000g" in record.pools[big.name].last_failure.note
    assert record.pools[big.name].capacity == 0


def test_when_consul_loses_everything_all_records_are_written_again_and_nobody_is_culled(rig: AgentRig) -> None:
    """I8."""
    rig.apply(rig.spec())
    rig.start()
    rig.ready(3)
    reply = rig.claim()
    containers, routes = set(rig.containers()), rig.routes()
    rig.lose_records()
    wait_until(lambda: rig.routes() == routes, "the routes to be written again")
    wait_until(lambda: rig.claims() == {reply.user}, "the claim to be written again")
    wait_until(lambda: rig.counts() == (2, 1), "the host record to be written again")
    assert set(rig.containers()) == containers
    assert rig.visit(rig.claim().url) == 200


# Every name that DNS gives for these addresses.
NAMES = """
import json, socket, sys
found = []
for address in sys.argv[1:]:
    try:
        name, aliases, _ = socket.gethostbyaddr(address)
        found += [name, *aliases]
    except OSError:
        pass
print(json.dumps(found))
"""


def test_a10_the_names_that_a_server_can_ask_dns_for_tell_no_learner_s_id(rig: AgentRig) -> None:
    """Ready servers' ids are as good: each becomes a learner's."""
    rig.apply(rig.spec(pool_size=4, ready=3))
    rig.start()
    rig.ready(3)
    reply = rig.claim()
    # The host's record may be a moment behind: its three are then those of before the claim.
    wait_until(lambda: len(rig.routes()) == 4, "the replacement's route")
    (mine,) = rig.named(reply.user)
    containers = rig.containers()
    networks = [network for c in containers.values() for network in c.attrs["NetworkSettings"]["Networks"].values()]
    addresses = [network["IPAddress"] for network in networks if network["IPAddress"]]
    names = json.loads(containers[mine].exec_run(["python3", "-c", NAMES, *addresses]).output)
    assert len([name for name in names if name.startswith("tmpnb-")]) >= 3, (
        "the other servers of the host can be asked for"
    )
    told = " ".join(names)
    assert [user for user in rig.routes() if user in told] == []


def test_a_crashed_server_is_withdrawn_and_replaced(rig: AgentRig) -> None:
    rig.apply(rig.spec())
    rig.start()
    rig.ready(3)
    reply = rig.claim()
    rig.kill_container(rig.named(reply.user)[0])
    wait_until(lambda: reply.user not in rig.routes(), "its route to be withdrawn")
    wait_until(lambda: reply.user not in rig.claims(), "its claim to be closed")
    rig.ready(3)


def test_a15_in_a_network_made_by_hand_nothing_is_started_until_it_is_right(rig: AgentRig) -> None:
    name = f"tmpnb-{rig.cluster}"
    with contextlib.closing(docker.from_env()) as client:
        by_hand = client.networks.create(name)
        try:
            rig.apply(rig.spec(pool_size=2), rig.spec(f"{rig.pool}-bridge", docker_network="bridge", pool_size=1))
            rig.start()
            record = rig.ready(1, f"{rig.pool}-bridge")
            assert f"network {name} lets its containers reach each other" in record.problem
            assert f"docker network rm {name}" in record.problem
            assert record.pools[rig.pool].capacity == 0
            assert record.pools[rig.pool].limited_by
            assert {c.labels["tmpnb.pool"] for c in rig.containers().values()} == {f"{rig.pool}-bridge"}
        finally:
            by_hand.remove()
    record = rig.ready(2)
    assert record.problem == ""
    rig.claim()


# A process that needs more than there is; with an argument, one for which the kernel ends the server.
EAT = """
import os, pathlib, sys
if len(sys.argv) > 1:
    for each in pathlib.Path("/proc").glob("[0-9]*"):
        if b"echo" in (each / "cmdline").read_bytes() and int(each.name) not in (1, os.getpid()):
            (each / "oom_score_adj").write_text("1000")
eaten = bytearray(10**9)
"""


def test_c5_a_server_that_needs_more_memory_says_so_to_its_learner_and_the_operator(rig: AgentRig) -> None:
    """One that is ended by the kernel itself, and one of which another process is."""
    rig.apply(rig.spec(pool_size=4, ready=2))
    agent = rig.start(TMPNB_AUDIT_FILE=str(rig.folder / "audit.log"))
    rig.ready(2)
    lost, kept = rig.claim(), rig.claim()
    rig.ready(2)
    for reply, arguments in ((lost, ["the server"]), (kept, [])):
        (name,) = rig.named(reply.user)
        rig.containers()[name].exec_run(["python3", "-c", EAT, *arguments])
    key = rig.keys.gone_of(lost.user)
    entry = wait_until(lambda: rig.store.get(key), "word of the one that ended")
    assert entry is not None
    word = Gone.decode(key, entry.value)
    assert (word.reason, word.note) == (EndReason.MEMORY, "64 MiB")

    def audited() -> dict[str, str]:
        lines = [json.loads(line) for line in (rig.folder / "audit.log").read_text().splitlines()]
        return {line["event"]: line["user"] for line in lines if line.get("reason") == "memory"}

    told = {"server.culled": lost.user, "server.out_of_memory": kept.user}
    wait_until(lambda: audited() == told, "both to be in the audit log")
    assert rig.visit(kept.url) == 200

    def counted() -> int:
        record = rig.record()
        return record.pools[rig.pool].out_of_memory if record else 0

    wait_until(lambda: counted() == 2, "both to be counted in the host record")
    assert agent.running


def test_a16_removals_that_hang_and_fail_hold_up_neither_starts_nor_other_removals(
    rig: AgentRig, tmp_path: Path
) -> None:
    """I7: their places stay taken. ``TMPNB_MAX_DOCK_WORKERS`` is as many as hang."""
    rig.apply(rig.spec(pool_size=6, ready=1))
    with contextlib.closing(HangingDocker(tmp_path / "docker.sock", 50.0)) as engine:
        rig.start(**engine.environment)
        rig.ready(1)
        learners = []
        for _ in range(4):
            learners.append(rig.claim())
            rig.ready(1)
        containers = {reply.user: rig.containers()[rig.named(reply.user)[0]].id for reply in learners}
        stuck, fine = learners[:2], learners[2:]
        engine.hanging = {containers[reply.user] for reply in stuck}
        for reply in stuck:
            rig.command(cull(reply.user, "operator"))
        wait_until(lambda: len(set(engine.tries)) == 2, "both removals to hang")
        for reply in fine:
            rig.command(cull(reply.user, "operator"))
        wait_until(lambda: not any(rig.named(reply.user) for reply in fine), "the others to be removed", 25)
        rig.claim()
        wait_until(lambda: rig.counts() == (1, 1), "a replacement to start", 25)

        def problem() -> str:
            record = rig.record()
            return record.problem if record else ""

        wait_until(lambda: all(each[:12] in problem() for each in engine.hanging), "both to be named", 60)
        rig.apply(rig.spec(pool_size=4))
        rig.claim()
        wait_until(lambda: rig.counts() == (0, 2), "two places to be all that is left")
        assert len(rig.containers()) == 4
        engine.hanging = set()
        wait_until(lambda: rig.counts() == (2, 2), "the places to be free again", 120)
        assert "does not remove" not in problem()


def test_two_agents_of_one_name_do_not_share_it(rig: AgentRig) -> None:
    rig.apply(rig.spec())
    rig.start()
    rig.ready(3)
    second = rig.start()
    phrase = "another agent holds this host's name; this one claims nothing until it is gone"
    wait_until(lambda: phrase in second.events(), "the second agent to complain")
    for _ in range(3):
        rig.claim()
    assert "server claimed" not in second.events()


def test_a_cordon_outlives_the_agent_and_a_drain_ends_empty(rig: AgentRig) -> None:
    rig.apply(rig.spec())
    agent = rig.start()
    rig.ready(3)
    reply = rig.claim()
    rig.command(SetHostState(sent_at=utc_now(), state=HostState.CORDONED))
    wait_until(lambda: (r := rig.record()) and r.state is HostState.CORDONED, "the cordon")
    agent.signal(TERM)
    rig.start()
    rig.ready(2)
    assert rig.request(wait_s=1.0, window_s=60.0) is None, "a cordoned host takes no requests"
    rig.command(SetHostState(sent_at=utc_now(), state=HostState.DRAINING))
    wait_until(lambda: set(rig.routes()) == {reply.user}, "all but the claimed server to be retired")
    rig.command(cull(reply.user, "operator"))
    wait_until(lambda: not rig.containers(), "the host to be empty")
    rig.command(SetHostState(sent_at=utc_now(), state=HostState.ACTIVE))
    wait_until(lambda: len(rig.claims()) == 1, "the one in line to be served after all")


def test_a_new_image_or_a_recycle_replaces_ready_servers_only(rig: AgentRig) -> None:
    rig.apply(rig.spec())
    rig.start()
    rig.ready(3)
    reply = rig.claim()
    old = set(rig.routes())
    new = rig.spec(environment={"NEW": "1"})
    rig.apply(new)
    wait_until(
        lambda: [r.generation for r in rig.routes().values()].count(new.generation) == 2, "the new generation", 60
    )
    assert set(rig.routes()) & old == {reply.user}
    renewed = set(rig.routes())
    rig.command(RecyclePool(sent_at=utc_now()))
    wait_until(
        lambda: set(rig.routes()) & renewed == {reply.user} and len(rig.routes()) == 3, "ready servers recycled", 60
    )
    assert rig.visit(reply.url) == 200


def test_messages_that_cannot_be_read_are_buried_and_the_next_request_is_served(rig: AgentRig) -> None:
    rig.apply(rig.spec())
    agent = rig.start()
    rig.ready(3)
    for queue in (queues.spawn(rig.pool), queues.host(rig.host)):
        rig.requester.publish(queue, Outgoing(b"\xff not json", "m"))
    wait_until(lambda: "request cannot be read" in agent.events(), "the bad request to be reported")
    wait_until(lambda: "command cannot be read" in agent.events(), "the bad command to be reported")
    assert rig.visit(rig.claim().url) == 200


def test_a_malformed_pool_is_reported_and_others_work(rig: AgentRig) -> None:
    rig.store.put(rig.keys.pool("bad"), b'{"v": 1, "name": "bad"}')
    rig.apply(rig.spec())
    agent = rig.start()
    rig.ready(3)
    assert "malformed record skipped" in agent.events()


def test_while_consul_hangs_nothing_is_claimed_and_afterwards_work_goes_on(
    rabbitmq: RabbitAddress, docker_images: Any, tmp_path: Path
) -> None:
    """I2, I4: running servers are unaffected."""
    with (
        own_consul() as (container, url),
        contextlib.closing(AgentRig(url, rabbitmq, docker_images.echo, tmp_path)) as rig,
    ):
        rig.apply(rig.spec())
        agent = rig.start()
        rig.ready(3)
        reply = rig.claim()
        route = rig.routes()[reply.user]
        subprocess.run(["docker", "pause", container], check=True, stdout=subprocess.DEVNULL)
        wait_until(lambda: "consul away, claiming stopped" in agent.events(), "the agent to notice")
        assert requests.get(f"http://{route.target}{plain(reply.url)}", timeout=5).status_code == 200
        assert rig.request(wait_s=1.0, window_s=60.0) is None
        subprocess.run(["docker", "unpause", container], check=True, stdout=subprocess.DEVNULL)
        wait_until(lambda: len(rig.claims()) == 2, "the one in line to be served")
        assert len(rig.containers()) == 3


def test_a18_while_consul_s_disk_is_full_nothing_is_claimed_and_afterwards_the_line_is_served(
    rabbitmq: RabbitAddress, docker_images: Any, tmp_path: Path
) -> None:
    """I2, I4: as when Consul is away."""
    small = ["--tmpfs", "/consul/data:size=4m,uid=100,gid=1000"]
    with (
        own_consul(small, "-server", "-bootstrap-expect=1", "-bind=127.0.0.1") as (container, url),
        contextlib.closing(AgentRig(url, rabbitmq, docker_images.echo, tmp_path)) as rig,
        ThreadPoolExecutor(1) as thread,
    ):
        rig.apply(rig.spec(pool_size=2))
        agent = rig.start()
        rig.ready(2)
        reply = rig.claim()
        route = rig.routes()[reply.user]
        fill = ["dd", "if=/dev/zero", "of=/consul/data/fill", "bs=4096"]
        full = subprocess.run(["docker", "exec", container, *fill], check=False, capture_output=True, text=True)
        assert "No space left on device" in full.stderr
        # The file of its log has some room inside: a host at rest writes too little to use it up.
        kv = f"{url}/v1/kv/elsewhere"
        wait_until(
            lambda: requests.put(kv, data=bytes(100_000), timeout=30).status_code == 500, "Consul to be full", 60
        )
        wait_until(lambda: "consul away, claiming stopped" in agent.events(), "the agent to notice", 60)
        assert requests.get(f"http://{route.target}{plain(reply.url)}", timeout=5).status_code == 200
        in_line = thread.submit(rig.request, wait_s=60.0)
        wait_until(lambda: rig.waiting() == 1, "the request to be in line")
        subprocess.run(["docker", "exec", container, "rm", "/consul/data/fill"], check=True)
        second = in_line.result(90)
        assert second is not None
        assert rig.claims() == {reply.user, second.user}
        assert rig.visit(second.url) == rig.visit(reply.url) == 200


def test_a18_a_restored_snapshot_s_servers_that_are_no_more_are_forgotten_and_present_ones_kept(
    rabbitmq: RabbitAddress, docker_images: Any, tmp_path: Path
) -> None:
    """I5, I6, I8. It knows the agent's session, so that nothing but old records tells that it was restored."""
    with (
        own_consul() as (_, url),
        contextlib.closing(AgentRig(url, rabbitmq, docker_images.echo, tmp_path)) as rig,
    ):
        rig.apply(rig.spec(pool_size=2, ready=1))
        rig.start()
        rig.ready(1)
        old = rig.claim()
        wait_until(lambda: rig.counts() == (1, 1), "the pool to be filled again")
        snapshot, before = requests.get(f"{url}/v1/snapshot", timeout=10).content, rig.record()
        rig.command(cull(old.user, "operator"))
        wait_until(lambda: old.user not in rig.claims(), "the old server to be gone")
        present = rig.claim()
        # On a fast machine the record reads as before by the time it may be written again: then after 30 s.
        wait_until(lambda: rig.record() != before and rig.counts() == (1, 1), "the pool to be filled again", 45)
        assert len(rig.containers()) == 2
        assert requests.put(f"{url}/v1/snapshot", data=snapshot, timeout=10).status_code == 200
        assert old.user in rig.routes(), "or this shows nothing"
        # The agent looks at its record before it writes it again: after 30 s, or when there is news.
        another = rig.claim()

        def users() -> set[str]:
            """Of the containers."""
            return {str(container.labels.get("tmpnb.user")) for container in rig.containers().values()}

        # The audit once a minute knows of those only that went in its agent's life, and for a while.
        wait_until(lambda: set(rig.routes()) == users(), "routes of what is there, and no others", 40)
        wait_until(lambda: rig.claims() == {present.user, another.user}, "the claims likewise", 10)
        assert rig.visit(present.url) == 200


@contextlib.contextmanager
def own_consul(run: Sequence[str] = (), *options: str) -> Iterator[tuple[str, str]]:
    """A Consul server that a test may stop. ``run``: options of ``docker run``; ``options``: Consul's, else a server in
    memory."""
    command = ["docker", "run", "--rm", "-d", "-p", "127.0.0.1::8500", *run]
    command += [CONSUL_IMAGE, "agent", *(options or ["-dev"]), "-client=0.0.0.0"]
    container = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    try:
        port = subprocess.run(["docker", "port", container, "8500"], check=True, capture_output=True, text=True)
        url = f"http://{port.stdout.split()[0]}"

        def leads() -> bool:
            with contextlib.suppress(requests.RequestException):
                return requests.get(f"{url}/v1/status/leader", timeout=1).text not in ('""', "")
            return False

        wait_until(leads, "Consul to have a leader")
        yield container, url
    finally:
        # With its volume: "--rm" takes that along only if it is faster than this.
        subprocess.run(["docker", "rm", "-f", "-v", container], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"TMPNB_ADDRESS": "not-an-ip"}, "--address (TMPNB_ADDRESS)"),
        ({"TMPNB_HOST": "Not A Name"}, "--host (TMPNB_HOST)"),
        ({"TMPNB_SESSION_TICK_S": "9"}, "session_ttl_s"),
        ({"TMPNB_PORT_MIN": "30000", "TMPNB_PORT_MAX": "20000"}, "port_min"),
        ({"TMPNB_MAX_DOCK_WORKERS": "0"}, "--max-dock-workers"),
    ],
)
def test_wrong_settings_are_refused_with_their_name(env: dict[str, str], said: str) -> None:
    command = [sys.executable, "-m", "agent"]
    ended = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr

"""One good example of every message and of every record, for the fuzzer to change."""

from datetime import UTC, datetime, timedelta
from typing import Any

from common.broker.messages import (
    CullRequest,
    Event,
    PrepareImage,
    RecyclePool,
    Reopen,
    SetHostState,
    SpawnReply,
    SpawnRequest,
    StaticsPart,
    StaticsRequest,
)
from common.records.hosts import Drain, HostNote, HostRecord, HostState, ImageState, ImageStatus, PoolStatus
from common.records.idempotency import Replay
from common.records.pools import PoolHistory, PoolSpec
from common.records.servers import Activity, Claim, Gone, Pointer, Route
from common.records.statics import StaticFile, Statics
from common.records.tickets import Ticket
from common.records.tokens import Scope, Token
from tests.fuzz.harness import example

NOW = datetime.now(UTC)
# Nobody's: an example must not happen to name a server that is there.
USER, REQUEST, POOL, HOST = "fuzzed2fuzzed2", "f" * 32, "light", "host-1"
SET, SHA = "0123456789abcdef", "a" * 64

MESSAGES: tuple[dict[str, Any], ...] = tuple(
    example(message)
    for message in (
        SpawnRequest(sent_at=NOW, request_id=REQUEST, pool=POOL, window_s=2.0),
        SpawnRequest(
            sent_at=NOW, request_id=REQUEST, pool=POOL, window_s=2.0, deadline=NOW + timedelta(seconds=2),
            path="lab/tree/a.ipynb?x=1", user=USER,
        ),
        SpawnReply(
            sent_at=NOW, request_id=REQUEST, user=USER, host=HOST, pool=POOL, url=f"/user/{USER}/lab?token=t",
            stages_ms={"claim": 1.5},
        ),
        CullRequest(sent_at=NOW, user=USER, reason="idle", request_id=REQUEST),
        CullRequest(sent_at=NOW, user=USER, reason="operator", force=True),
        SetHostState(sent_at=NOW, state=HostState.DRAINING, deadline=NOW + timedelta(hours=1)),
        Reopen(sent_at=NOW, user=USER),
        PrepareImage(sent_at=NOW, image="image:1"),
        RecyclePool(sent_at=NOW, pool=POOL),
        StaticsRequest(sent_at=NOW, statics=SET, offset=0),
        StaticsPart(sent_at=NOW, statics=SET, bundle=SHA, total_bytes=3, offset=0, data=b"abc"),
        Event(sent_at=NOW, name="server.claimed", host=HOST, pool=POOL, user=USER, request_id=REQUEST, detail={"a": 1}),
    )
)  # fmt: skip

_SPEC = PoolSpec(name=POOL, image="image:1", command="serve", environment={"A": "b"}, redirect_uri="/lab")
# What is below a prefix of the cluster, and the rest of its key.
RECORDS: tuple[tuple[str, str, dict[str, Any]], ...] = tuple(
    (prefix, name, example(record))
    for prefix, name, record in (
        ("pools", POOL, _SPEC),
        ("pools", "other", _SPEC.model_copy(update={"name": "other"})),
        ("history", POOL, PoolHistory(pool=POOL, specs=(_SPEC,))),
        ("hosts", "host-9", HostRecord(
            host="host-9", address="10.0.0.9", agent_version="0.1.0", started_at=NOW, updated_at=NOW,
            memory_bytes=1 << 34, cpus=4, labels={"gpu": "yes"}, problem="x",
            drain=Drain(since=NOW, claimed=3, deadline=NOW),
            images={"image:1": ImageStatus(state=ImageState.PRESENT)},
            pools={POOL: PoolStatus(capacity=3, ready=2, claimed=1, generation="g")},
        )),
        ("notes", "host-9", HostNote(host="host-9", drain=Drain(since=NOW), next_port=20000)),
        ("routes", Route.id_of("host-9", USER), Route(
            user=USER, host="host-9", target="10.0.0.9:20001", container="c" * 64, pool=POOL, generation="g",
            created_at=NOW, statics=SET,
        )),
        ("claims", Claim.id_of("host-9", USER), Claim(
            user=USER, host="host-9", pool=POOL, request_id=REQUEST, claimed_at=NOW, token_digest=SHA,
            idle_limit_s=3600, unvisited_limit_s=600, expires_at=NOW, kept_until=NOW,
        )),
        ("users", USER, Pointer(user=USER, host="host-9", pool=POOL)),
        ("gone", USER, Gone(user=USER, host="host-9", pool=POOL, reason="idle", at=NOW, until=NOW)),
        ("tickets", REQUEST, Ticket(request_id=REQUEST, pool=POOL, created_at=NOW, seen_at=NOW)),
        ("tickets", "e" * 32, Ticket(
            request_id="e" * 32, pool=POOL, path="lab", created_at=NOW, seen_at=NOW, user=USER, url=f"/user/{USER}/",
        )),
        ("activity", "proxy-1/0", Activity(source="proxy-1", since=NOW, updated_at=NOW, users={USER: 1_800_000_000})),
        ("tokens", "lms", Token(name="lms", scope=Scope.ADMIN, digest=SHA, created_at=NOW, expires_at=NOW)),
        ("replays", SHA, Replay(request=SHA, at=NOW, code=200, headers={"X": "y"}, body="{}")),
        ("statics", SET, Statics(
            id=SET, image="image:1", image_id="sha256:1", static_files=("/a:/static",), host="host-9", taken_at=NOW,
            files={"static/a.js": StaticFile(sha256=SHA, size=3)},
        )),
    )
)  # fmt: skip

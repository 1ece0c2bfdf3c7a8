"""What became of a start: told to the metrics, the log, the events, and to whoever decides on the next one."""

import logging
from dataclasses import dataclass

from agent.engine.port import NetworkFull
from agent.health import HostHealth
from agent.host.room import HostRoom
from agent.lifecycle import Server, State
from agent.metrics import START_FAILURES, START_STAGES, STARTS
from agent.pool.start_backoff import StartBackoff
from common.broker.events import Events
from common.errors import EngineUnavailable, StartFailed, TransientError
from common.vocabulary import EndReason, EventName

log = logging.getLogger(__name__)


@dataclass
class StartReports:
    """Safe to use from any thread."""

    _backoff: StartBackoff
    _room: HostRoom
    _events: Events
    _health: HostHealth

    def ready(self, server: Server, stages_ms: dict[str, float]) -> None:
        """It answers, and its route is open. ``stages_ms``: how long what took."""
        self._backoff.succeeded(server.pool)
        STARTS.labels(server.pool, "ready").inc()
        for stage, elapsed_ms in stages_ms.items():
            START_STAGES.labels(stage).observe(elapsed_ms / 1000)
        stages = {stage: round(value, 1) for stage, value in stages_ms.items()}
        log.info(
            "server ready",
            extra={"user": server.user, "pool": server.pool, "container": server.container[:12], "port": server.port,
                   **{f"{stage}_ms": value for stage, value in stages.items()}},
        )  # fmt: skip
        if server.state is State.READY:
            self._events.publish(
                EventName.SERVER_READY, user=server.user, pool=server.pool, figures={"stages_ms": stages}
            )
        self._health.wake()

    def failed(self, server: Server, failure: StartFailed) -> None:
        """It did not become ready, for a reason that the next one may have, too. The container's last lines are in the
        host record, not in the event: they may be long, and hold anything."""
        tail = failure.log
        if server.token:
            tail = tail.replace(server.token, "<token>")
        failure = StartFailed(failure.reason, failure.note, tail)
        pause_s = self._backoff.failed(server.pool, server.generation, self._health.now(), failure)
        STARTS.labels(server.pool, "failed").inc()
        START_FAILURES.labels(server.pool, failure.reason).inc()
        log.warning(
            "server did not start",
            extra={"user": server.user, "pool": server.pool, "container": server.container[:12],
                   "reason": failure.reason, "note": failure.note, "next_try_s": pause_s, "log": tail[-1000:]},
        )  # fmt: skip
        self._events.publish(
            EventName.SERVER_FAILED, user=server.user, pool=server.pool, reason=failure.reason, note=failure.note
        )

    def no_room(self, server: Server, failure: NetworkFull) -> None:
        """No fault of the image, so nothing to pause for: the host has less room than it thought. To be called once the
        server counts no more."""
        STARTS.labels(server.pool, "failed").inc()
        START_FAILURES.labels(server.pool, failure.reason).inc()
        log.info("server not started", extra={"user": server.user, "pool": server.pool, "error": str(failure)})
        self._room.full(f"network {failure.note}")

    def interrupted(self, server: Server, error: TransientError) -> None:
        """No fault of the image either: the engine or Consul did not answer."""
        fields: dict[str, object] = {"user": server.user, "pool": server.pool, "error": str(error)}
        if isinstance(error, EngineUnavailable):
            # Listings may go on succeeding (the disk is full), and the next start would follow at once.
            failure = StartFailed(EndReason.ENGINE, str(error))
            fields["next_try_s"] = self._backoff.failed(server.pool, server.generation, self._health.now(), failure)
            START_FAILURES.labels(server.pool, failure.reason).inc()
        STARTS.labels(server.pool, "interrupted").inc()
        log.warning("server not started", extra=fields)

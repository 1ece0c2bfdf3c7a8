"""Looks at a real cluster (tests/support/hosts_rig.py) for the record: engines' listings and Consul's records."""

import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from agent.names import address_in, is_claimed
from tests.faults.checker import check
from tests.faults.history import Box, History, HostLook, Look
from tests.faults.recorder import Recorder
from tests.support.cluster import ask
from tests.support.hosts_rig import Host, HostsRig
from tests.support.waiting import wait_until

EVERY_S = 2.0
# Two calm looks are so far apart: longer than one reconcile period (10 s), after which a leftover is none any more.
APART_S = 11.0
REST_S = 120.0
# The output of an exec can get lost although its status says success (seen with Engine 20.10 on a busy machine), so the
# listing says itself that it is complete.
LISTING = "timeout 10 docker ps --all --no-trunc --filter label=tmpnb.user --format '{}' && echo complete"
FORMAT = '{{.ID}}\t{{.Names}}\t{{.State}}\t{{.Label "tmpnb.user"}}\t{{.Label "tmpnb.pool"}}'


class Observer:
    """``start`` looks every ``EVERY_S`` on a thread of its own, until ``stop``."""

    def __init__(self, rig: HostsRig, recorder: Recorder) -> None:
        self._rig = rig
        self._recorder = recorder
        self._capacity = {name: pool["pool_size"] for name, pool in rig.cluster.records("pools").items()}
        self._threads = ThreadPoolExecutor(8, thread_name_prefix="look")
        self._looking = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)
        self._threads.shutdown()

    def pause(self, seconds: float) -> None:
        """Let the cluster do for a while, looking on."""
        self._stop.wait(seconds)

    def rest(self) -> None:
        """Wait until the cluster is at rest, as far as it ever will be, and record that twice."""
        unrest: list[str] = []

        def at_rest() -> bool:
            unrest[:] = self._unrest()
            return not unrest

        try:
            wait_until(at_rest, "the cluster to be at rest", REST_S, every_s=2.0)
        except AssertionError as exc:
            print(exc, *unrest, sep="\n  ")  # the checker says whether it is allowed
        self._recorder.add(self.look(calm=True))
        self.pause(APART_S)
        self._recorder.add(self.look(calm=True))

    def look(self, calm: bool = False) -> Look:
        """One at a time, so that what a later one shows is later."""
        with self._looking:
            return self._look(calm)

    def _look(self, calm: bool) -> Look:
        at_s = self._recorder.now()
        boxes = self._threads.map(lambda host: (host.name, _boxes(host)), self._rig.hosts.values())
        routes, claims, users, hosts = (self._records(kind) for kind in ("routes", "claims", "users", "hosts"))
        looks = {}
        for name, found in boxes:
            record = (hosts or {}).get(name)
            ready = sum(pool["ready"] for pool in record["pools"].values()) if record else None
            looks[name] = HostLook(found, self._capacity, ready_count=ready)
        return Look(
            at_s,
            looks,
            None if routes is None else {user: route["target"] for user, route in routes.items()},
            None if claims is None else {user: claim["request_id"] for user, claim in claims.items()},
            calm,
            self._recorder.now(),
            None if users is None else {user: pointer["host"] for user, pointer in users.items()},
        )

    def _unrest(self) -> list[str]:
        look = self.look(calm=True)
        busy = [f"{name}: {host}" for name, host in look.hosts.items() if not _is_counted(host)]
        so_far = self._recorder.history()
        now = History(requests=so_far.requests, faults=so_far.faults, looks=(look, look))
        return busy + [str(violation) for violation in check(now)]

    def _records(self, kind: str) -> dict[str, Any] | None:
        """By the last part of their key; None: Consul does not answer."""
        cluster = self._rig.cluster
        try:
            answer = ask(f"{cluster.consul_url}/v1/kv/tmpnb/{cluster.name}/{kind}/?recurse", timeout_s=5)
        except OSError:
            return None
        if answer.status == 404:
            return {}
        if answer.status != 200:
            return None
        return {
            entry["Key"].rpartition("/")[2]: json.loads(base64.b64decode(entry["Value"])) for entry in answer.json()
        }

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            self._recorder.add(self.look())


def _is_counted(host: HostLook) -> bool:
    """Its engine answers, and its record says what is there."""
    return host.boxes is not None and host.ready_count == sum(box.running and not box.claimed for box in host.boxes)


def _boxes(host: Host) -> tuple[Box, ...] | None:
    """None: the engine (or the host) does not answer."""
    try:
        *lines, last = host.exec("sh", "-c", LISTING.format(FORMAT)).splitlines() or [""]
    except Exception as exc:  # noqa: BLE001 a frozen or destroyed host: whatever the Docker client says
        print(f"{host.name} is not seen: {str(exc)[:100]}")
        return None
    if last != "complete":
        print(f"{host.name} is not seen: the listing is cut off")
        return None
    fields = [line.split("\t") for line in lines]
    return tuple(Box(id_, _user(user, name), pool, state, is_claimed(name)) for id_, name, state, user, pool in fields)


def _user(labelled: str, name: str) -> str:
    """Whose a container is: its label's user, unless its name says another one."""
    moved = address_in(name)
    return moved[0] if moved is not None else labelled

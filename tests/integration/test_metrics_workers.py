"""Metrics of a real gunicorn with two workers: they count together, and one that dies leaves nothing wrong behind.

Neither store is there: what is asked needs none.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.cluster import ROOT, ask, free_ports
from tests.support.waiting import wait_until

ASKED = 40


class Gunicorn:
    """The public application, as containers start it."""

    def __init__(self, log: Path) -> None:
        self.port, self.metrics_port, nobody = free_ports(3)
        self.log = log
        environment = {
            "TMPNB_IP": "127.0.0.1",
            "TMPNB_PORT": str(self.port),
            "TMPNB_METRICS_IP": "127.0.0.1",
            "TMPNB_METRICS_PORT": str(self.metrics_port),
            "TMPNB_SECRET_KEY": "a key only for tests",
            "TMPNB_CONSUL_URLS": f"http://127.0.0.1:{nobody}",
            "TMPNB_RABBITMQ_URLS": f"amqp://tmpnb@127.0.0.1:{nobody}/tmpnb",
            "TMPNB_WORKERS": "2",
        }
        command = ["gunicorn", "-c", "python:frontend.public.gunicorn_conf", "frontend.public.wsgi:create_app()"]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command], env=os.environ | environment, stdout=output, stderr=output, cwd=ROOT
            )

    def workers(self) -> set[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return {int(child) for child in children}

    def folders(self) -> list[Path]:
        """Where the master keeps the values: the one folder that it has made."""
        variables = Path(f"/proc/{next(iter(self.workers()))}/environ").read_bytes().split(b"\0")
        assert not any(b"MULTIPROC" in variable for variable in variables), "set by the master itself, after its start"
        return [
            path
            for path in Path("/dev/shm").glob("tmpnb-metrics-*")
            if any(str(pid) in name.name for pid in self.workers() for name in path.iterdir())
        ]

    def metrics(self) -> dict[tuple[str, str], float]:
        """(name, labels as JSON) -> value."""
        answer = ask(f"http://127.0.0.1:{self.metrics_port}/metrics")
        assert answer.status == 200
        families = text_string_to_metric_families(answer.body.decode())
        return {
            (sample.name, json.dumps(sample.labels, sort_keys=True)): sample.value
            for family in families
            for sample in family.samples
        }

    def requests(self, view: str) -> float:
        labels = json.dumps({"method": "GET", "status": "2xx", "view": view}, sort_keys=True)
        return self.metrics().get(("tmpnb_http_request_seconds_count", labels), 0.0)

    def ask_on_new_connections(self, count: int) -> None:
        """So that both workers get some."""

        def once(_number: int) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            connection.request("GET", "/healthz", headers={"Connection": "close"})
            assert connection.getresponse().read()
            connection.close()

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(once, range(count)))


@pytest.fixture(scope="module")
def gunicorn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    running = Gunicorn(tmp_path_factory.mktemp("gunicorn") / "log")

    def threads() -> float:
        try:
            return running.metrics().get(("tmpnb_http_threads", "{}"), 0.0)
        except OSError:
            return 0.0

    try:
        wait_until(lambda: threads() == 64, "both workers to be there", 60)
        yield running
    finally:
        running.process.terminate()
        running.process.wait(30)
        print(running.log.read_text()[-3000:])


def test_workers_count_together_whichever_is_asked(gunicorn: Gunicorn) -> None:
    before = gunicorn.requests("healthz")
    gunicorn.ask_on_new_connections(ASKED)
    assert {gunicorn.requests("healthz") - before for _ in range(10)} == {ASKED}
    (folder,) = gunicorn.folders()
    counted = {int(path.stem.rpartition("_")[2]) for path in folder.glob("histogram_*.db") if path.stat().st_size}
    assert gunicorn.workers() <= counted, "both have answered"


def test_a8_a_view_that_no_worker_could_read_grows_old(gunicorn: Gunicorn) -> None:
    def ages() -> dict[str, float]:
        told = {key: value for key, value in gunicorn.metrics().items() if key[0] == "tmpnb_watch_age_seconds"}
        return {json.loads(labels)["watch"]: value for (_, labels), value in told.items()}

    before = ages()
    assert set(before) == {"pools", "tokens", "statics"}
    wait_until(lambda: all(age > before[watch] for watch, age in ages().items()), "ages that grow")


def test_the_door_has_no_application_behind_it_and_the_application_no_door(gunicorn: Gunicorn) -> None:
    for path in ("/metrics", "/metrics/", "/targets"):
        answer = ask(f"http://127.0.0.1:{gunicorn.port}{path}", headers={"Host": f"x:{gunicorn.metrics_port}"})
        assert (answer.status, b"tmpnb_" in answer.body) == (404, False)
    answer = ask(f"http://127.0.0.1:{gunicorn.metrics_port}/api/spawn", "POST", {"Host": f"x:{gunicorn.port}"})
    assert b"unavailable" not in answer.body


def test_a_worker_that_dies_keeps_its_counts_and_leaves_no_gauges(gunicorn: Gunicorn) -> None:
    before = gunicorn.requests("healthz")
    (folder,) = gunicorn.folders()
    victim = min(gunicorn.workers())
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in gunicorn.workers() and len(gunicorn.workers()) == 2, "another worker", 30)
    wait_until(lambda: gunicorn.metrics()[("tmpnb_http_threads", "{}")] == 64, "64 threads, not 96", 30)
    assert not list(folder.glob(f"gauge_live*_{victim}.db"))
    assert gunicorn.requests("healthz") >= before
    assert gunicorn.metrics()[("tmpnb_http_requests_in_progress", "{}")] == 0


def test_rabbitmq_that_is_away_is_told(gunicorn: Gunicorn) -> None:
    connected = {key: value for key, value in gunicorn.metrics().items() if key[0] == "tmpnb_rabbitmq_connected"}
    assert connected
    assert set(connected.values()) == {0.0}


def test_the_folder_goes_with_the_master(gunicorn: Gunicorn) -> None:
    (folder,) = gunicorn.folders()
    gunicorn.process.terminate()
    assert gunicorn.process.wait(40) == 0
    assert not folder.exists()

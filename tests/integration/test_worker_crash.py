"""A gunicorn worker that has lost a thread it cannot do without ends, and the master starts another."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.cluster import ROOT, ask, free_ports
from tests.support.waiting import wait_until

PROGRAM = """
import os, sys
from pathlib import Path
from flask import Flask
from common.runtime.logs import setup_logging
from common.runtime.loops import LoopThread
from frontend.http.gunicorn import RUNNING, GunicornServer, gunicorn_settings
from frontend.settings import PublicSettings

flag, port = Path(sys.argv[1]), int(sys.argv[2])
settings = PublicSettings(secret_key="3f9c1d7ab2e84605", workers=1, threads=4, ip="127.0.0.1", port=port)
setup_logging("frontend", "INFO")

def create():
    app = Flask("trial")
    app.add_url_rule("/", "pid", lambda: str(os.getpid()))
    app.extensions[RUNNING] = LoopThread("rabbitmq-trial", work, 0.05, vital=True)
    return app

def work():
    if flag.exists():
        flag.unlink()
        raise KeyError("an answer that nobody foresaw")

GunicornServer(gunicorn_settings(settings), create).run()
"""


def test_a8_a_worker_without_its_connection_thread_is_replaced(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    flag, log = tmp_path / "fail", tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(flag), str(port)],
            stdout=output,
            stderr=output,
            cwd=ROOT,
            env=os.environ,
        )

    def pid() -> int:
        try:
            return int(ask(f"http://127.0.0.1:{port}/").body)
        except (OSError, ValueError):
            return 0

    try:
        first = wait_until(pid, "the first worker", 60)
        flag.touch()
        wait_until(lambda: pid() not in (0, first), "another worker in its place", 60)
        assert process.poll() is None, "the master stays"
    finally:
        process.terminate()
        process.wait(60)
    lines = log.read_text()
    assert lines.count("thread ended unasked") == 1
    assert "an answer that nobody foresaw" in lines

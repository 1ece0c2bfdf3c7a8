"""The operator's command line, in the admin container, as docs/operations.md says."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import ROOT, Cluster
from tests.support.waiting import wait_until


def tmpnb(cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["deploy/tmpnb", *arguments],
        cwd=ROOT,
        env=os.environ | cluster.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def read(cluster: Cluster, *arguments: str) -> Any:
    done = tmpnb(cluster, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_figures_agree_with_the_containers_that_run(cluster: Cluster) -> None:
    wait_until(lambda: cluster.available() >= 4, "a full pool", 120)

    def counted() -> dict[str, int] | None:
        counts: dict[str, int] = read(cluster, "hosts")["host-1"]["pools"]["default"]
        return counts if counts["ready"] + counts["claimed"] + counts["starting"] == len(cluster.servers()) else None

    counts = wait_until(counted, "the record to say what runs", 60, every_s=1)
    assert read(cluster, "stats")["available"] == counts["ready"]
    assert set(read(cluster, "pools", "list")) == {"default"}
    table = tmpnb(cluster, "hosts")
    assert "host-1" in table.stdout


def test_a_server_is_spawned_shown_and_culled(cluster: Cluster) -> None:
    url = read(cluster, "spawn")["url"]
    user = url.split("/")[2]
    claimed = {row["user"] for row in read(cluster, "users") if row["state"] == "claimed"}
    assert user in claimed
    assert tmpnb(cluster, "cull", user).returncode == 0
    wait_until(lambda: user not in cluster.servers().values(), "the container to be gone", 60)
    wait_until(lambda: user not in cluster.records("claims"), "the claim to be deleted", 60)
    assert user not in cluster.records("routes")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[pools.default]\nimage = "x"\npool_sise = 3\n', "pool_sise"),
        ('[pools.default]\nimage = "x"\nmem_limit = "much"\n', "mem_limit"),
        ('[pools.default]\nimage = "${NOWHERE}"\n', "NOWHERE"),
        ('[pools.default]\nimage = "x"\nmem_limit = "900000g"\n', "mem_limit"),
        ("[pools.default\n", "pools.toml"),
    ],
)
def test_a_wrong_pool_is_named_and_changes_nothing(cluster: Cluster, tmp_path: Path, text: str, said: str) -> None:
    before = cluster.records("pools")
    file = tmp_path / "pools.toml"
    file.write_text(text)
    done = tmpnb(cluster, "pools", "apply", str(file))
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert cluster.records("pools") == before


def test_what_does_not_exist_is_said_plainly(cluster: Cluster) -> None:
    for arguments in (("cull", "23456789abcd"), ("pools", "show", "nothing"), ("no-such-command",)):
        done = tmpnb(cluster, *arguments)
        assert done.returncode != 0
        assert "Traceback" not in done.stderr

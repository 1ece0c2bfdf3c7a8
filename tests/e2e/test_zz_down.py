"""Last of all (by name): what ``make down`` leaves."""

from tests.support.cluster import Cluster, ask
from tests.support.waiting import wait_until


def test_a_second_up_changes_nothing_and_down_leaves_nothing(cluster: Cluster) -> None:
    wait_until(lambda: cluster.available() > 0, "a ready server", 120)
    assert ask(cluster.url + "/api/spawn", "POST").status == 200
    containers = cluster.docker("ps", "--quiet", "--filter", f"label=com.docker.compose.project=tmpnb-{cluster.name}")
    cluster.make("up")
    again = cluster.docker("ps", "--quiet", "--filter", f"label=com.docker.compose.project=tmpnb-{cluster.name}")
    assert sorted(again.split()) == sorted(containers.split())

    everything = [*cluster.servers(), *containers.split()]
    mounted = cluster.docker("inspect", "--format", "{{range .Mounts}}{{.Name}} {{end}}", *everything).split()
    assert mounted, "the stores have volumes, so this sees some"
    cluster.make("down")
    for filtered in (f"label=tmpnb.cluster={cluster.name}", f"label=com.docker.compose.project=tmpnb-{cluster.name}"):
        for kind in (["ps", "--all"], ["network", "ls"], ["volume", "ls"]):
            assert cluster.docker(*kind, "--quiet", "--filter", filtered) == "", f"{kind} left {filtered}"
    # Anonymous volumes carry no label.
    assert not set(mounted) & set(cluster.docker("volume", "ls", "--quiet").split())

"""I4: no restart of any part disturbs a claimed server, and spawning works again within seconds."""

from collections.abc import Iterator

import pytest
import websocket

from tests.support.cluster import Cluster, ask
from tests.support.kernel import Kernel
from tests.support.waiting import wait_until

# Prints a number every half second for longer than the whole module takes.
COUNT = "import time\nfor i in range(10**6):\n    print(i, flush=True)\n    time.sleep(0.5)"


@pytest.fixture(scope="module")
def kernel(cluster: Cluster) -> Iterator[Kernel]:
    kernel = Kernel(cluster.spawn())
    kernel.run(COUNT)
    kernel.wait_for_line()
    yield kernel
    kernel.close()


def spawns(cluster: Cluster) -> bool:
    try:
        return ask(cluster.url + "/api/spawn", "POST", timeout_s=10).status == 200
    except OSError:
        return False


@pytest.mark.parametrize("service", ["agent", "frontend", "culler", "sync", "rabbitmq", "consul", "haproxy"])
def test_a_computing_kernel_outlives_the_restart_of(cluster: Cluster, kernel: Kernel, service: str) -> None:
    cluster.make_room({kernel.user})
    containers = cluster.servers()
    before = int(kernel.wait_for_line())
    cluster.restart(service)
    try:
        after = int(kernel.wait_for_line())
    except (websocket.WebSocketException, OSError):
        assert service == "haproxy", f"the restart of {service} broke the WebSocket"
        wait_until(lambda: _reconnects(kernel), "the proxy tier to accept connections again", 60)
        after = int(kernel.wait_for_line())
    assert after > before
    # Numbers without a gap: the same process went on, and nothing it said was lost.
    numbers = [int(line) for line in kernel.lines]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    wait_until(lambda: spawns(cluster), f"a spawn after the restart of {service}", 60)
    assert not {i: name for i, name in containers.items() if i not in cluster.servers()}, "a server was lost"


def _reconnects(kernel: Kernel) -> bool:
    try:
        kernel.connect()
    except (websocket.WebSocketException, OSError):
        return False
    return True

"""A volume of a service that can be full: a file system of its own, in memory, before Compose makes an ordinary one.

It lasts as long as somebody has it mounted, so a container holds it while the service's own is killed and started. That
one may change the size too, which fills the disk without writing anything.
"""

from contextlib import suppress

import docker

# RabbitMQ takes no messages with less than 500 MB left (deploy/config/rabbitmq). Only what is written takes memory.
SIZE = "1g"
# As small as what is in it. It grows between the two commands now and then.
FILL = """
    until used=$(df -k /disk | awk 'NR == 2 { print $3 }'); mount -o "remount,size=${used}k" /disk; do :; done
"""


class Disk:
    """``start`` before the service; ``close`` after it."""

    def __init__(self, client: docker.DockerClient, volume: str, image: str) -> None:
        """``volume``: Compose's name of it, with the project's; ``image``: anything with a shell and ``mount``."""
        self._client = client
        self._volume = volume
        self._image = image
        self._holder = f"{volume}-holder"

    def start(self) -> None:
        options = {"type": "tmpfs", "device": "tmpfs", "o": f"size={SIZE},mode=0777"}
        # With its project's label it goes when the project goes.
        project, _, name = self._volume.partition("_")
        labels = {"com.docker.compose.project": project, "com.docker.compose.volume": name}
        self._client.volumes.create(self._volume, driver="local", driver_opts=options, labels=labels)
        self._client.containers.run(
            self._image,
            ["-f", "/dev/null"],
            entrypoint="tail",
            name=self._holder,
            user="0",
            network_mode="none",
            cap_add=["SYS_ADMIN"],
            security_opt=["apparmor=unconfined"],
            volumes={self._volume: {"bind": "/disk", "mode": "rw"}},
            detach=True,
        )

    def fill(self) -> None:
        """Nothing more fits."""
        self._run("sh", "-ec", FILL)

    def make_room(self) -> None:
        self._run("mount", "-o", f"remount,size={SIZE}", "/disk")

    def close(self) -> None:
        """Let go of it, also of one that a killed run has left."""
        with suppress(docker.errors.NotFound):
            self._client.containers.get(self._holder).remove(force=True)

    def _run(self, *command: str) -> None:
        status, output = self._client.containers.get(self._holder).exec_run(list(command))
        assert status == 0, output.decode(errors="replace")

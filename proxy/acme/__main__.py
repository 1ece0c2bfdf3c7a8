"""Entry point of the ACME process: ``python -m proxy.acme``."""

import logging
import sys

from common.runtime.clock import utc_now
from common.runtime.heartbeat import Heartbeat
from common.runtime.loops import LoopThread
from common.runtime.process import Process
from common.settings import load
from proxy.acme.keeper import Keeper, Pauses, remove_others
from proxy.acme.lego import STOP_S, Lego
from proxy.acme.settings import AcmeSettings

log = logging.getLogger(__name__)

# Short beside the life of any certificate, long beside reading a few files.
LOOK_S = 5.0
# HAProxy looks for us in DNS once a second, and has to lead the authority's questions to us: one that is not answered
# costs a minute, and one of the few attempts that an authority takes.
FOUND_S = 3.0


class Loop:
    """The thread that keeps all certificates, one after the other: lego answers HTTP-01 at one port."""

    def __init__(self, settings: AcmeSettings) -> None:
        self._thread = LoopThread("acme", self._turn, LOOK_S, vital=True)
        self._heartbeat = Heartbeat()
        self._is_found = bool(settings.acme_dns)
        self.lego = Lego(settings, self._thread.stopping, self._heartbeat.beat)
        pauses = Pauses.of(settings)
        self._keepers = [Keeper(name, self.lego, settings.certs_dir, pauses) for name in settings.names]

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._thread.stop(2 * STOP_S)

    def _turn(self) -> float | None:
        if not self._is_found:
            self._is_found = True
            return FOUND_S
        for keeper in self._keepers:
            self._heartbeat.beat()
            if not self._thread.stopping.is_set():
                keeper.step(utc_now())
        return None


def main() -> None:
    settings = load(AcmeSettings, sys.argv[1:])
    process = Process("acme", settings)
    loop = Loop(settings)
    remove_others(loop.lego, settings.certs_dir, settings.names)
    log.info("keeping certificates", extra={"names": settings.names, "server": settings.acme_server})
    process.run(loop)


if __name__ == "__main__":
    main()

"""A process's entry in Consul's service catalogue, kept passing by a thread of its own."""

import logging

from common.errors import StoreUnavailable
from common.runtime.loops import LoopThread
from common.store.port import Service, Store

log = logging.getLogger(__name__)

# Three beats per TTL: one lost beat does not turn the service critical in Consul's UI.
TTL_S = 15
BEAT_S = TTL_S / 3


class ServiceRegistration:
    """Registers ``service`` and passes its check until stopped; registers again when Consul forgot it."""

    def __init__(self, store: Store, service: Service) -> None:
        self._store = store
        self._service = service
        self._thread = LoopThread("registration", self._beat, BEAT_S)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread and take the service out of the catalogue."""
        self._thread.stop()
        try:
            self._store.deregister(self._service.id)
        except StoreUnavailable:
            log.debug("service not deregistered", extra={"service_id": self._service.id})

    def _beat(self) -> None:
        if not self._store.pass_check(self._service.id, "ok"):
            self._store.register(self._service)
            log.info("service registered", extra={"service_id": self._service.id})

"""Telling learners that their servers go with their host, at the end of a drain, and letting them in once more."""

import logging
from dataclasses import dataclass

from agent.inventory import Inventory
from agent.records.registry import Registry
from common.errors import StoreUnavailable
from common.vocabulary import EndReason

log = logging.getLogger(__name__)


@dataclass
class Warnings:
    """Safe to use from any thread; a server is worked on by one at a time. Every method may raise
    ``StoreUnavailable``."""

    _inventory: Inventory
    _registry: Registry
    #: From the warning to the end of the server.
    _grace_s: float

    def warn(self, user: str) -> None:
        """Let a server's learner know that it is about to go: its route gives way to a page that says so. What they
        have open stays connected until they ask for something new."""
        server = self._inventory.get(user)
        if server is None:
            return
        self._registry.leave_word(server, EndReason.HOST_DRAINED, left_s=self._grace_s)
        if not self._inventory.warn(user):
            return
        try:
            self._registry.withdraw(user)
        except StoreUnavailable:
            self._inventory.take_warning_back(user)
            raise
        log.info("learner warned", extra={"user": user, "pool": server.pool, "left_s": self._grace_s})

    def reopen(self, user: str) -> None:
        """Open a server once more whose learner was warned, for the time that is left."""
        if self._inventory.reopen(user):
            self._registry.publish(user)

    def take_all_back(self) -> None:
        """The servers stay after all."""
        for server in self._inventory.snapshot():
            if self._inventory.take_warning_back(server.user):
                self._registry.publish(server.user)

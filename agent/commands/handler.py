"""The host's own queue: culls, cordon and drain, recycling, images, static files. One delivery at a time; culls that
may be doubted, and so look at a server first, in threads beside it (``look_queue``)."""

import logging
from dataclasses import dataclass

from agent.claims.subscriptions import Subscriptions
from agent.commands.culling import Culling
from agent.commands.host_control import HostControl
from agent.commands.look_queue import LookQueue
from agent.health import HostHealth
from agent.statics.assets import StaticAssets
from common.broker.messages import CullRequest, PrepareImage, RecyclePool, Reopen, SetHostState, StaticsRequest, decode
from common.broker.port import Delivery
from common.errors import MalformedMessage, StoreUnavailable, TransientError
from common.vocabulary import AVERTED_BY_USE

log = logging.getLogger(__name__)


@dataclass
class Commands:
    """``handle`` runs on the host queue's worker thread."""

    _culling: Culling
    _looks: LookQueue
    _control: HostControl
    _statics: StaticAssets
    _subscriptions: Subscriptions
    _health: HostHealth

    def handle(self, delivery: Delivery) -> None:
        """Handle, requeue or dead-letter one delivery. Never raises."""
        try:
            self._obey(delivery)
        except MalformedMessage as exc:
            log.warning("command cannot be read", extra={"queue": delivery.queue, "error": str(exc)})
            self._subscriptions.dead_letter(delivery, str(exc))
        except TransientError as exc:
            log.info("command handed back", extra={"reason": str(exc)})
            if isinstance(exc, StoreUnavailable):
                # Stops taking commands: else it would come back at once, over and over, until RabbitMQ dead-letters it
                # (the delivery limit).
                self._health.suspect_store()
            self._subscriptions.requeue(delivery)
        except Exception as exc:
            log.exception("command failed")
            self._subscriptions.dead_letter(delivery, repr(exc))
        else:
            self._subscriptions.ack(delivery)
            self._health.wake()

    def _obey(self, delivery: Delivery) -> None:
        message = decode(delivery.body)
        match message:
            case CullRequest():
                self._cull(message)
            case SetHostState():
                self._control.set_state(message.state, message.deadline)
            case Reopen():
                self._control.reopen(message.user)
            case PrepareImage():
                self._control.prepare_image(message.image)
            case RecyclePool():
                self._control.recycle(message.pool)
            case StaticsRequest():
                self._statics.ask(message, delivery)
            case _:
                raise MalformedMessage(f"a {message.type} message on a host queue")

    def _cull(self, request: CullRequest) -> None:
        if request.reason in AVERTED_BY_USE and not request.force:
            # The culler decides these again every period, so they may be acknowledged before they are done. Nothing
            # else waits for what a server answers.
            self._looks.submit(request.user, lambda: self._culling.try_cull(request))
        else:
            self._culling.cull(request)

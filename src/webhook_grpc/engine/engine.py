"""The engine as one thing: its parts, wired together, started and stopped in order."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final

import structlog

from ..domain.errors import Conflict, Unavailable, WebhookError
from ..domain.model import Webhook, WebhookStatus
from ..domain.sealing import Sealer
from ..settings import Settings
from ..store import webhooks
from ..store.clock import DatabaseClock
from ..store.db import Database
from ..store.hints import Hints
from ..store.settlement import Settled
from .delivery import Deliverer
from .dispatcher import Dispatcher, DispatchLimits
from .janitor import Janitor
from .lanes import LaneLimits, Lanes
from .ownership import Ownership
from .sender import Sender
from .settler import Settler
from .webhook_cache import WebhookCache

log = structlog.get_logger(__name__)

_UNSETTLED_MAX: Final = 5000
_LANES_PER_MEMORY: Final = 8  # one lane gets at most this part of the memory for bodies
_SETTLE_SECONDS_AT_STOP: Final = 10.0
_GONE: Final = "The receiver answered 410 Gone."


class Engine:
    """Delivers what is in the outbox. `dispatcher` is where published events are handed over."""

    def __init__(
        self, settings: Settings, database: Database, clock: DatabaseClock, sealer: Sealer, hints: Hints
    ) -> None:
        options = database.options
        self._settings = settings
        self._database = database
        self._hints = hints
        self.ownership = Ownership(options, clock, settings.lease_seconds)
        self.ownership.on_counted = hints.process_counted
        self._lanes = Lanes(
            LaneLimits(
                settings.lane_prefetch_max,
                settings.prefetch_bytes_max,
                settings.prefetch_bytes_max // _LANES_PER_MEMORY,
                settings.webhook_in_flight_max,
                settings.customer_in_flight_max,
            )
        )
        self._settler = Settler(
            options,
            self.ownership,
            settings.settle_batch_max,
            settings.settle_wait_seconds,
            on_settled=self._settled,
            on_dropped=self._dropped,
        )
        self.webhooks = WebhookCache(options, self._webhook_changed)
        self._sender = Sender(settings.egress_policy, clock, settings.response_body_bytes_max)
        self.dispatcher = Dispatcher(
            options,
            DispatchLimits(settings.poll_seconds, settings.process_in_flight_max, _UNSETTLED_MAX),
            self._lanes,
            self.ownership,
            self.webhooks,
            Deliverer(
                self._sender,
                sealer,
                clock,
                settings.egress_policy,
                settings.retry_policy,
                settings.attempt_timeout_seconds,
            ),
            self._settler,
            self._disable,
        )

    async def start(self) -> None:
        """Takes the first shards, so that what is published right away is sent at once. Raises Unavailable."""
        self._sender.open()
        await self.ownership.beat()

    def loops(self) -> Mapping[str, Coroutine[Any, Any, None]]:
        """What has to run while the engine works, by name. None of it ends by itself."""
        return {
            "ownership": self.ownership.run(),
            "dispatcher": self.dispatcher.run(),
            "settler": self._settler.run(),
            "webhook cache": self.webhooks.run(),
            "janitor": Janitor(self._database).run(),
        }

    async def drain(self) -> None:
        """Lets attempts in flight end, settles them and gives the shards back. The loops must still run."""
        await self.ownership.retire()
        await self.dispatcher.drain(self._settings.drain_seconds)
        try:
            async with asyncio.timeout(_SETTLE_SECONDS_AT_STOP):
                await self._settler.drained()
        except TimeoutError:
            log.warning("results not settled; their deliveries are sent again", count=len(self._settler))

    async def close(self) -> None:
        """Gives the shards back and closes all connections. The loops have ended."""
        await self.ownership.leave()
        await self.dispatcher.close()
        await self._settler.close()
        await self.webhooks.close()
        await self._sender.close()

    def _settled(self, batch: Sequence[Settled]) -> None:
        self.dispatcher.settled(batch)
        self._hints.logged()

    def _dropped(self, batch: Sequence[Settled]) -> None:
        self.dispatcher.dropped(batch)

    def _webhook_changed(self, webhook: Webhook) -> None:
        self.dispatcher.webhook_changed(webhook)

    async def _disable(self, webhook: Webhook) -> bool:
        """Switches off a webhook whose receiver said that it is gone.

        False if it is no longer the webhook to which that was said: its URL may have been mended meanwhile.
        """
        try:
            await webhooks.set_status(
                self._database,
                webhook,
                WebhookStatus.DISABLED,
                (WebhookStatus.ACTIVE, WebhookStatus.PAUSED),
                reason=_GONE,
                version=webhook.version,
            )
        except (Conflict, Unavailable):
            return False
        except WebhookError:
            return True  # deleted or disabled meanwhile
        self._hints.webhook_changed(webhook.webhook_id)
        return True

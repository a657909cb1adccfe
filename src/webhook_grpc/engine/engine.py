"""The engine as one thing: its parts, wired together, started and stopped in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping
from random import Random
from typing import Any, Final

import structlog

from webhook_grpc.domain.errors import Conflict, Unavailable, WebhookError
from webhook_grpc.domain.model import DisableReason, Webhook, WebhookStatus
from webhook_grpc.domain.sealing import Sealer
from webhook_grpc.engine.duties.commands import Commands
from webhook_grpc.engine.duties.expiry import Expiry
from webhook_grpc.engine.duties.janitor import LEADER_SHARD, Janitor
from webhook_grpc.engine.duties.replays import Replays
from webhook_grpc.engine.duties.rescheduling import Rescheduling
from webhook_grpc.engine.health.stillness import Stillness
from webhook_grpc.engine.http.sender import Sender
from webhook_grpc.engine.queue.due_hints import DueHints
from webhook_grpc.engine.queue.fetcher import Fetcher
from webhook_grpc.engine.queue.intake import Intake
from webhook_grpc.engine.queue.lanes import LaneLimits, Lanes
from webhook_grpc.engine.queue.stale_rows import StaleRows
from webhook_grpc.engine.receivers.keys import KeyWatch
from webhook_grpc.engine.receivers.paces import Paces
from webhook_grpc.engine.receivers.webhooks import WebhookCache
from webhook_grpc.hub.hints import Hints
from webhook_grpc.settings import Settings
from webhook_grpc.store.clock import DatabaseClock
from webhook_grpc.store.db import Database, LoopConnection
from webhook_grpc.store.registry import webhooks

from .attempt import Deliverer
from .dispatcher import Dispatcher, DispatchLimits
from .ownership import Ownership
from .poison import PoisonGuard
from .settled_turns import SettledTurns
from .settler import SettleLimits, Settler
from .unsettled import Unsettled

log = structlog.get_logger(__name__)

_UNSETTLED_MAX: Final = 5000
_LANES_PER_MEMORY: Final = 8  # one lane gets at most this part of the memory for bodies
_SETTLE_SECONDS_AT_STOP: Final = 10.0


class Engine:
    """Delivers what is in the outbox. `intake` is where published events are handed over."""

    def __init__(
        self, settings: Settings, database: Database, clock: DatabaseClock, sealer: Sealer, hints: Hints
    ) -> None:
        options = database.options
        self._settings = settings
        self._database = database
        self._hints = hints
        self.ownership = Ownership(options, clock, settings.lease_seconds, sealer.key_ids)
        self.ownership.on_counted = hints.process_counted
        self._poison = PoisonGuard(options, self.ownership)
        self.lanes = Lanes(
            LaneLimits(
                settings.lane_prefetch_max,
                settings.prefetch_bytes_max,
                settings.prefetch_bytes_max // _LANES_PER_MEMORY,
                settings.customer_in_flight_max,
                settings.host_in_flight_max,
            ),
            self._poison.is_suspect,
        )
        self._unsettled = Unsettled()
        self.webhooks = WebhookCache(options, self._webhook_changed)
        self.paces = Paces(options, settings.pace_policy, self.ownership, KeyWatch(sealer, clock))
        self.due_hints = DueHints(self.lanes)
        stale_rows = StaleRows()
        self._sender = Sender(
            settings.egress_policy,
            clock,
            settings.response_body_bytes_max,
            settings.idle_connections_max,
            connect_seconds_max=settings.connect_seconds_max,
            body_seconds_max=settings.response_body_seconds_max,
        )
        deliverer = Deliverer(
            self._sender,
            sealer,
            clock,
            settings.egress_policy,
            settings.retry_policy,
            settings.attempt_timeout_seconds,
        )
        self.dispatcher = Dispatcher(
            DispatchLimits(
                settings.process_in_flight_max,
                _UNSETTLED_MAX,
                settings.ramp_in_flight,
                settings.ramp_doubling_seconds,
            ),
            clock,
            self.lanes,
            self.ownership,
            self.due_hints,
            self.webhooks,
            self.paces,
            self._poison,
            deliverer,
            self._unsettled.results,
            self._disable,
            options.progress,
        )
        self.intake = Intake(
            self.ownership, self.lanes, self.webhooks, self.paces, stale_rows, self.due_hints, self.dispatcher
        )
        self._fetch_connection = LoopConnection(options, "backlog")
        self.fetcher = Fetcher(
            self._fetch_connection,
            settings.poll_seconds,
            clock,
            self.ownership,
            self.lanes,
            self.intake,
            self.due_hints,
        )
        self.stillness = Stillness(options.progress, self.dispatcher)
        self.commands = Commands(
            options, settings.poll_seconds, self.ownership, self.lanes, deliverer, self._unsettled.commands
        )
        self.commands.on_restarted = self.due_hints.wake
        self.commands.on_cancelled = self.intake.note_cancelled
        self.commands.on_logged = hints.logged
        self._settle_connection = LoopConnection(options, "settle")
        self._settler = Settler(
            self._settle_connection,
            self.ownership,
            self._unsettled,
            SettleLimits(settings.settle_batch_max, settings.settle_wait_seconds),
            Random(),
            SettledTurns(self.lanes, stale_rows, self._poison, self.due_hints, self.dispatcher, hints.logged),
            self.commands,
        )
        self._replays = Replays(options, self.ownership, settings.replay_poll_seconds, settings.replay_pending_max)
        self._replays.on_commanded = hints.commanded
        self.expiry = Expiry(
            options,
            settings.retention_policy.events_days,
            self.ownership,
            self.dispatcher,
            self._unsettled.results,
        )
        self.rescheduling = Rescheduling(options, self.ownership, self.dispatcher, self._unsettled.results)
        self.janitor = Janitor(
            database,
            settings.retention_policy,
            is_leader=lambda: LEADER_SHARD in self.ownership.owned,
            webhook_changed=hints.webhook_changed,
        )
        clock.on_step(self._clock_stepped)
        self.ownership.is_idle = self._is_idle
        self.ownership.on_gained = self._gained
        self.ownership.before_release = self.paces.save
        self.ownership.on_leaving = self.lanes.close_shards
        self.ownership.on_lost = self._lost

    async def start(self) -> None:
        """Takes the first shards, so that what is published right away is sent at once. Raises Unavailable."""
        self._sender.open()
        await self.ownership.beat()

    def loops(self) -> Mapping[str, Coroutine[Any, Any, None]]:
        """What has to run while the engine works, by name. None of it ends by itself."""
        return {
            "ownership": self.ownership.run(),
            "fetcher": self.fetcher.run(),
            "settler": self._settler.run(),
            "webhook cache": self.webhooks.run(),
            "paces": self.paces.run(),
            "poison guard": self._poison.run(),
            "commands": self.commands.run(),
            "replays": self._replays.run(),
            "expiry": self.expiry.run(),
            "rescheduling": self.rescheduling.run(),
            "janitor": self.janitor.run(),
        }

    async def drain(self) -> None:
        """Lets attempts in flight end, settles them and gives the shards back. The loops must still run."""
        await self.ownership.retire()
        async with asyncio.TaskGroup() as both:
            both.create_task(self.dispatcher.drain(self._settings.drain_seconds), name="drain attempts")
            both.create_task(self.commands.drain(self._settings.drain_seconds), name="drain tests")
        try:
            async with asyncio.timeout(_SETTLE_SECONDS_AT_STOP):
                await self._unsettled.drained()
        except TimeoutError:
            log.warning(
                "results not settled; their deliveries are sent again", count=self._unsettled.results.unanswered_count
            )

    async def close(self) -> None:
        """Gives the shards back and closes all connections. The loops have ended."""
        await self._poison.close()
        await self.ownership.leave()
        await self.paces.close()
        await self._replays.close()
        await self.expiry.close()
        await self.rescheduling.close()
        await self._fetch_connection.close()
        await self.commands.close()
        await self._settle_connection.close()
        await self.webhooks.close()
        await self._sender.close()

    def _gained(self, shards: set[int]) -> None:
        self.paces.gained(shards, time.monotonic())
        self.dispatcher.gained(shards)
        self.due_hints.discover(shards)
        self.commands.wake()
        self.rescheduling.look_through(shards)

    def _clock_stepped(self) -> None:
        """Forgets what is known in the database's old time. By how much it has stepped makes no difference."""
        self.ownership.clock_stepped()
        self.webhooks.clock_stepped()
        self.fetcher.clock_stepped()
        self.janitor.clock_stepped()
        self.rescheduling.look_through(self.ownership.owned)

    def _is_idle(self, shard: int) -> bool:
        """Whether a shard can be given back: nothing that was begun for it is unsettled."""
        return self.lanes.is_idle(shard) and self.commands.is_idle(shard)

    def _lost(self, shards: set[int]) -> None:
        self.lanes.forget_shards(shards)
        self.paces.forget_shards(shards)
        self._poison.forget_shards(shards)
        self.commands.forget_shards(shards)

    def _webhook_changed(self, webhook: Webhook) -> None:
        self.intake.webhook_changed(webhook)

    async def _disable(self, webhook: Webhook, reason: DisableReason) -> bool:
        """Switches off a webhook because of what its receiver said, or long did not say.

        False if it is no longer the webhook of which that was true: its URL may have been mended meanwhile.
        """
        try:
            await webhooks.set_status(
                self._database,
                webhook,
                WebhookStatus.DISABLED,
                (WebhookStatus.ACTIVE, WebhookStatus.PAUSED),
                reason=reason,
                version=webhook.version,
            )
        except (Conflict, Unavailable):
            return False
        except WebhookError:
            return True  # deleted or disabled meanwhile
        log.warning("webhook disabled", webhook_id=webhook.webhook_id, customer_id=webhook.customer_id, reason=reason)
        self._hints.webhook_changed(webhook.webhook_id)
        return True

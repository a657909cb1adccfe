"""The engine as one thing: makes its parts from the bottom up, starts and stops them in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from random import Random
from typing import Any, Final

import structlog

from webhook_grpc.domain.errors import Conflict, Unavailable, WebhookError
from webhook_grpc.domain.model import DisableReason, Webhook, WebhookStatus
from webhook_grpc.domain.sealing import Sealer
from webhook_grpc.engine.duties.clear_sealing import ClearSealing
from webhook_grpc.engine.duties.commands import Commands
from webhook_grpc.engine.duties.expiry import Expiry
from webhook_grpc.engine.duties.janitor import LEADER_SHARD, Janitor
from webhook_grpc.engine.duties.replays import Replays
from webhook_grpc.engine.duties.rescheduling import Rescheduling
from webhook_grpc.engine.duties.webhook_tests import WebhookTests
from webhook_grpc.engine.health.figures import Figures
from webhook_grpc.engine.health.monitor import Monitor
from webhook_grpc.engine.health.stillness import Stillness
from webhook_grpc.engine.http.pool import KeptLimits, within_descriptors
from webhook_grpc.engine.http.sender import Sender, SendLimits
from webhook_grpc.engine.queue.due_hints import DueHints
from webhook_grpc.engine.queue.fetcher import Fetcher
from webhook_grpc.engine.queue.hosts import HostLimits
from webhook_grpc.engine.queue.intake import Intake
from webhook_grpc.engine.queue.lanes import LaneLimits, Lanes
from webhook_grpc.engine.queue.stale_rows import StaleRows
from webhook_grpc.engine.receivers.keys import KeyWatch
from webhook_grpc.engine.receivers.paces import Paces
from webhook_grpc.engine.receivers.receivers import Receivers
from webhook_grpc.engine.receivers.webhooks import WebhookCache
from webhook_grpc.hub.connections import Connections
from webhook_grpc.hub.hints import Hints, Topic
from webhook_grpc.hub.publisher import Recipient
from webhook_grpc.settings import Settings
from webhook_grpc.store.clock import DatabaseClock
from webhook_grpc.store.db import Database
from webhook_grpc.store.registry import webhooks
from webhook_grpc.store.schema.partitions import ensure_partitions

from . import listeners
from .attempt import Attempter, AttemptPipeline
from .attempt_tally import AttemptTally
from .attempt_traces import AttemptTraces
from .dispatcher import Dispatcher, DispatchLimits
from .ownership import Ownership
from .poison import PoisonGuard
from .request_signer import RequestSigner
from .settled_turns import SettledTurns
from .settler import SettleLimits, SettleListeners, Settler
from .shards import Shards
from .unsettled import Unsettled

log = structlog.get_logger(__name__)

_UNSETTLED_MAX: Final = 5000
_LANES_PER_MEMORY: Final = 8  # one lane gets at most this part of the memory for bodies
_SETTLE_SECONDS_AT_STOP: Final = 10.0


class Engine:
    """Delivers what is in the outbox. Whoever stands outside uses the methods; the fields are for tests and metrics."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        connections: Connections,
        clock: DatabaseClock,
        sealer: Sealer,
        shards: Shards,
        hints: Hints,
        random: Random,
        traces: AttemptTraces | None,
        is_watched: Callable[[], bool],
    ) -> None:
        """`is_watched` returns whether somebody in this process waits for what is written to the log."""
        progress = database.options.progress
        self._settings = settings
        self._database = database
        self._hints = hints
        self.shards = shards
        self._clock = clock
        self._background = connections.background
        self.tally = AttemptTally(clock)
        self._unsettled = Unsettled(is_watched)
        self._poison = PoisonGuard(connections.health, shards, self._unsettled.results)
        self.lanes = Lanes(
            _lane_limits(settings),
            self._poison.is_suspect,
        )
        self.receivers = Receivers(
            WebhookCache(connections.webhooks),
            Paces(connections.health, settings.pace_policy, shards, KeyWatch(sealer, clock)),
            clock,
            random,
        )
        self.due_hints = DueHints(self.lanes)
        stale_rows = StaleRows()
        self._sender = Sender(
            settings.egress_policy,
            clock,
            random,
            _send_limits(settings),
            proxy=settings.egress_proxy,
        )
        signer = RequestSigner(
            sealer, settings.egress_policy, settings.attempt_timeout_seconds, clock, shards.may_begin
        )
        attempter = Attempter(signer, self._sender, settings.retry_policy, clock, random, traces)
        self.dispatcher = Dispatcher(
            _dispatch_limits(settings),
            shards,
            self.lanes,
            self.receivers,
            AttemptPipeline(attempter, self._poison, self.receivers, self._disable, progress, random),
            self._unsettled.results,
            self.due_hints,
        )
        self.intake = Intake(shards, self.lanes, self.receivers, stale_rows, self.due_hints, self.dispatcher)
        self.fetcher = Fetcher(
            connections.backlog, settings.poll_seconds, clock, shards, self.lanes, self.intake, self.due_hints
        )
        self.commands = Commands(
            connections.commands,
            settings.poll_seconds,
            shards,
            self.lanes,
            WebhookTests(connections.commands, shards, attempter),
            self._unsettled.commands,
        )
        self._replays = Replays(
            connections.background, shards, hints, settings.replay_poll_seconds, settings.replay_pending_max
        )
        self.expiry = Expiry(
            connections.background,
            settings.retention_policy.events_days,
            shards,
            self.dispatcher,
            self._unsettled.results,
        )
        self.rescheduling = Rescheduling(connections.background, shards, self.dispatcher, self._unsettled.results)
        self.ownership = Ownership(
            connections.ownership,
            shards,
            listeners.ShardHandover(
                self.lanes,
                self.receivers,
                self._poison,
                self.due_hints,
                self.dispatcher,
                self.commands,
                self.rescheduling,
            ),
            clock,
            random,
            settings.lease_seconds,
            sealer.key_ids,
        )
        self._settler = Settler(
            connections.settle,
            self.ownership,
            self._unsettled,
            SettleLimits(settings.settle_batch_max, settings.settle_wait_seconds, settings.settle_wait_seconds_max),
            random,
            SettleListeners(
                SettledTurns(self.lanes, stale_rows, self._poison, self.due_hints, self.dispatcher, hints, self.tally),
                listeners.ExecutedCommands(self.commands, self.intake, self._poison, self.due_hints, hints, self.tally),
            ),
            lambda: ensure_partitions(database),
        )
        self.ownership.guard(connections.settle)
        self.janitor = Janitor(
            database,
            settings.retention_policy,
            is_leader=lambda: LEADER_SHARD in shards.owned,
            webhook_changed=hints.webhook_changed,
            clear_sealing=ClearSealing(database, sealer),
        )
        clock.on_step(self._clock_stepped)
        hints.subscribe(Topic.DUE, self._due)
        hints.subscribe(Topic.COMMANDED, self.commands.commanded)
        hints.subscribe(Topic.WEBHOOKS, self.receivers.hint)

    @property
    def recipient(self) -> Recipient[Any]:
        """Returns who takes in what was just published in this process."""
        return self.intake

    def monitor(self, set_serving: Callable[[str, bool], Awaitable[None]]) -> Monitor:
        """Returns what watches the loops, and calls `set_serving` with a service when its health changes."""
        progress = self._database.options.progress
        return Monitor(progress, self.ownership, Stillness(progress, self.dispatcher), set_serving)

    def figures(self, poll_seconds: float) -> Figures:
        """Returns what reads the figures that /metrics shows; it has to run."""
        return Figures(self._background, poll_seconds, self._clock, self.shards, self.lanes, self.receivers)

    @property
    def unsettled_count(self) -> int:
        """How many results and commands are not written yet."""
        return self._unsettled.results.unanswered_count + self._unsettled.commands.unanswered_count

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
            "webhooks": self.receivers.follow(self.intake),
            "paces": self.receivers.save_and_sweep(),
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
        """Releases the shards and closes the connections to receivers. The loops have ended."""
        await self.ownership.leave()
        await self._sender.close()

    def _due(self, due: set[int]) -> None:
        """Looks for what became due in shards of ours; what concerns the others costs no look."""
        ours = due & self.shards.owned.keys()
        if ours:
            self.due_hints.wake(ours)

    def _clock_stepped(self) -> None:
        """Forgets what is known in the database's old time. By how much it has stepped makes no difference."""
        self.ownership.clock_stepped()
        self.receivers.clock_stepped()
        self.fetcher.clock_stepped()
        self.janitor.clock_stepped()
        self.rescheduling.look_through(self.shards.owned)

    async def _disable(self, webhook: Webhook, reason: DisableReason) -> bool:
        """Disables a webhook because of its receiver's answers, or because there were none for long.

        Returns False if the webhook was changed since that was found: its URL may have been corrected meanwhile.
        """
        try:
            await webhooks.set_status(
                self._database,
                webhook,
                WebhookStatus.DISABLED,
                (WebhookStatus.ACTIVE, WebhookStatus.PAUSED),
                audit=None,
                reason=reason,
                version=webhook.version,
            )
        except (Conflict, Unavailable):
            return False
        except WebhookError:
            return True  # deleted or disabled meanwhile
        self.tally.webhook_disabled(reason)
        log.warning("webhook disabled", webhook_id=webhook.webhook_id, customer_id=webhook.customer_id, reason=reason)
        self._hints.webhook_changed(webhook.webhook_id)
        return True


def _lane_limits(settings: Settings) -> LaneLimits:
    return LaneLimits(
        settings.lane_prefetch_max,
        settings.prefetch_bytes_max,
        settings.prefetch_bytes_max // _LANES_PER_MEMORY,
        settings.customer_in_flight_max,
        HostLimits(settings.host_in_flight_max, settings.host_share_per_customer),
    )


def _send_limits(settings: Settings) -> SendLimits:
    return SendLimits(
        settings.response_body_bytes_max,
        settings.connect_seconds_max,
        settings.response_body_seconds_max,
        KeptLimits(
            within_descriptors(settings.idle_connections_max),
            settings.idle_connections_per_host_max,
            settings.idle_connections_per_webhook_max,
            settings.idle_connection_seconds_max,
            settings.connection_age_seconds_max,
        ),
    )


def _dispatch_limits(settings: Settings) -> DispatchLimits:
    return DispatchLimits(
        settings.process_in_flight_max,
        _UNSETTLED_MAX,
        settings.ramp_in_flight,
        settings.ramp_doubling_seconds,
    )

"""The heart of the engine: starts attempts as the lanes take turns, and hands their results to be settled."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

import structlog

from webhook_grpc.domain.breaker import BreakerState
from webhook_grpc.domain.ids import delivery_id_text
from webhook_grpc.domain.model import Danger, DisableReason, PendingDelivery, Webhook
from webhook_grpc.domain.pace import Pace
from webhook_grpc.domain.progress import PAUSED, Cause, Progress, Service
from webhook_grpc.domain.ramp import Ramp
from webhook_grpc.domain.retry import parse_retry_after
from webhook_grpc.domain.settlement import Settlement
from webhook_grpc.engine.http.faults import SenderFault
from webhook_grpc.engine.queue.due_hints import DueHints
from webhook_grpc.engine.queue.lane import Lane, Turn
from webhook_grpc.engine.queue.lanes import Lanes
from webhook_grpc.engine.receivers.keys import SecretKeyMissing
from webhook_grpc.engine.receivers.paces import Paces
from webhook_grpc.engine.receivers.webhooks import WebhookCache
from webhook_grpc.store.clock import DatabaseClock

from .attempt import Deliverer, cancelled, expired
from .poison import PoisonGuard
from .shards import Shards
from .unsettled import EndedTurn, FencedQueue

log = structlog.get_logger(__name__)

_FAULT_PAUSE_SECONDS: Final = (1.0, 5.0)
ALONE_SECONDS_MAX: Final = 1.0  # from when on the next suspect may be sent beside one that has no answer yet
_STARTS_PER_TURN: Final = 8  # of the event loop: whoever becomes ready meanwhile need not wait for a flood


@dataclass(frozen=True, slots=True)
class DispatchLimits:
    """Bounds of the dispatcher."""

    in_flight_max: int
    unsettled_max: int
    ramp_in_flight: int
    ramp_doubling_seconds: float


class Dispatcher:
    """Owns the attempts in flight."""

    def __init__(
        self,
        limits: DispatchLimits,
        clock: DatabaseClock,
        lanes: Lanes,
        shards: Shards,
        due_hints: DueHints,
        webhooks: WebhookCache,
        paces: Paces,
        poison: PoisonGuard,
        deliverer: Deliverer,
        results: FencedQueue[EndedTurn],
        disable: Callable[[Webhook, DisableReason], Awaitable[bool]],
        progress: Progress,
    ) -> None:
        self._limits = limits
        self._sending = progress.work("send requests", Service.DELIVERY, words=PAUSED)
        self._clock = clock
        self._lanes = lanes
        self._shards = shards
        self._due_hints = due_hints
        self._webhooks = webhooks
        self._paces = paces
        self._poison = poison
        self._deliverer = deliverer
        self._results = results
        self._disable = disable
        self._attempts: set[asyncio.Task[None]] = set()
        self._disabling: set[int] = set()
        self._paused_until = 0.0
        self._ramp = Ramp(0.0)
        self._starting = False
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = math.inf
        self._stopping = False

    def gained(self, shards: set[int]) -> None:
        """The shards are ours now. Whoever had none begins slowly."""
        if len(self._shards.owned) == len(shards):
            self._ramp = Ramp(time.monotonic(), self._limits.ramp_in_flight, self._limits.ramp_doubling_seconds)

    def start_soon(self) -> None:
        """Starts what may be started, at the next turn of the event loop."""
        if not self._starting:
            self._starting = True
            asyncio.get_running_loop().call_soon(self._start_attempts)

    def _start_attempts(self) -> None:
        """Starts some of what may be started now. The only place where attempts begin."""
        self._starting = False
        now = time.monotonic()
        if self._lanes.open_gates(now):
            self._due_hints.wake()
        for _ in range(_STARTS_PER_TURN):
            if not self._may_start(now) or (turn := self._lanes.next(now)) is None:
                self._set_alarm(now)
                return
            task = asyncio.create_task(self._attempt(turn), name=f"attempt {turn.delivery.webhook_id}")
            self._attempts.add(task)
            task.add_done_callback(self._attempts.discard)
        self.start_soon()

    def _may_start(self, now: float) -> bool:
        return (
            not self._stopping
            and self._shards.may_send
            and self._webhooks.is_current
            and now >= self._paused_until
            and not self._is_full(now)
        )

    def _is_full(self, now: float) -> bool:
        """Whether this process has as many requests in flight, or results to settle, as it may."""
        is_busy = self._lanes.in_flight >= self._ramp.limit(self._limits.in_flight_max, now)
        return is_busy or len(self._results) >= self._limits.unsettled_max

    def startable(self, now: float) -> Iterable[Lane]:
        """The lanes of which something should be started now: none while there is a good reason to wait.

        That the process is full is one, and passes when requests end; so is a lease that is not renewed.
        """
        may_wait = self._stopping or not self._shards.may_send or self._is_full(now)
        return () if may_wait else self._lanes.startable(now)

    @property
    def started_count(self) -> int:
        """How many requests were started, of all webhooks."""
        return self._lanes.started_count

    def why_not(self, now: float) -> str:
        """Why nothing is started although something could be, for the log."""
        if not self._webhooks.is_current:
            return "changes of webhooks are not followed, so nothing is sent"
        return "attempts are paused" if now < self._paused_until else "no reason is known"

    def _set_alarm(self, now: float) -> None:
        """Time alone may make something ready: a token, a probe, the next step of the ramp, the end of a pause."""
        at = min(
            self._lanes.next_gate_at,
            self._ramp.next_step_at(self._limits.in_flight_max, now) or math.inf,
            self._paused_until if self._paused_until > now else math.inf,
        )
        if self._alarm is not None and (at < self._alarm_at or self._alarm_at <= now):
            self._alarm.cancel()
            self._alarm = None
        if self._alarm is None and at < math.inf:
            self._alarm_at = at
            self._alarm = asyncio.get_running_loop().call_later(max(0.0, at - now), self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self.start_soon()

    async def _attempt(self, turn: Turn) -> None:
        """Brings one delivery from its lane to the settler. Whatever happens, its slot becomes free."""
        settlement: Settlement | None = None
        try:
            settlement = await self._settlement(turn)
            if settlement is not None and settlement.result is not None:
                self._sending.succeed()
        except SenderFault as fault:
            self._pause(turn.lane, fault)
        except Exception:  # a bug must not stop the lane: the delivery backs off, and fails alone in the end
            log.exception("attempt failed", delivery_id=_delivery_id(turn.delivery))
            settlement = self._deliverer.failed(turn.delivery)
        finally:
            if settlement is None:
                self._lanes.put_back(turn)
            else:
                self._results.add(EndedTurn(turn, settlement))
            self._lanes.finished(turn, time.monotonic())
            self.start_soon()

    async def _settlement(self, turn: Turn) -> Settlement | None:
        """Returns what becomes of a delivery; None if it could not be marked, or looked up, and is not sent."""
        lane, delivery = turn.lane, turn.delivery
        webhook, pace = lane.webhook, lane.pace
        assert webhook is not None  # a lane without them is never ready
        assert pace is not None
        if webhook.status.has_ended:
            return cancelled(delivery)
        if not delivery.body:
            return expired(delivery)
        has_killed = await self._poison.has_killed(delivery)
        if has_killed is None:
            return None
        if has_killed:
            log.error("a process died during this attempt", delivery_id=_delivery_id(delivery))
            return self._deliverer.interrupted(delivery, webhook)
        if self._poison.applies(delivery):
            is_marked = await self._poison.mark(delivery)
            await self._results.caught_up()  # what was answered before must not be lost, should the process die of this
            if not is_marked or not self._is_as_it_was(lane, webhook):
                return None
        if delivery.danger is not Danger.NONE:
            asyncio.get_running_loop().call_later(ALONE_SECONDS_MAX, self._end_isolation, turn)
        started_at = time.monotonic()
        settled = await self._deliverer.attempt(delivery, webhook)
        reason = self._learn(pace, settled, started_at)
        if settled.decision.disables_webhook:
            is_disabled = await self._disable(webhook, DisableReason.GONE)
            return settled if is_disabled else self._deliverer.again(settled, webhook)
        if reason is not None and webhook.webhook_id not in self._disabling:
            await self._disable_failing(webhook, reason)
        return settled

    def _end_isolation(self, turn: Turn) -> None:
        """A receiver that hangs must not hold up the suspects of all others; what kills mostly does so at once."""
        self._lanes.end_isolation(turn)
        self.start_soon()

    def _is_as_it_was(self, lane: Lane, webhook: Webhook) -> bool:
        """Whether a delivery of the lane may still be sent after something was waited for."""
        is_ours = self._shards.may_send and self._lanes.get(lane.webhook_id) is lane
        return is_ours and lane.webhook is webhook

    def _learn(self, pace: Pace, settled: Settlement, started_at: float) -> DisableReason | None:
        """Tells the webhook's pace how its receiver answered. A reason if the webhook should be disabled."""
        result = settled.result
        assert result is not None
        webhook_id = settled.delivery.webhook_id
        state_before, memory_before = pace.breaker.state, pace.memory()
        reason = pace.ended(
            result,
            parse_retry_after(result.retry_after, self._clock.now()),
            started_at=started_at,
            now=time.monotonic(),
            jitter=random.random(),
        )
        if pace.breaker.state is not state_before:
            say = log.info if pace.breaker.state is BreakerState.CLOSED else log.warning
            say("breaker changed", webhook_id=webhook_id, state=pace.breaker.state.value)
        if pace.memory() != memory_before:
            self._paces.changed(webhook_id)
        return reason

    async def _disable_failing(self, webhook: Webhook, reason: DisableReason) -> None:
        """One of the attempts that find the same is enough."""
        self._disabling.add(webhook.webhook_id)
        try:
            await self._disable(webhook, reason)
        finally:
            self._disabling.discard(webhook.webhook_id)

    def _pause(self, lane: Lane, fault: SenderFault) -> None:
        """A fault of our own: for a moment nothing is sent, by this process or, if no other is concerned, this lane."""
        seconds = random.uniform(*_FAULT_PAUSE_SECONDS)
        now = time.monotonic()
        if fault.is_local and lane.pace is not None:
            lane.pace.pause(seconds, now)
        else:
            self._paused_until = now + seconds
        if not isinstance(fault, SecretKeyMissing):  # which keeps this webhook waiting, and is said where it is found
            self._sending.fail(Cause(str(fault)))

    def end(self, settlement: Settlement) -> bool:
        """Settles what a delivery ended with without an attempt. False: it is held, and ends in its own time.

        Its row may be an old one: then the database leaves the delivery as it is.
        """
        delivery = settlement.delivery
        lane = self._lanes.open(delivery.webhook_id, delivery.customer_id, delivery.shard, time.monotonic())
        turn = self._lanes.reserve(lane, delivery)
        if turn is None:
            return False
        self._results.add(EndedTurn(turn, settlement))
        return True

    async def drain(self, seconds: float) -> None:
        """Starts nothing more and waits for what is in flight, but not longer than this; the rest is sent again."""
        self._stopping = True
        attempts = set(self._attempts)
        if attempts:
            _, late = await asyncio.wait(attempts, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


def _delivery_id(delivery: PendingDelivery) -> str:
    return delivery_id_text(delivery.event_id, delivery.webhook_id)

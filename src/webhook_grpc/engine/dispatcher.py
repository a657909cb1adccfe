"""Starts attempts as the lanes take turns, within the limits of the process, and hands on what came of them."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable
from typing import Final

from webhook_grpc.domain.model import DeliveryStatus
from webhook_grpc.domain.ramp import Ramp
from webhook_grpc.domain.record import record
from webhook_grpc.domain.settlement import Settlement
from webhook_grpc.engine.queue.due_hints import DueHints
from webhook_grpc.engine.queue.lane import Lane, Turn
from webhook_grpc.engine.queue.lanes import Lanes
from webhook_grpc.engine.receivers.receivers import Receivers

from .attempt import AttemptPipeline
from .shards import Shards
from .unsettled import EndedTurn, FencedQueue

_STARTS_PER_TURN: Final = 8  # of the event loop: other tasks get the loop between two pieces of a flood


@record
class DispatchLimits:
    """Bounds of the dispatcher."""

    in_flight_max: int
    unsettled_max: int
    ramp_in_flight: int
    ramp_doubling_seconds: float


class Dispatcher:
    """Owns the slots of the process and the tasks of attempts in flight."""

    def __init__(
        self,
        limits: DispatchLimits,
        shards: Shards,
        lanes: Lanes,
        receivers: Receivers,
        attempts: AttemptPipeline,
        results: FencedQueue[EndedTurn],
        due_hints: DueHints,
    ) -> None:
        self._limits = limits
        self._shards = shards
        self._lanes = lanes
        self._receivers = receivers
        self._attempts = attempts
        self._results = results
        self._due_hints = due_hints
        self._tasks: set[asyncio.Task[None]] = set()
        self._ramp = Ramp(0.0)
        self._is_asked = False  # to start what may be started, in the next turn of the event loop
        self._is_turn_awaited = False
        self._has_started = False  # some, in this turn
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = math.inf
        self._stopping = False

    def gained(self, shards: set[int]) -> None:
        """Begins slowly, if these are the first shards of this process."""
        if len(self._shards.owned) == len(shards):
            self._ramp = Ramp(time.monotonic(), self._limits.ramp_in_flight, self._limits.ramp_doubling_seconds)

    def start_soon(self) -> None:
        """Starts what may be started, at the next turn of the event loop."""
        self._is_asked = True
        self._await_next_turn()

    def start(self) -> None:
        """Starts what may be started: some of it at once, if nothing was started in this turn of the event loop."""
        if self._has_started:
            self.start_soon()
        else:
            self._has_started, self._is_asked = True, False
            self._await_next_turn()
            try:
                self._start_attempts()
            except Exception as error:  # noqa: BLE001 - the events are stored: a bug here must not fail the call
                what = {"message": "attempts were not started", "exception": error}
                asyncio.get_running_loop().call_exception_handler(what)

    def _await_next_turn(self) -> None:
        if not self._is_turn_awaited:
            self._is_turn_awaited = True
            asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._is_turn_awaited = self._has_started = False
        if self._is_asked:
            self.start()

    def _start_attempts(self) -> None:
        """Starts some of what may be started now. Attempts begin only here."""
        now = time.monotonic()
        if self._lanes.open_gates(now):
            self._due_hints.wake()
        for _ in range(_STARTS_PER_TURN):
            if not self._may_start(now) or (turn := self._lanes.next(now)) is None:
                self._set_alarm(now)
                return
            task = asyncio.create_task(self._attempt(turn), name=f"attempt {turn.delivery.webhook_id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self.start_soon()

    def _may_start(self, now: float) -> bool:
        return (
            not self._stopping
            and self._shards.may_send
            and self._receivers.is_current
            and now >= self._attempts.paused_until
            and not self._is_full(now)
        )

    def _is_full(self, now: float) -> bool:
        """Whether this process has as many requests in flight, or results to settle, as it may."""
        is_busy = self._lanes.in_flight >= self._ramp.limit(self._limits.in_flight_max, now)
        return is_busy or len(self._results) >= self._limits.unsettled_max

    def startable(self, now: float) -> Iterable[Lane]:
        """Returns the lanes of which something should be started now: none while there is a good reason to wait.

        Two good reasons: the process is full, which ends when requests end; or the lease is not renewed.
        """
        may_wait = self._stopping or not self._shards.may_send or self._is_full(now)
        return () if may_wait else self._lanes.startable(now)

    @property
    def started_count(self) -> int:
        """How many requests were started, of all webhooks."""
        return self._lanes.started_count

    def why_not(self, now: float) -> str:
        """Returns why nothing is started although something could be, for the log."""
        if not self._receivers.is_current:
            return "changes of webhooks are not followed, so nothing is sent"
        return "attempts are paused" if now < self._attempts.paused_until else "no reason is known"

    def _set_alarm(self, now: float) -> None:
        """Sets a timer for when time alone may make something ready: a token, a probe, a step of the ramp, a pause."""
        at = min(
            self._lanes.next_gate_at,
            self._ramp.next_step_at(self._limits.in_flight_max, now) or math.inf,
            self._attempts.paused_until if self._attempts.paused_until > now else math.inf,
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
            settlement = await self._attempts.run(turn, self._end_isolation)
        finally:
            if settlement is None:  # also if this task is cancelled
                self._lanes.put_back(turn)
            else:
                self._results.add(EndedTurn(turn, settlement), may_wait=_may_wait(turn, settlement))
            self._lanes.finished(turn, time.monotonic())
            self.start_soon()

    def _end_isolation(self, turn: Turn) -> None:
        self._lanes.end_isolation(turn)
        self.start_soon()

    def end(self, settlement: Settlement) -> bool:
        """Settles a delivery without an attempt: it has ended, or has another due time. Returns False if it is held.

        If the row was read before the delivery changed, the database leaves the delivery as it is.
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
        attempts = set(self._tasks)
        if attempts:
            _, late = await asyncio.wait(attempts, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


def _may_wait(turn: Turn, settlement: Settlement) -> bool:
    """Returns whether nothing is held up until the settlement is written: no retry, and no backlog that needs room."""
    return settlement.decision.status is DeliveryStatus.SUCCEEDED and not turn.lane.reading.has_more

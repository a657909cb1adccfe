"""What the answers of a webhook's receiver have taught: whether, how fast and how many requests may be sent to it.

One `Pace` per webhook joins its breaker, its throttle and its record of failures. It knows no queue, no table and no
clock: each time is an argument, in monotonic seconds of the caller's clock.
"""

from __future__ import annotations

import math
from dataclasses import field, replace
from datetime import datetime
from enum import Enum, auto
from typing import Final

from .breaker import Breaker, BreakerPolicy, BreakerState
from .disabling import DisablePolicy, FailureRecord
from .model import AttemptResult, DisableReason, Outcome
from .record import record
from .throttle import Slowdown, Throttle

HOUR: Final = 3600.0
_USEFUL_MAX: Final = 1_000_000
_FAR_AHEAD_SECONDS: Final = 2.0  # how much of a limited webhook's backlog is worth holding in memory


class Signal(Enum):
    """What the result of one attempt says about the receiver."""

    HEALTHY = auto()  # 2xx
    REFUSING = auto()  # an answer, but not a success: a wrong path, a bad token, a redirect
    OVERLOADED = auto()  # 429
    DOWN = auto()  # no answer, no connection, bad TLS, not HTTP, 5xx
    BLOCKED = auto()  # its address may not be called
    NOTHING = auto()  # a fault of ours


def signal_of(result: AttemptResult) -> Signal:
    """Returns what a result says about the receiver."""
    match result.outcome:
        case Outcome.SUCCEEDED:
            return Signal.HEALTHY
        case Outcome.TIMEOUT | Outcome.CONNECTION_ERROR | Outcome.TLS_ERROR | Outcome.PROTOCOL_ERROR:
            return Signal.DOWN
        case Outcome.BLOCKED:
            return Signal.BLOCKED
        case Outcome.INTERNAL_ERROR:
            return Signal.NOTHING
        case Outcome.HTTP_ERROR:
            status = result.response_status or 0
            if status == 429:
                return Signal.OVERLOADED
            return Signal.DOWN if status >= 500 else Signal.REFUSING


@record
class PacePolicy:
    """The numbers that hold for all webhooks."""

    in_flight_max: int = 10
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)
    disable: DisablePolicy = field(default_factory=DisablePolicy)
    throttle_seconds: float = 600.0
    hold_seconds_max: float = HOUR


@record
class SavedHealth:
    """What outlives the process, in durations: backwards from now; the probe, the hold and the slow-down forwards."""

    breaker: BreakerState
    probe_in_seconds: float
    probe_count: int
    failing_seconds: float | None
    failure_count: int
    blocked_count: int
    blocked_seconds: float | None
    hold_seconds: float = 0.0
    slowdown: Slowdown | None = None


@record
class ReceiverHealth:
    """What was last saved of a receiver, for people to see, in times of the database's clock."""

    breaker: BreakerState = BreakerState.CLOSED
    probe_time: datetime | None = None
    failing_since: datetime | None = None
    hold_until: datetime | None = None
    throttled_until: datetime | None = None


class Pace:
    """The pace of one webhook."""

    def __init__(self, policy: PacePolicy, owned_since: float) -> None:
        self.policy = policy
        self.breaker = Breaker(policy.breaker)
        self.record = FailureRecord()
        self.in_flight_max = policy.in_flight_max
        self._throttle = Throttle.since(owned_since, policy.throttle_seconds)
        self._hold_until = -math.inf  # its receiver has requested it
        self._pause_until = -math.inf  # a fault of ours
        self._locked_until = -math.inf  # nothing can be signed for it
        self._left_alone_until = -math.inf  # the latest of the three: read several times for each request

    def configure(self, in_flight_max: int | None, rate_per_second: float | None) -> None:
        """Sets the webhook's own limits; None where it has none."""
        self.in_flight_max = max(1, in_flight_max or self.policy.in_flight_max)
        self._throttle.own_rate = rate_per_second if rate_per_second and rate_per_second > 0 else None

    def lock(self, seconds: float, now: float) -> None:
        """Starts nothing for so many seconds, perhaps for ever. A later call replaces this one."""
        self._locked_until = now + seconds if seconds > 0 else -math.inf
        self._leave_alone()

    # --- what it decides -------------------------------------------------------------------------------------------

    def wait_seconds(self, in_flight: int, now: float) -> float:
        """Returns after how many seconds another request may be started: 0 for now, infinite until one has ended."""
        if now < self._left_alone_until:
            return self._left_alone_until - now
        slots = self.breaker.slots(self.in_flight_max, now)
        if slots == 0:
            return self.breaker.probe_at - now
        return math.inf if in_flight >= slots else self._throttle.wait_seconds(now)

    def useful(self, now: float) -> int:
        """Returns how many deliveries are worth holding in memory: none of a receiver that is left alone."""
        if now < self._left_alone_until:
            return 0
        rate = self._throttle.rate(now)
        by_rate = _USEFUL_MAX if rate is None else min(max(2, math.ceil(rate * _FAR_AHEAD_SECONDS)), _USEFUL_MAX)
        if self.breaker.state is BreakerState.CLOSED:
            return by_rate
        slots = self.breaker.slots(self.in_flight_max, now)
        return slots if self.breaker.state is BreakerState.OPEN else min(by_rate, 2 * slots)

    def _leave_alone(self) -> None:
        self._left_alone_until = max(self._hold_until, self._pause_until, self._locked_until)

    def has_learnt(self, now: float) -> bool:
        """Returns whether there is something that the next owner may have to know."""
        is_failing = self.breaker.state is not BreakerState.CLOSED or self.record.has_any
        return is_failing or now < self._hold_until or self._throttle.slowdown(now) is not None

    def is_new(self, now: float) -> bool:
        """Returns whether nothing would be lost if the pace were forgotten and made again."""
        is_free = now >= max(self._pause_until, self._locked_until)
        return not self.has_learnt(now) and is_free and self._throttle.is_idle(now)

    def memory(self) -> tuple[object, ...]:
        """Returns all that `save` depends on: as long as this is the same, what was saved is still true."""
        breaker, record = self.breaker, self.record
        learnt = (breaker.state, breaker.probe_at, breaker.probe_count, self._hold_until, self._throttle.cut_at)
        return *learnt, record.failing_since, record.failure_count, record.blocked_count, record.blocked_at

    # --- what happens ----------------------------------------------------------------------------------------------

    def started(self, now: float) -> None:
        """Takes a token: a request was started."""
        self._throttle.started(now)

    def ended(
        self, result: AttemptResult, asked_seconds: float | None, *, started_at: float, now: float, jitter: float
    ) -> DisableReason | None:
        """Learns from the result of a request. Returns a reason to disable the webhook, if any.

        `asked_seconds` is its Retry-After, None without one.
        """
        signal = signal_of(result)
        if signal is Signal.OVERLOADED:
            self._throttle.overloaded(started_at, now)
            self.breaker.answered(self.in_flight_max, now)
        elif signal in {Signal.DOWN, Signal.BLOCKED}:
            self.breaker.failed(now, jitter, started_at=started_at)
        elif signal in {Signal.HEALTHY, Signal.REFUSING}:
            self.breaker.answered(self.in_flight_max, now)
        if asked_seconds is not None and result.response_status in {429, 503}:
            self.hold(min(asked_seconds, self.policy.hold_seconds_max), now)
        return self._recorded(signal, now)

    def hold(self, seconds: float, now: float) -> None:
        """Starts nothing for so many seconds: the receiver has requested it."""
        self._hold_until = max(self._hold_until, now + seconds)
        self._leave_alone()

    def pause(self, seconds: float, now: float) -> None:
        """Starts nothing for so many seconds, for a reason that is this process's own."""
        self._pause_until = max(self._pause_until, now + seconds)
        self._leave_alone()

    def forget(self) -> None:
        """Forgets what was learnt."""
        self.record = FailureRecord()
        self.breaker = Breaker(self.policy.breaker)
        self._hold_until = -math.inf
        self._leave_alone()
        self._throttle.forget()

    def resumed(self) -> None:
        """Starts over, half-open: somebody has enabled the webhook again."""
        self.forget()
        self.breaker.half_open()

    def _recorded(self, signal: Signal, now: float) -> DisableReason | None:
        policy = self.policy.disable
        if signal is Signal.NOTHING:
            return None
        if signal is Signal.OVERLOADED:  # it was reached, and is not failing
            self.record.blocked_count, self.record.blocked_at = 0, None
            return None
        if signal is Signal.HEALTHY:
            if self.record.has_any:
                self.record = FailureRecord()
            return None
        if signal in {Signal.DOWN, Signal.REFUSING}:
            self.record.blocked_count, self.record.blocked_at = 0, None
            self.record.failed(now)
        elif signal is Signal.BLOCKED:
            self.record.failed(now)
            self.record.blocked(now, policy.blocked_apart_seconds)
        return self.record.verdict(policy, now)

    # --- across processes ------------------------------------------------------------------------------------------

    def save(self, now: float) -> SavedHealth:
        """Returns what the next owner of the webhook should know."""
        record = self.record
        return SavedHealth(
            breaker=self.breaker.state,
            probe_in_seconds=max(0.0, self.breaker.probe_at - now) if self.breaker.state is BreakerState.OPEN else 0.0,
            probe_count=self.breaker.probe_count,
            failing_seconds=None if record.failing_since is None else now - record.failing_since,
            failure_count=record.failure_count,
            blocked_count=record.blocked_count,
            blocked_seconds=None if record.blocked_at is None else now - record.blocked_at,
            hold_seconds=max(0.0, self._hold_until - now),
            slowdown=self._throttle.slowdown(now),
        )

    def restore(self, saved: SavedHealth, now: float) -> None:
        """Goes on from what the last owner has saved.

        Nothing lasts longer than it can, and nothing began later than now: the database's clock, by which it was saved,
        may have stepped back since.
        """
        policy = self.policy
        self.breaker.state = saved.breaker
        self.breaker.probe_at = now + min(saved.probe_in_seconds, policy.breaker.probe_seconds_max)
        self.breaker.probe_count = saved.probe_count
        self.record = FailureRecord(
            failing_since=None if saved.failing_seconds is None else now - max(0.0, saved.failing_seconds),
            failure_count=saved.failure_count,
            blocked_count=saved.blocked_count,
            blocked_at=None if saved.blocked_seconds is None else now - max(0.0, saved.blocked_seconds),
        )
        if saved.hold_seconds > 0:
            self.hold(min(saved.hold_seconds, policy.hold_seconds_max), now)
        if saved.slowdown is not None:
            seconds = min(saved.slowdown.seconds, policy.throttle_seconds)
            self._throttle.slow_down(replace(saved.slowdown, seconds=seconds), now)

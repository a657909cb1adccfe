"""Events that wait to be published, and which of them go into the next batch.

Pure: no I/O, no lock and no clock; `now` is in monotonic seconds. The owner of a queue lets one
thread use it at a time.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypedDict, TypeVar

from webhook.v1 import service_pb2

from .backoff import pause_seconds
from .errors import Unavailable, error_of_result
from .events import BYTES_MAX

EVENTS_MAX: Final = 500  # the service takes no more in a call
_EVENT_BYTES: Final = 16  # what an event costs in a batch besides its own bytes
_AMPLE: Final = 0.75


class Result(Protocol):
    """The future of one event: of asyncio, or of concurrent.futures."""

    def done(self) -> bool:
        """Returns whether nobody waits for it any more."""
        ...

    def set_result(self, result: service_pb2.PublishEventResponse, /) -> Any:
        """Takes the answer."""
        ...

    def set_exception(self, exception: Exception, /) -> Any:
        """Takes the error."""
        ...


R = TypeVar("R", bound=Result)


@dataclass(frozen=True, slots=True)
class PublisherLimits:
    """Bounds of a publisher: how much may wait, how many batches are on their way, how long an event is tried."""

    max_waiting: int = 10_000
    max_waiting_bytes: int = 64_000_000
    batches_at_once: int = 2
    batch_events: int = EVENTS_MAX
    """Events in a batch; more than 500 are 500."""
    linger_seconds: float = 0.001
    """How long a batch that is not full waits for more events."""
    patience_seconds: float = 300.0
    """How long an event is tried while the service is away or overloaded; then its future raises Unavailable."""

    def __post_init__(self) -> None:
        """Raises ValueError for bounds with which no event would ever be sent."""
        for name in ("max_waiting", "max_waiting_bytes", "batches_at_once", "batch_events"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1, not {getattr(self, name)}")


class PublisherBounds(TypedDict, total=False):
    """The fields of PublisherLimits, for those who write only some."""

    max_waiting: int
    max_waiting_bytes: int
    batches_at_once: int
    batch_events: int
    linger_seconds: float
    patience_seconds: float


@dataclass(slots=True, eq=False)
class Waiting(Generic[R]):
    """One event on its way to the service, and who waits for its result."""

    request: service_pb2.PublishEventRequest
    result: R
    since: float
    size_bytes: int
    failures: int = 0


class Queue(Generic[R]):
    """The events that are not settled yet."""

    def __init__(self, limits: PublisherLimits) -> None:
        self._limits = limits
        self._batch_events = min(limits.batch_events, EVENTS_MAX)
        self._ready: deque[Waiting[R]] = deque()
        self._later: list[tuple[float, int, Waiting[R]]] = []  # a heap: due at, a number, the event
        self._numbers = itertools.count()
        self._failures = 0  # of batches, in a row
        self._paused_until = 0.0
        self.count = 0  # of events, those on their way too
        self.size_bytes = 0

    def has_room(self, size_bytes: int) -> bool:
        """Returns whether an event may be added. One always may if nothing waits, however large it is."""
        fits = self.size_bytes + size_bytes <= self._limits.max_waiting_bytes
        return not self.count or (self.count < self._limits.max_waiting and fits)

    def has_ample_room(self) -> bool:
        """Returns whether a quarter of all room is free again.

        To let callers in for each event that is settled would wake each of them once an event.
        """
        is_few = self.count <= self._limits.max_waiting * _AMPLE
        return not self.count or (is_few and self.size_bytes <= self._limits.max_waiting_bytes * _AMPLE)

    def until_look(self) -> int:
        """Returns how many more events may wait to be added: so many until `add` returns True, at most a batch."""
        missing = self._batch_events - len(self._ready)
        if not self._ready:
            return 1
        return missing if missing > 0 else self._batch_events

    def add(self, request: service_pb2.PublishEventRequest, size_bytes: int, result: R, now: float) -> bool:
        """Adds an event. Returns whether `wait_seconds` is another one now: the batch has begun, or is full.

        Between these two a worker that waits for company has nothing to look at, and waking it for each event would
        cost more than the event.
        """
        self._ready.append(Waiting(request, result, now, size_bytes))
        self.count += 1
        self.size_bytes += size_bytes
        return len(self._ready) in {1, self._batch_events}

    @property
    def has_more(self) -> bool:
        """Returns whether there is something to take, now or later."""
        return bool(self._ready or self._later)

    def wait_seconds(self, now: float, *, hurry: bool) -> float | None:
        """Returns in how many seconds `take` returns a batch, 0 for at once; None: not before something is added.

        `hurry`: a batch that is not full does not wait for more.
        """
        at = self._ready_at(now, hurry=hurry)
        if at is None:
            return None
        return max(0.0, max(at, self._paused_until) - now)

    def _ready_at(self, now: float, *, hurry: bool) -> float | None:
        later = self._later[0][0] if self._later else None
        if not self._ready:
            return later
        is_full = len(self._ready) >= self._batch_events
        ready = now if is_full or hurry else self._ready[0].since + self._limits.linger_seconds
        return ready if later is None else min(ready, later)

    def take(self, now: float) -> list[Waiting[R]]:
        """Takes out the next batch: the oldest events first, within the bounds of a call."""
        while self._later and self._later[0][0] <= now:
            self._ready.appendleft(heapq.heappop(self._later)[2])
        batch: list[Waiting[R]] = []
        size_bytes = 0
        while self._ready and len(batch) < self._batch_events:
            size_bytes += self._ready[0].size_bytes + _EVENT_BYTES
            if batch and size_bytes > BYTES_MAX:
                break
            batch.append(self._ready.popleft())
        return batch

    def answered(
        self, batch: Sequence[Waiting[R]], results: Sequence[service_pb2.BatchPublishResult], now: float, jitter: float
    ) -> None:
        """Gives each event its result. One for which there was no room now is published again later."""
        self._failures = 0
        if len(results) != len(batch):  # whose is whose? Each future says so: none may wait for ever
            self.failed(batch, ValueError(f"{len(results)} results for {len(batch)} events"), now, jitter)
            return
        for event, result in zip(batch, results, strict=True):
            if result.HasField("published"):
                self._settle(event, result.published)
            else:
                self._failed(event, error_of_result(result.error), now, jitter)

    def failed(self, batch: Sequence[Waiting[R]], error: Exception, now: float, jitter: float) -> None:
        """Takes a batch back after its call failed. What will fail again, and what was tried for too long, ends."""
        if isinstance(error, Unavailable):
            self._failures += 1
            self._paused_until = now + pause_seconds(self._failures, error.problem.retry_seconds, jitter)
        for event in reversed(batch):  # the oldest will be the first again
            self._failed(event, error, now, jitter)

    def _failed(self, event: Waiting[R], error: Exception, now: float, jitter: float) -> None:
        if not isinstance(error, Unavailable):
            self._settle(event, error)
            return
        event.failures += 1
        pause = pause_seconds(event.failures, error.problem.retry_seconds, jitter)
        if now + pause - event.since > self._limits.patience_seconds:
            self._settle(event, error)
        else:
            heapq.heappush(self._later, (now + pause, next(self._numbers), event))

    def _settle(self, event: Waiting[R], outcome: service_pb2.PublishEventResponse | Exception) -> None:
        self.count -= 1
        self.size_bytes -= event.size_bytes
        if event.result.done():  # cancelled: the event was on its way, and nobody waits
            return
        if isinstance(outcome, Exception):
            event.result.set_exception(outcome)
        else:
            event.result.set_result(outcome)

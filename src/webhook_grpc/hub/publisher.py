"""Stores the events of PublishEvent by group commit, then hands the new deliveries straight to the engine.

Calls with few events and calls with many have a group each, and a connection each: an event that was published alone
does not wait for the statement of a large batch.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final, Protocol, TypeVar

import structlog

from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.model import NewEvent, Published
from webhook_grpc.domain.progress import Service, Work
from webhook_grpc.domain.tally import Histogram, PublishTally
from webhook_grpc.store.connection.failures import watched
from webhook_grpc.store.db import LoopConnection
from webhook_grpc.store.outbox import publishing
from webhook_grpc.store.outbox.publishing import NewDeliveries, PublishedBatch
from webhook_grpc.store.schema.partitions import is_partition_missing

from .group_commit import GroupCommit, GroupLimits
from .hints import Hints

log = structlog.get_logger(__name__)

_EVENT_BYTES: Final = 300  # an event besides its body, about
_DELIVERY_BYTES: Final = 200  # a row of the outbox, about, with what it costs to insert it
_CUSTOMERS_MAX: Final = 10_000
_FEW: Final = 10  # events in a call


class Expectation(Protocol):
    """What a recipient remembers from the start of a statement to its answer."""

    @property
    def shards(self) -> AbstractSet[int]:
        """Returns the shards whose new deliveries it wants one by one."""
        ...


Expected = TypeVar("Expected", bound=Expectation)


class Recipient(Protocol[Expected]):
    """The engine as publishing sees it."""

    def expect(self) -> Expected:
        """Begins to expect new deliveries, before a publishing statement starts."""
        ...

    async def receive(self, expectation: Expected, new: Sequence[NewDeliveries]) -> None:
        """Takes in what the statement made, and nothing if it failed. Others get the event loop meanwhile."""
        ...


class Publisher:
    """Stores events for concurrent callers, many in one statement."""

    def __init__(
        self,
        single: LoopConnection,
        batches: LoopConnection,
        limits: GroupLimits,
        fan_out_max: int,
        recipient: Recipient[Any],
        hints: Hints,
        make_partitions: Callable[[], Awaitable[None]],
    ) -> None:
        """`make_partitions` makes the partitions of the days around now. Raises Unavailable."""
        self._recipient = recipient
        self._make_partitions = make_partitions
        self._hints = hints
        self._fan_outs = _FanOuts(fan_out_max)
        self.tally = PublishTally()
        """What was published. Only the publisher adds to it."""
        self._few = self._group(single, "publish", limits, self.tally.single_sizes)
        self._many = self._group(batches, "publish batches", limits, self.tally.batch_sizes)

    async def publish(self, events: Sequence[NewEvent]) -> list[Published | Exception]:
        """Returns when the events are committed: an answer for each, or the exception that it was refused with.

        Raises Overloaded if too many are waiting.
        """
        group = self._few if len(events) <= _FEW else self._many
        return await group.submit(events)

    def loops(self) -> Mapping[str, Coroutine[Any, Any, None]]:
        """Returns what has to run, by name. No loop ends by itself."""
        return {"publisher": self._few.run(), "publisher of batches": self._many.run()}

    @property
    def waiting_count(self) -> int:
        """How many events wait for a statement."""
        return self._few.waiting_count + self._many.waiting_count

    def _group(
        self, connection: LoopConnection, name: str, limits: GroupLimits, sizes: Histogram
    ) -> GroupCommit[NewEvent, Published]:
        work = connection.progress.work(name, Service.WEBHOOKS)
        flush = functools.partial(self._flush, connection, work, sizes)
        return GroupCommit(flush, _size_bytes, self._weight, limits, _customer_of)

    def _weight(self, event: NewEvent) -> int:
        return _size_bytes(event) + _DELIVERY_BYTES * self._fan_outs.of(event.customer_id)

    async def _flush(
        self, connection: LoopConnection, work: Work, sizes: Histogram, events: Sequence[NewEvent]
    ) -> list[Published | Exception]:
        expectation = self._recipient.expect()
        new: Sequence[NewDeliveries] = ()
        try:
            with watched(work):
                batch = await self._publish(connection, events, expectation.shards)
            new = batch.new
            # At once: other processes need not wait for what is taken in here
            self._hints.deliveries_due({shard for deliveries in new for shard in deliveries.other_shards})
            self._fan_outs.learn(events, batch.answers)
            sizes.add(len(events))
            self._count(batch.answers)
        finally:
            await self._recipient.receive(expectation, new)
        return batch.answers

    def _count(self, answers: Sequence[Published | Exception]) -> None:
        tally = self.tally
        for answer in answers:
            if not isinstance(answer, Published):
                tally.refused_count += 1
            elif answer.duplicate:
                tally.duplicate_count += 1
            else:
                tally.new_count += 1
                tally.delivery_count += answer.delivery_count

    async def _publish(
        self, connection: LoopConnection, events: Sequence[NewEvent], own_shards: AbstractSet[int]
    ) -> PublishedBatch:
        """Publishes a batch. Makes a partition that is missing, because the database's clock has stepped by days."""
        try:
            return await publishing.publish(connection, events, own_shards)
        except Unavailable as error:
            if not is_partition_missing(error):
                raise
            log.warning("a partition is missing: the database's clock may have stepped")
            await self._make_partitions()
            return await publishing.publish(connection, events, own_shards)


def _customer_of(event: NewEvent) -> int:
    return event.customer_id


def _size_bytes(event: NewEvent) -> int:
    return len(event.body) + _EVENT_BYTES


class _FanOuts:
    """To how many webhooks each customer's events lately went, so that the size of a statement can be limited.

    For a customer that is not known the largest possible number is assumed: its first statements are smaller than they
    need to be.
    """

    def __init__(self, fan_out_max: int) -> None:
        self._fan_out_max = fan_out_max
        self._fan_outs: dict[int, int] = {}

    def of(self, customer_id: int) -> int:
        """Returns to how many webhooks an event is expected to go."""
        return self._fan_outs.get(customer_id, self._fan_out_max)

    def learn(self, events: Sequence[NewEvent], answers: Sequence[Published | Exception]) -> None:
        """Takes in to how many webhooks events went; the largest number of a batch counts."""
        seen: dict[int, int] = {}
        for event, answer in zip(events, answers, strict=True):
            if isinstance(answer, Published):
                seen[event.customer_id] = max(answer.delivery_count, seen.get(event.customer_id, 0))
        self._fan_outs.update(seen)
        while len(self._fan_outs) > _CUSTOMERS_MAX:
            del self._fan_outs[next(iter(self._fan_outs))]

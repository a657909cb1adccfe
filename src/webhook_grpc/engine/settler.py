"""Writes results and commands in batches: all that changes deliveries and their log.

The first change waits a few milliseconds for others to share its statement, and some more where nobody is held up by
that. One statement runs at a time, because each goes on where the log of the one before ended. A change is kept until
the database has answered for it. While the database is away nothing is lost and nothing is sent twice: the batch is
written again, at a new epoch, and what had been committed is not changed a second time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Final, Protocol

import structlog

from webhook_grpc.domain.command import Command
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.model import DeliveryStatus
from webhook_grpc.domain.progress import Service
from webhook_grpc.domain.record import record
from webhook_grpc.domain.retry import Decision
from webhook_grpc.domain.settlement import Settlement
from webhook_grpc.store.connection.failures import StoreRefusal, cause_of
from webhook_grpc.store.db import LoopConnection
from webhook_grpc.store.outbox import execution, settlement
from webhook_grpc.store.outbox.execution import Executed
from webhook_grpc.store.schema.partitions import is_partition_missing

from .ownership import Ownership
from .unsettled import AnyChange, EndedTurn, FencedQueue, Unsettled

log = structlog.get_logger(__name__)

_NOTED_AT_ONCE_MIN: Final = 25  # results that end their turns before others get the event loop
_PIECES_MAX: Final = 10  # of a statement: the next one waits for them
_BACKOFF_SECONDS_MIN: Final = 0.05
_BACKOFF_SECONDS_MAX: Final = 2.0


@record
class SettleLimits:
    """How many changes one statement writes at most, and for how long the first one waits for others.

    `wait_seconds_max`: how long it waits if nothing is held up by it, and nobody watches.
    """

    batch_max: int
    wait_seconds: float
    wait_seconds_max: float


class ResultListener(Protocol):
    """Hears of every result once."""

    def note_settled(self, batch: Sequence[EndedTurn]) -> None:
        """Called when the database has answered for these results."""
        ...

    def put_back(self, batch: Sequence[EndedTurn]) -> None:
        """Called with results that are not written: their shards are lost, or the database refuses them for good."""
        ...


class CommandListener(Protocol):
    """Hears of every command once."""

    def executed(self, batch: Sequence[Command], executed: Sequence[Executed]) -> None:
        """Called when the database has answered for these commands; `executed` are those that changed something."""
        ...

    def dropped(self, batch: Sequence[Command]) -> None:
        """Called with commands that are not carried out: their shards are lost, or the database refuses them."""
        ...


@record
class SettleListeners:
    """Who hears of what was written."""

    results: ResultListener
    commands: CommandListener


class Statement(Protocol[AnyChange]):
    """The statement that writes changes of one kind, and those who hear of its answers."""

    async def write(self, batch: Sequence[AnyChange]) -> bool:
        """Writes a batch. False: a shard is not ours, nothing was written. Raises StoreRefusal, Unavailable."""
        ...

    def drop(self, batch: Sequence[AnyChange]) -> None:
        """Gives up changes whose shards are not ours, or that Postgres refuses and nothing can replace."""
        ...

    def last_resort(self, change: AnyChange, refusal: StoreRefusal) -> AnyChange | None:
        """Returns what to write instead of a change that Postgres refuses; None if there is nothing left to try."""
        ...


class Settler:
    """Empties the two queues, one statement at a time."""

    def __init__(
        self,
        connection: LoopConnection,
        ownership: Ownership,
        unsettled: Unsettled,
        limits: SettleLimits,
        random: Random,
        listeners: SettleListeners,
        make_partitions: Callable[[], Awaitable[object]],
    ) -> None:
        """`make_partitions` makes the partitions of the days around now. Raises Unavailable."""
        self._settling = connection.progress.work("settle results", Service.DELIVERY)
        self._ownership = ownership
        self._unsettled = unsettled
        self._limits = limits
        self._random = random
        self._make_partitions = make_partitions
        self._settle = _Settle(connection, ownership, listeners.results)
        self._execute = _Execute(connection, ownership, listeners.commands)

    async def run(self) -> None:
        """Writes until it is cancelled."""
        results, commands = self._unsettled.results, self._unsettled.commands
        while True:
            await self._unsettled.arrived.wait()
            if len(results) < self._limits.batch_max:
                await self._gather()
            await self._write_some(results, self._settle)
            await self._write_some(commands, self._execute)
            if not results and not commands:
                self._unsettled.arrived.clear()

    async def _gather(self) -> None:
        """Waits for others to share the statement."""
        limits = self._limits
        is_watched = self._unsettled.is_watched()
        await self._unsettled.gathered(
            limits.wait_seconds, limits.wait_seconds if is_watched else limits.wait_seconds_max
        )

    async def _write_some(self, queue: FencedQueue[AnyChange], statement: Statement[AnyChange]) -> None:
        if batch := queue.take(self._limits.batch_max):
            # Changes of owned shards first: they need not wait for the beat that finds out which shards are lost.
            owned = self._ownership.shards.owned
            ours = [change for change in batch if change.shard in owned]
            lost = [change for change in batch if change.shard not in owned]
            for part in (ours, lost):
                if part:
                    await self._write(part, statement)
            await queue.note_answered(len(batch))

    async def _write(self, batch: list[AnyChange], statement: Statement[AnyChange]) -> None:
        """Returns when the database has answered for every change of the batch, or its shard is not ours."""
        backoff_seconds = _BACKOFF_SECONDS_MIN
        is_in_doubt = False  # what the last statement did, and so how far the log reaches
        while batch:
            self._settling.begin()
            try:
                if is_in_doubt:  # this alone is no progress
                    await self._ownership.readopt({change.shard for change in batch})
                    is_in_doubt = False
                elif not self._lost(batch) and await statement.write(batch):
                    self._settling.succeed()
                    return
                else:  # find out which shards are lost; those whose lease ran out may be about to be taken again
                    await self._ownership.beat()
                    batch = self._still_ours(batch, statement)
            except StoreRefusal as refusal:
                self._settling.succeed()
                await self._write_apart(batch, statement, refusal)
                return
            except Unavailable as error:
                self._settling.fail(cause_of(error))
                is_in_doubt = True
                if is_partition_missing(error):
                    await self._make_missing_partitions()
                await asyncio.sleep(backoff_seconds * self._random.uniform(0.5, 1.0))
                backoff_seconds = min(backoff_seconds * 2, _BACKOFF_SECONDS_MAX)
        self._settling.leave()

    async def _make_missing_partitions(self) -> None:
        """Makes the day of the log that a statement has missed: housekeeping, once an hour, would be late for it."""
        try:
            await self._make_partitions()
        except Unavailable as error:
            self._settling.fail(cause_of(error))
        else:
            log.warning("a partition is missing, and is made now: the database's clock may have stepped")

    async def _write_apart(
        self, batch: list[AnyChange], statement: Statement[AnyChange], refusal: StoreRefusal
    ) -> None:
        """Finds the one change whose value Postgres refuses, by halves, and writes its last resort instead.

        Without that the delivery would be sent again and again.
        """
        if len(batch) > 1:
            middle = len(batch) // 2
            await self._write(batch[:middle], statement)
            await self._write(batch[middle:], statement)
            return
        instead = statement.last_resort(batch[0], refusal)
        if instead is None:
            statement.drop(batch)
        else:
            await self._write([instead], statement)

    def _still_ours(self, batch: list[AnyChange], statement: Statement[AnyChange]) -> list[AnyChange]:
        lost = self._lost(batch)
        if lost:
            log.warning("results dropped with their shards; the new owner sends again", count=len(lost))
            statement.drop(lost)
        return [change for change in batch if change.shard in self._ownership.shards.owned]

    def _lost(self, batch: Sequence[AnyChange]) -> list[AnyChange]:
        return [change for change in batch if change.shard not in self._ownership.shards.owned]


class _Settle:
    """Writes results."""

    def __init__(self, connection: LoopConnection, ownership: Ownership, listener: ResultListener) -> None:
        self._connection = connection
        self._ownership = ownership
        self._listener = listener

    async def write(self, batch: Sequence[EndedTurn]) -> bool:
        owned = dict(self._ownership.shards.owned)  # as it is now: a shard that is lost and gained meanwhile is another
        settlements = [ended.settlement for ended in batch]
        answer = await settlement.settle(self._connection, self._ownership.shards.worker, owned, settlements)
        if not answer.ours:
            return False
        self._ownership.log_reached(owned, answer.last_seqs)
        if answer.changed_count < len(batch):
            log.info("settled before", count=len(batch) - answer.changed_count)
        at_once = max(_NOTED_AT_ONCE_MIN, len(batch) // _PIECES_MAX)
        for begin in range(0, len(batch), at_once):
            if begin:
                await asyncio.sleep(0)  # calls get a turn between pieces
            self._listener.note_settled(batch[begin : begin + at_once])
        return True

    def drop(self, batch: Sequence[EndedTurn]) -> None:
        self._listener.put_back(batch)

    def last_resort(self, change: EndedTurn, refusal: StoreRefusal) -> EndedTurn | None:
        """Ends the delivery without its result."""
        delivery = change.settlement.delivery
        log.error("result refused by the database", webhook_id=delivery.webhook_id, refusal=str(refusal))
        if change.settlement.result is None:
            return None
        return EndedTurn(change.turn, Settlement(delivery, Decision(DeliveryStatus.FAILED), None))


class _Execute:
    """Carries out commands."""

    def __init__(self, connection: LoopConnection, ownership: Ownership, listener: CommandListener) -> None:
        self._connection = connection
        self._ownership = ownership
        self._listener = listener

    async def write(self, batch: Sequence[Command]) -> bool:
        owned = dict(self._ownership.shards.owned)
        answer = await execution.execute(self._connection, self._ownership.shards.worker, owned, batch)
        if not answer.ours:
            return False
        for executed in answer.executed:
            self._ownership.log_reached(owned, {executed.shard: executed.seq})
        self._listener.executed(batch, answer.executed)
        return True

    def drop(self, batch: Sequence[Command]) -> None:
        self._listener.dropped(batch)

    def last_resort(self, change: Command, refusal: StoreRefusal) -> Command | None:
        """Keeps of a test only that it failed."""
        log.error("command refused by the database", webhook_id=change.webhook_id, refusal=str(refusal))
        return None if change.result is None else replace(change, status=DeliveryStatus.FAILED, result=None)

"""Writing in batches what came of attempts, and carrying out commands: whatever changes deliveries and their log.

The first result waits a few milliseconds for company; one statement is in flight at a time, because each goes on where
the log of the one before ended. A result is kept until the database has answered for it. While the database is away
nothing is lost and nothing is sent twice: the batch is written again, at a new epoch, and what had been committed is
not changed a second time.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeVar

import structlog

from webhook_grpc.domain.command import Command
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.model import DeliveryStatus
from webhook_grpc.domain.progress import Service
from webhook_grpc.domain.retry import Decision
from webhook_grpc.domain.settlement import Settlement
from webhook_grpc.engine.queue.lane import Turn
from webhook_grpc.store.connection.failures import StoreRefusal, cause_of
from webhook_grpc.store.db import DatabaseOptions, LoopConnection
from webhook_grpc.store.outbox import execution, settlement
from webhook_grpc.store.outbox.execution import Executed

from .ownership import Ownership

log = structlog.get_logger(__name__)


class Change(Protocol):
    """What is written belongs to a shard."""

    @property
    def shard(self) -> int:
        """Its shard."""
        ...


@dataclass(frozen=True, slots=True)
class EndedTurn:
    """A turn and what became of its delivery."""

    turn: Turn
    settlement: Settlement

    @property
    def shard(self) -> int:
        """The shard whose owner settles it."""
        return self.settlement.shard


AnyChange = TypeVar("AnyChange", bound=Change)

_BACKOFF_SECONDS_MIN: Final = 0.05
_BACKOFF_SECONDS_MAX: Final = 2.0


class Settler:
    """Turns results and commands into rows. The callbacks are told of every item once: written, or dropped."""

    def __init__(
        self,
        options: DatabaseOptions,
        ownership: Ownership,
        batch_max: int,
        wait_seconds: float,
        on_settled: Callable[[Sequence[EndedTurn]], None],
        on_dropped: Callable[[Sequence[EndedTurn]], None],
    ) -> None:
        self._connection = LoopConnection(options, "settle")
        self._settling = options.progress.work("settle results", Service.DELIVERY)
        self._ownership = ownership
        self._batch_max = batch_max
        self._wait_seconds = wait_seconds
        self._on_settled = on_settled
        self._on_dropped = on_dropped
        self.on_executed: Callable[[Sequence[Command], Sequence[Executed]], None] = _ignore
        self.on_commands_dropped: Callable[[Sequence[Command]], None] = _ignore
        self._results: deque[EndedTurn] = deque()
        self._commands: deque[Command] = deque()
        self._arrived = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._added_count = 0
        self._answered_count = 0
        self._answered = asyncio.Condition()

    def __len__(self) -> int:
        return len(self._results)

    def add(self, ended: EndedTurn) -> None:
        """Takes in a result."""
        self._results.append(ended)
        self._added_count += 1
        self._empty.clear()
        self._arrived.set()

    def add_command(self, command: Command) -> None:
        """Takes in a command that is ready to be carried out."""
        self._commands.append(command)
        self._empty.clear()
        self._arrived.set()

    async def drained(self) -> None:
        """Waits until everything is written."""
        await self._empty.wait()

    async def caught_up(self) -> None:
        """Waits until every result that there is now is settled; not for those that come meanwhile."""
        target = self._added_count
        async with self._answered:
            await self._answered.wait_for(lambda: self._answered_count >= target)

    async def run(self) -> None:
        """Writes until it is cancelled."""
        while True:
            await self._arrived.wait()
            if len(self._results) < self._batch_max:
                await asyncio.sleep(self._wait_seconds)  # company
            await self._write_results()
            if self._commands:
                await self._execute(self._taken(self._commands))
            if not self._results and not self._commands:
                self._arrived.clear()
                self._empty.set()

    async def close(self) -> None:
        """Closes the connection."""
        await self._connection.close()

    async def _write_results(self) -> None:
        if batch := self._taken(self._results):
            await self._settle(batch)
            self._answered_count += len(batch)
            async with self._answered:
                self._answered.notify_all()

    def _taken(self, queue: deque[AnyChange]) -> list[AnyChange]:
        return [queue.popleft() for _ in range(min(len(queue), self._batch_max))]

    # --- both ways -------------------------------------------------------------------------------------------------

    async def _write(
        self,
        batch: list[AnyChange],
        write: Callable[[list[AnyChange]], Awaitable[bool]],
        on_dropped: Callable[[Sequence[AnyChange]], None],
        apart: Callable[[list[AnyChange], StoreRefusal], Awaitable[None]],
    ) -> None:
        """Returns when the database has answered for every item of the batch, or its shard is not ours."""
        backoff_seconds = _BACKOFF_SECONDS_MIN
        is_in_doubt = False  # what the last statement did, and so how far the log reaches
        while batch := self._still_ours(batch, on_dropped):
            self._settling.begin()
            try:
                if is_in_doubt:  # this alone is no progress
                    await self._ownership.readopt({item.shard for item in batch})
                    is_in_doubt = False
                elif await write(batch):
                    self._settling.succeed()
                    return
                else:
                    await self._ownership.beat()  # a shard was lost: find out which
            except StoreRefusal as refusal:
                self._settling.succeed()
                await apart(batch, refusal)
                return
            except Unavailable as error:
                self._settling.fail(cause_of(error))
                is_in_doubt = True
                await asyncio.sleep(backoff_seconds * random.uniform(0.5, 1.0))
                backoff_seconds = min(backoff_seconds * 2, _BACKOFF_SECONDS_MAX)
        self._settling.leave()

    def _still_ours(self, batch: list[AnyChange], on_dropped: Callable[[Sequence[AnyChange]], None]) -> list[AnyChange]:
        lost = [item for item in batch if item.shard not in self._ownership.owned]
        if lost:
            log.warning("results dropped with their shards; the new owner sends again", count=len(lost))
            on_dropped(lost)
        return [item for item in batch if item.shard in self._ownership.owned]

    # --- results ---------------------------------------------------------------------------------------------------

    async def _settle(self, batch: list[EndedTurn]) -> None:
        await self._write(batch, self._settled, self._on_dropped, self._settle_apart)

    async def _settled(self, batch: Sequence[EndedTurn]) -> bool:
        owned = dict(self._ownership.owned)  # as it is now: a shard that is lost and regained meanwhile is another
        answer = await settlement.settle(
            self._connection, self._ownership.worker, owned, [ended.settlement for ended in batch]
        )
        if not answer.ours:
            return False
        for shard, last_seq in answer.last_seqs.items():
            owned[shard].last_seq = last_seq
        if answer.changed_count < len(batch):
            log.info("settled before", count=len(batch) - answer.changed_count)
        self._on_settled(batch)
        return True

    async def _settle_apart(self, batch: list[EndedTurn], refusal: StoreRefusal) -> None:
        """Postgres refused a value: finds the delivery at fault, and ends it alone.

        Left as it is it would be sent again and again.
        """
        if len(batch) > 1:
            middle = len(batch) // 2
            await self._settle(batch[:middle])
            await self._settle(batch[middle:])
            return
        [ended] = batch
        delivery = ended.settlement.delivery
        log.error("result refused by the database", webhook_id=delivery.webhook_id, refusal=str(refusal))
        if ended.settlement.result is None:
            self._on_dropped(batch)
        else:
            failed = Settlement(delivery, Decision(DeliveryStatus.FAILED), None)
            await self._settle([EndedTurn(ended.turn, failed)])

    # --- commands --------------------------------------------------------------------------------------------------

    async def _execute(self, batch: list[Command]) -> None:
        await self._write(batch, self._executed, self.on_commands_dropped, self._execute_apart)

    async def _executed(self, batch: Sequence[Command]) -> bool:
        owned = dict(self._ownership.owned)
        answer = await execution.execute(self._connection, self._ownership.worker, owned, batch)
        if not answer.ours:
            return False
        for executed in answer.executed:
            owned[executed.shard].last_seq = max(owned[executed.shard].last_seq, executed.seq)
        self.on_executed(batch, answer.executed)
        return True

    async def _execute_apart(self, batch: list[Command], refusal: StoreRefusal) -> None:
        """The same for commands: of a test whose result Postgres refuses, only that it failed is kept."""
        if len(batch) > 1:
            middle = len(batch) // 2
            await self._execute(batch[:middle])
            await self._execute(batch[middle:])
            return
        [command] = batch
        log.error("command refused by the database", webhook_id=command.webhook_id, refusal=str(refusal))
        if command.result is None:
            self.on_commands_dropped(batch)
        else:
            await self._execute([replace(command, status=DeliveryStatus.FAILED, result=None)])


def _ignore(*_: object) -> None:
    pass

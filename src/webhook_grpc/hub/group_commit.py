"""Group commit: callers that arrive while a statement is in flight share the next one.

The first caller starts at once, so an idle service adds no delay; under load the batches grow by themselves until they
reach their bound. Callers take turns by their key (the customer), so a customer's flood delays only its own calls.
A batch that the database refuses is bisected, so that an item that it will never take fails alone.
Callers await a future and never touch a connection: a cancelled call can't break one.

A crowd of callers that repeat their calls can't block it: the items of a caller that leaves are not stored, a statement
ends soon after the last of its callers has left, and after a time-out the next statement is smaller
(`domain/group_size.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import structlog

from webhook_grpc.domain.errors import Overloaded, field_invalid
from webhook_grpc.domain.group_size import GroupSize
from webhook_grpc.domain.record import record
from webhook_grpc.store.connection import failures
from webhook_grpc.store.connection.failures import StoreRefusal

log = structlog.get_logger(__name__)

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_KEY_SHARE: Final = 0.5  # of what may wait, one key may have so much: there is room for others
# How long a statement may run when all of its callers have left. It usually ends by itself before; to cut it costs a
# connection, and callers that leave at once must not cost a connection each.
_DESERTED_SECONDS: Final = 0.5
# Turns of the event loop between two statements, if a crowd of callers shared the first one. They have their answers by
# then; without these turns statements are smaller, and each costs Postgres and the loop as much as several events.
# There are fewer turns if the thread has worked for longer than this for each call that came: then turns are long.
_GATHERING_TURNS_MAX: Final = 6
_CALL_CPU_SECONDS_MAX: Final = 0.002
_CROWD_MIN: Final = 4  # callers


@record
class GroupLimits:
    """The bounds of one statement, and of what may wait for its turn."""

    batch_count: int
    batch_weight: int
    waiting_count: int
    waiting_bytes: int


@dataclass(slots=True, eq=False)  # compared by identity: thousands may leave at once
class _Waiting(Generic[Item, Answer]):
    items: Sequence[Item]
    weight: int
    size_bytes: int
    answered: asyncio.Future[list[Answer | Exception]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


@dataclass(slots=True)
class _Queue(Generic[Item, Answer]):
    """The calls of one key that wait."""

    waiting: OrderedDict[_Waiting[Item, Answer], None] = field(default_factory=OrderedDict[Any, None])
    count: int = 0
    size_bytes: int = 0


class GroupCommit(Generic[Item, Answer]):
    """Collects items of concurrent callers into batches, one in flight at a time."""

    def __init__(
        self,
        flush: Callable[[Sequence[Item]], Awaitable[list[Answer | Exception]]],
        size_of: Callable[[Item], int],
        weight_of: Callable[[Item], int],
        limits: GroupLimits,
        key_of: Callable[[Item], Hashable] = lambda _: None,
    ) -> None:
        """`size_of` returns the bytes of an item while it waits; `weight_of` what it costs the statement.

        A call with several items has the key of its first item.
        """
        self._flush = flush
        self._weight_of = weight_of
        self._size_of = size_of
        self._limits = limits
        self._size = GroupSize(limits.batch_count, limits.batch_count)
        self._said = False  # that statements are given up
        self._key_of = key_of
        self._queues: dict[Hashable, _Queue[Item, Answer]] = {}  # in the order of their turns
        self._queued_count = 0
        self._queued_bytes = 0
        self._came_count = 0  # calls, since the start
        self._arrived = asyncio.Event()
        self._deserted = asyncio.timeout(None)  # of the statement in flight: it gets a deadline when nobody waits
        self._there: set[_Waiting[Item, Answer]] = set()  # its callers, without those that have left

    @property
    def waiting_count(self) -> int:
        """How many items wait for a statement."""
        return self._queued_count

    async def submit(self, items: Sequence[Item]) -> list[Answer | Exception]:
        """Returns an answer or an exception for each item, in order. Raises Overloaded if too much is waiting."""
        size_bytes = sum(map(self._size_of, items))
        key = self._key_of(items[0])
        if self._queues and self._is_too_much(key, len(items), size_bytes):
            raise Overloaded("BACKLOG_FULL", "too many events are waiting to be stored; retry later", 1.0)
        waiting: _Waiting[Item, Answer] = _Waiting(items, sum(map(self._weight_of, items)), size_bytes)
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = _Queue()
        queue.waiting[waiting] = None
        self._came_count += 1
        self._count(queue, len(items), size_bytes)
        self._arrived.set()
        try:
            return await waiting.answered
        except asyncio.CancelledError:
            self._leave(key, waiting)
            raise

    def _leave(self, key: Hashable, waiting: _Waiting[Item, Answer]) -> None:
        """Removes what a caller that has left had waiting: it is not stored, and takes no room."""
        if waiting in self._there:
            self._leave_statement(waiting)
            return
        queue = self._queues.get(key)
        if queue is None or waiting not in queue.waiting:
            return  # it has been answered
        del queue.waiting[waiting]
        self._count(queue, -len(waiting.items), -waiting.size_bytes)
        if not queue.waiting:
            del self._queues[key]
        if not self._queues:
            self._arrived.clear()

    def _is_too_much(self, key: Hashable, count: int, size_bytes: int) -> bool:
        limits = self._limits
        if self._queued_count + count > limits.waiting_count or self._queued_bytes + size_bytes > limits.waiting_bytes:
            return True
        queue = self._queues.get(key)
        return queue is not None and (
            queue.count + count > _KEY_SHARE * limits.waiting_count
            or queue.size_bytes + size_bytes > _KEY_SHARE * limits.waiting_bytes
        )

    def _count(self, queue: _Queue[Item, Answer], count: int, size_bytes: int) -> None:
        queue.count += count
        queue.size_bytes += size_bytes
        self._queued_count += count
        self._queued_bytes += size_bytes

    async def run(self) -> None:
        """Flushes batches until the task is cancelled. The calls that still wait then are cancelled too."""
        group: list[_Waiting[Item, Answer]] = []
        try:
            while True:
                await self._arrived.wait()
                if group := self._take():  # empty: the callers who woke us have left
                    await self._flush_group(group)
                if len(group) >= _CROWD_MIN:
                    await self._gather()
        finally:
            for waiting in (*group, *(waiting for queue in self._queues.values() for waiting in queue.waiting)):
                waiting.answered.cancel()

    async def _gather(self) -> None:
        """Lets a crowd come together: whoever comes in the next turns of the loop shares a statement."""
        before_count, began_at = self._came_count, time.thread_time()
        for _ in range(_GATHERING_TURNS_MAX):
            await asyncio.sleep(0)
            calls = self._came_count - before_count
            if time.thread_time() - began_at > (calls + 1) * _CALL_CPU_SECONDS_MAX:
                break

    def _take(self) -> list[_Waiting[Item, Answer]]:
        """Takes the next calls, one of each key in turn, as many as fit one statement."""
        group: list[_Waiting[Item, Answer]] = []
        count = weight = 0
        while self._queues:
            key, queue = next(iter(self._queues.items()))
            head = next(iter(queue.waiting))
            count += len(head.items)
            weight += head.weight
            if group and (count > self._size.count or weight > self._weight_max):
                break
            group.append(queue.waiting.popitem(last=False)[0])
            self._count(queue, -len(head.items), -head.size_bytes)
            del self._queues[key]  # and to the end, if there is more
            if queue.waiting:
                self._queues[key] = queue
        if not self._queues:
            self._arrived.clear()
        return group

    def _leave_statement(self, waiting: _Waiting[Item, Answer]) -> None:
        """Ends a statement soon after the last of its callers has left."""
        self._there.remove(waiting)
        if not self._there:
            self._deserted.reschedule(asyncio.get_running_loop().time() + _DESERTED_SECONDS)

    async def _flush_group(self, group: list[_Waiting[Item, Answer]]) -> None:
        self._there = set(group)
        self._deserted = asyncio.timeout(None)
        try:
            async with self._deserted:
                answers = await self._answers_of(group)
        except TimeoutError:
            return  # nobody waits for an answer
        finally:
            self._there.clear()
        at = 0
        for waiting in group:
            if not waiting.answered.done():  # done: the caller was cancelled
                waiting.answered.set_result(answers[at : at + len(waiting.items)])
            at += len(waiting.items)

    async def _answers_of(self, group: list[_Waiting[Item, Answer]]) -> list[Answer | Exception]:
        answers: list[Answer | Exception] = []
        for batch in self._batches([item for waiting in group for item in waiting.items]):
            answers += await self._answers(batch)
        return answers

    @property
    def _weight_max(self) -> int:
        return self._size.share_of(self._limits.batch_weight)

    def _batches(self, items: Sequence[Item]) -> Iterator[Sequence[Item]]:
        """Cuts a group into statements. Usually it is one: only a very large call is cut."""
        start = weight = 0
        for index, item in enumerate(items):
            item_weight = self._weight_of(item)
            is_full = index - start >= self._size.count or weight + item_weight > self._weight_max
            if index > start and is_full:
                yield items[start:index]
                start, weight = index, 0
            weight += item_weight
        yield items[start:]

    async def _answers(self, items: Sequence[Item]) -> list[Answer | Exception]:
        began_at = time.monotonic()
        try:
            answers = await self._flush(items)
        except StoreRefusal:
            if len(items) == 1:
                return [field_invalid("event", "cannot be stored as it is")]
            middle = len(items) // 2
            return await self._answers(items[:middle]) + await self._answers(items[middle:])
        except asyncio.CancelledError:
            self._given_up(len(items), "all of its callers have left")
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, every caller gets it
            if failures.timed_out(error):
                self._given_up(len(items), "it took too long")
            return [error] * len(items)
        self._size = self._size.after_answer(len(items), time.monotonic() - began_at)
        self._said = False
        return answers

    def _given_up(self, count: int, why: str) -> None:
        self._size = self._size.after_time_out(count)
        if not self._said:  # once, until a statement is answered
            self._said = True
            log.warning("publishing statement given up; the next ones are smaller", why=why, events=count)

"""Group commit: callers that arrive while a statement is in flight share the next one.

The first caller starts at once, so an idle service adds no delay; under load the batches grow by themselves until they
reach their bound. Callers take turns by a key of theirs (the customer), so that whoever floods waits behind itself.
A batch that the database refuses is bisected, so that an item it will never take fails alone.
Callers await a future and never touch a connection: a cancelled call can't break one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from ..domain.errors import Overloaded, field_invalid
from .db import StoreRefusal

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_KEY_SHARE: Final = 0.5  # of what may wait, one key may have so much: there is room for others


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """Bounds of one statement, and of what may wait for its turn."""

    batch_count: int
    batch_weight: int
    waiting_count: int
    waiting_bytes: int


@dataclass(slots=True)
class _Waiting(Generic[Item, Answer]):
    items: Sequence[Item]
    weight: int
    size_bytes: int
    answered: asyncio.Future[list[Answer | Exception]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


@dataclass(slots=True)
class _Queue(Generic[Item, Answer]):
    """What waits of one key."""

    waiting: deque[_Waiting[Item, Answer]] = field(default_factory=deque[Any])
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
        """`size_of` is what an item takes while it waits, in bytes; `weight_of` what it costs the statement.

        A call with several items has the key of its first.
        """
        self._flush = flush
        self._weight_of = weight_of
        self._size_of = size_of
        self._limits = limits
        self._key_of = key_of
        self._queues: dict[Hashable, _Queue[Item, Answer]] = {}  # in the order of their turns
        self._queued_count = 0
        self._queued_bytes = 0
        self._arrived = asyncio.Event()

    async def submit(self, items: Sequence[Item]) -> list[Answer | Exception]:
        """Returns an answer or an exception for each item, in order. Raises Overloaded if too much is waiting."""
        size_bytes = sum(map(self._size_of, items))
        key = self._key_of(items[0])
        if self._queues and self._is_too_much(key, len(items), size_bytes):
            raise Overloaded("BACKLOG_FULL", "too many events are waiting to be stored; retry later", 1.0)
        waiting = _Waiting[Item, Answer](items, sum(map(self._weight_of, items)), size_bytes)
        queue = self._queues.setdefault(key, _Queue[Item, Answer]())
        queue.waiting.append(waiting)
        self._count(queue, len(items), size_bytes)
        self._arrived.set()
        return await waiting.answered

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
        """Flushes batches until it is cancelled. Whoever still waits then is cancelled too."""
        group: list[_Waiting[Item, Answer]] = []
        try:
            while True:
                await self._arrived.wait()
                group = self._take()
                await self._flush_group(group)
        finally:
            for waiting in (*group, *(waiting for queue in self._queues.values() for waiting in queue.waiting)):
                waiting.answered.cancel()

    def _take(self) -> list[_Waiting[Item, Answer]]:
        """The next callers, one of each key in turn, as many as fit one statement."""
        group: list[_Waiting[Item, Answer]] = []
        count = weight = 0
        while self._queues:
            key, queue = next(iter(self._queues.items()))
            head = queue.waiting[0]
            count += len(head.items)
            weight += head.weight
            if group and (count > self._limits.batch_count or weight > self._limits.batch_weight):
                break
            group.append(queue.waiting.popleft())
            self._count(queue, -len(head.items), -head.size_bytes)
            del self._queues[key]  # and to the end, if there is more
            if queue.waiting:
                self._queues[key] = queue
        if not self._queues:
            self._arrived.clear()
        return group

    async def _flush_group(self, group: list[_Waiting[Item, Answer]]) -> None:
        answers: list[Answer | Exception] = []
        for batch in self._batches([item for waiting in group for item in waiting.items]):
            answers += await self._answers(batch)
        at = 0
        for waiting in group:
            if not waiting.answered.done():  # done: the caller was cancelled
                waiting.answered.set_result(answers[at : at + len(waiting.items)])
            at += len(waiting.items)

    def _batches(self, items: Sequence[Item]) -> Iterator[Sequence[Item]]:
        """Cuts a group into statements. Usually it is one: only a caller with very much is cut."""
        start = weight = 0
        for index, item in enumerate(items):
            item_weight = self._weight_of(item)
            is_full = index - start >= self._limits.batch_count or weight + item_weight > self._limits.batch_weight
            if index > start and is_full:
                yield items[start:index]
                start, weight = index, 0
            weight += item_weight
        yield items[start:]

    async def _answers(self, items: Sequence[Item]) -> list[Answer | Exception]:
        try:
            return await self._flush(items)
        except StoreRefusal:
            if len(items) == 1:
                return [field_invalid("event", "cannot be stored as it is")]
            middle = len(items) // 2
            return await self._answers(items[:middle]) + await self._answers(items[middle:])
        except Exception as error:  # noqa: BLE001 - whatever it is, every caller must hear of it
            return [error] * len(items)

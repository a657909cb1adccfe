"""WatchDeliveries: every attempt and every ending, live, in order per webhook, resumable from a cursor without a gap.

A watcher is a position in the log that moves forward. The watcher reads the table up to where the live tail is, then
follows the tail. If its buffer at the tail overruns because its client reads too slowly, it reads the table again. It
holds no connection while it waits or writes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

from webhook.v1 import service_pb2

from webhook_grpc.api.call import Call, refuse_if, server_stopping
from webhook_grpc.api.messages import times
from webhook_grpc.api.messages.filters import read_delivery_filter
from webhook_grpc.api.messages.selecting import MESSAGE_BYTES_MAX, MESSAGE_DELIVERIES_MAX, advanced, may_want, wanted_of
from webhook_grpc.api.messages.sharing import SharedDeliveries, SharedDelivery, Write
from webhook_grpc.domain.cursor import Position, encode_cursor
from webhook_grpc.domain.errors import Violation, WatcherTooSlow, field_invalid
from webhook_grpc.domain.filters import DeliveryFilter
from webhook_grpc.domain.model import DeliveryStatus
from webhook_grpc.domain.sealed_cursors import SealedCursors
from webhook_grpc.hub.log.batches import Batch
from webhook_grpc.hub.log.history import History, Reader
from webhook_grpc.hub.log.shared_reads import SharedReads
from webhook_grpc.hub.log.tail import Subscription, Tail
from webhook_grpc.hub.turns import LoopTurns
from webhook_grpc.store.clock import DatabaseClock
from webhook_grpc.store.db import Database
from webhook_grpc.store.lists import deliveries as delivery_lists
from webhook_grpc.store.lists.deliveries import DeliveryKey
from webhook_grpc.store.lists.pages import PageBounds
from webhook_grpc.store.log import feed
from webhook_grpc.store.schema.versions import WITH_SEALED_CURSORS, count_older

HEARTBEAT_SECONDS: Final = 15.0
HEARTBEAT_SECONDS_MIN: Final = 1.0
HEARTBEAT_SECONDS_MAX: Final = 60.0
_SNAPSHOT_PAGE: Final = PageBounds(MESSAGE_DELIVERIES_MAX, MESSAGE_BYTES_MAX)


class WatchMethods:
    """The call that streams what happens to deliveries."""

    def __init__(
        self,
        database: Database,
        tail: Tail,
        history: History,
        clock: DatabaseClock,
        write_seconds_max: float,
        cursors: SealedCursors,
        turns: LoopTurns,
    ) -> None:
        self._turns = turns
        self._cursors = cursors
        self._database = database
        self._reads = SharedReads()  # watchers come in crowds
        self._tail = tail
        self._history = history
        self._clock = clock
        self._write_seconds_max = write_seconds_max

    async def watch(self, request: service_pb2.WatchDeliveriesRequest, call: Call, write: Write) -> None:
        """Serves one watcher until it leaves, does not keep up, or the server stops."""
        violations = list[Violation]()
        wanted = read_delivery_filter(request, call, violations)
        heartbeat_seconds = _read_heartbeat(request, violations)
        start_time = (
            times.read_time(request.start_time, "start_time", violations) if request.HasField("start_time") else None
        )
        refuse_if(violations)
        whose, in_line = call.caller.customer_id or 0, call.caller.line_of(wanted.customer_id)
        incarnation, is_beside_older = await self._reads.read(in_line, "log", self._read_log)
        watcher = _Watcher(
            wanted,
            in_line,
            heartbeat_seconds,
            self._cursor_maker(incarnation, whose, is_sealed=not is_beside_older),
            self._clock,
            write,
            self._write_seconds_max,
            self._turns,
        )
        if request.cursor:  # an empty one is none: a client that keeps the last cursor has seen none yet
            position = await self._position_of(request.cursor, incarnation, whose, in_line)
        elif start_time is not None:
            read_position = partial(feed.position_at, self._database, start_time)
            position = await self._reads.read(in_line, start_time, read_position)
        else:
            position, _ = await self._reads.read(in_line, "end", partial(feed.end_position, self._database))
            if request.snapshot:
                await self._snapshot(watcher)
        # At once: an idle stream must not look dead.
        await watcher.send((), position, snapshot_complete=request.snapshot)
        while True:
            async with self._tail.subscribe(watcher.whose, incarnation, may_want(wanted)) as subscription:
                if subscription.log != incarnation:
                    raise feed.cursor_of_other_log()
                position = await self._catch_up(watcher, position, subscription)
                position = await watcher.follow(subscription, position)

    async def _read_log(self) -> tuple[UUID, bool]:
        """Returns the name of the log, and whether a process runs that could not read cursors that are sealed."""
        incarnation = await feed.incarnation(self._database)
        return incarnation, await count_older(self._database, WITH_SEALED_CURSORS) > 0

    def _cursor_maker(self, incarnation: UUID, whose: int, *, is_sealed: bool) -> Callable[[Position], bytes]:
        """Returns what makes the cursors of a stream."""
        if not is_sealed:
            return lambda position: encode_cursor(incarnation, position)
        return lambda position: self._cursors.seal(incarnation, position, whose)

    async def _position_of(self, cursor: bytes, incarnation: UUID, whose: int, in_line: Hashable) -> Position:
        decoded = self._cursors.open(cursor, whose)
        if decoded is None:
            raise field_invalid("cursor", "is not one that WatchDeliveries sent", "CURSOR_INVALID")
        cursor_incarnation, position = decoded
        if cursor_incarnation != incarnation:
            raise feed.cursor_of_other_log()
        kept = await self._reads.read(in_line, "kept", partial(feed.kept, self._database))
        kept.check(position)
        return position

    async def _snapshot(self, watcher: _Watcher) -> None:
        """Sends every pending delivery. The position was taken before, so nothing that happens meanwhile is missed."""
        pending = replace(watcher.wanted, statuses=(DeliveryStatus.PENDING,))
        before: DeliveryKey | None = delivery_lists.DELIVERIES_START
        while before is not None:
            part, before = await watcher.meanwhile(None, self._next_pending(watcher.whose, pending, before))
            if part.deliveries:
                await watcher.send([part], None)
            await watcher.beat(None)  # a narrow filter may leave nothing to send for long

    async def _next_pending(
        self, whose: Hashable, pending: DeliveryFilter, before: DeliveryKey
    ) -> tuple[SharedDeliveries, DeliveryKey | None]:
        """Returns a page of deliveries when it is the watcher's turn, and from where on the next one goes."""
        found = await self._reads.read(whose, (pending, before), partial(self._read_pending, pending, before))
        if found[0].deliveries:
            await self._turns.wait(whose)
        return found

    async def _read_pending(
        self, pending: DeliveryFilter, before: DeliveryKey
    ) -> tuple[SharedDeliveries, DeliveryKey | None]:
        """Returns a page of deliveries, and from where on the next one goes."""
        page = await delivery_lists.list_deliveries(self._database, pending, before, _SNAPSHOT_PAGE)
        return SharedDeliveries([SharedDelivery(item) for item in page.items]), page.next_key

    async def _catch_up(self, watcher: _Watcher, position: Position, subscription: Subscription) -> Position:
        """Reads the log from a position to where the subscription joined the live tail."""
        with self._history.reader(watcher.whose) as reader:
            while batch := await watcher.meanwhile(
                position, self._next_read(watcher.whose, reader, position, subscription)
            ):
                position = await watcher.send_wanted([batch], position)
                await watcher.beat(position)  # a narrow filter may leave nothing to send for long
                if subscription.closed:
                    raise server_stopping()
        return position

    async def _next_read(
        self, whose: Hashable, reader: Reader, position: Position, subscription: Subscription
    ) -> Batch | None:
        """Returns the next changes of the log when it is the watcher's turn, None at the end."""
        batch = await reader.read(position, subscription.joined_at)
        if batch is not None:
            await self._turns.wait(whose)
        return batch


Value = TypeVar("Value")


@dataclass(slots=True)
class _Watcher:
    """One client of the stream."""

    wanted: DeliveryFilter
    whose: Hashable
    heartbeat_seconds: float
    cursor_of: Callable[[Position], bytes]
    clock: DatabaseClock
    write: Write
    write_seconds_max: float
    turns: LoopTurns
    written_at: float = field(default_factory=time.monotonic)

    async def follow(self, subscription: Subscription, position: Position) -> Position:
        """Follows the live tail until the buffer overruns; returns the position up to which everything was sent."""
        while True:
            batches = await subscription.take(self.written_at + self.heartbeat_seconds - time.monotonic())
            if subscription.closed:
                raise server_stopping()
            if subscription.replaced:
                raise feed.cursor_of_other_log()
            if subscription.overrun:
                return position
            position = await self.send_wanted(batches, position)
            await self.beat(position)

    async def meanwhile(self, position: Position | None, waiting: Coroutine[Any, Any, Value]) -> Value:
        """Returns what comes of something that may take long: heartbeats go on meanwhile."""
        task = asyncio.create_task(waiting, name="read for a watcher")
        try:
            while True:
                left_seconds = self.written_at + self.heartbeat_seconds - time.monotonic()
                await asyncio.wait([task], timeout=max(0.0, left_seconds))
                if task.done():
                    return task.result()
                await self.beat(position)
        finally:
            task.cancel()

    async def beat(self, position: Position | None) -> None:
        """Sends an empty message if nothing was sent for as long as the heartbeat."""
        if time.monotonic() - self.written_at >= self.heartbeat_seconds:
            await self.send((), position)

    async def send_wanted(self, batches: Sequence[Batch], position: Position) -> Position:
        """Sends those changes of some batches that the client wants; returns the position after all of them."""
        chunk = _Chunk(position)
        for batch in batches:
            end = advanced(chunk.position, batch)
            for part, after in wanted_of(batch, self.wanted, chunk.position):
                if not chunk.has_room_for(part):
                    await self.send(chunk.parts, chunk.position)
                    await self.meanwhile(chunk.position, self.turns.wait(self.whose))  # a turn is one message
                    chunk = _Chunk(chunk.position)
                chunk.add(part, after)
            chunk.position = end
        if chunk.parts:
            await self.send(chunk.parts, chunk.position)
        return chunk.position

    async def send(
        self, shared: Sequence[SharedDeliveries], position: Position | None, *, snapshot_complete: bool = False
    ) -> None:
        """Writes one message. Raises WatcherTooSlow if the client does not take it in time."""
        message = service_pb2.WatchDeliveriesResponse(
            cursor=self.cursor_of(position) if position is not None else b"",
            snapshot_complete=snapshot_complete,
            server_time=times.timestamp(self.clock.now()),
        )
        try:
            async with asyncio.timeout(self.write_seconds_max):
                await self.write(message, shared)
        except TimeoutError:
            raise WatcherTooSlow(
                "WATCHER_TOO_SLOW", "the client did not read for too long; resume from the last cursor"
            ) from None
        self.written_at = time.monotonic()


class _Chunk:
    """What goes into one message, and the position after it."""

    def __init__(self, position: Position) -> None:
        self.position = position
        self.parts: list[SharedDeliveries] = []
        self._count = 0
        self._size_bytes = 0

    def has_room_for(self, part: SharedDeliveries) -> bool:
        """Returns whether a message may hold this part too. It may hold any part alone."""
        fits = self._count + len(part.deliveries) <= MESSAGE_DELIVERIES_MAX
        return not self.parts or (fits and self._size_bytes + part.size_bytes <= MESSAGE_BYTES_MAX)

    def add(self, part: SharedDeliveries, after: Position) -> None:
        """Adds a part; `after` is the position after it."""
        self.parts.append(part)
        self.position = after
        self._count += len(part.deliveries)
        self._size_bytes += part.size_bytes


def _read_heartbeat(request: service_pb2.WatchDeliveriesRequest, violations: list[Violation]) -> float:
    if not request.HasField("heartbeat_interval"):
        return HEARTBEAT_SECONDS
    seconds = times.seconds_of(request.heartbeat_interval)
    if not HEARTBEAT_SECONDS_MIN <= seconds <= HEARTBEAT_SECONDS_MAX:
        violations.append(
            Violation("heartbeat_interval", f"must be {HEARTBEAT_SECONDS_MIN:g} s to {HEARTBEAT_SECONDS_MAX:g} s")
        )
    return seconds

"""The world outside the engine: a database that keeps its promises and breaks its connections.

The database is played at the level of statements: the store's own functions, connections and deadlines run, and each
statement is run on the model of the store, at one instant, in the order of commits. On the way there and back it may
be late or lost, and what was sent may be run after its sender has given up.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextvars import Context
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import Any, Final, Self, cast
from uuid import UUID

import psycopg
from psycopg import errors

from webhook_grpc.hub import hints
from webhook_grpc.store import clock
from webhook_grpc.store.connection import plans, session
from webhook_grpc.store.connection.arrays import Array
from webhook_grpc.store.outbox import execution, publishing, settlement
from webhook_grpc.store.replays import progress

from .database.commands import Commands
from .database.health import Health
from .database.outbox import Outbox
from .database.ownership import Ownership
from .database.settling import Settling
from .database.statements import Params, Row, Statement, reads, writes
from .database.stored import Stored
from .database.webhooks import Webhooks
from .loop import SimulatedLoop

_OF_SESSIONS: Final = frozenset({hints.LISTEN, session.SET_SESSION, plans.KEEP, plans.RENEW, plans.PLAN_EACH_TIME})
_FENCED: Final = frozenset({settlement.SETTLE, execution.EXECUTE})
_PUBLISHING: Final = frozenset({publishing.PUBLISH, publishing.PUBLISH_ONE})
_NOBODYS: Final = Context()  # what the world does is done whoever has died


@dataclass(slots=True)
class Weather:
    """How likely each statement meets a fault, and until when the database is away or hangs."""

    lost_answer: float = 0.0
    not_run: float = 0.0
    late: float = 0.0
    late_seconds: float = 0.0
    deadline_seconds: float = 0.0  # of a statement
    late_commit: float = 0.0  # of publications
    lost_hint: float = 0.0
    away_until: float = 0.0
    hangs_until: float = 0.0


@dataclass(slots=True)
class _Connection:
    """What the store takes for a connection."""

    world: World
    closed: bool = False
    info: Any = field(default_factory=lambda: SimpleNamespace(server_version=180_000))

    async def close(self) -> None:
        self.closed = True

    async def execute(self, statement: str, *_: object, **__: object) -> None:
        assert statement in _OF_SESSIONS
        await asyncio.sleep(self.world.latency())

    async def notifies(self) -> AsyncGenerator[Any]:
        queue = asyncio.Queue[str | None]()
        self.world.listeners.append(queue)
        try:
            while (payload := await queue.get()) is not None:
                yield SimpleNamespace(payload=payload)
        finally:
            self.world.listeners.remove(queue)
        raise errors.AdminShutdown("the database went away")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


@dataclass(slots=True)
class World:
    """Everything that outlives a process: what is stored, and the way there and back."""

    loop: SimulatedLoop
    random: random.Random
    weather: Weather = field(default_factory=Weather)
    dead: set[int] = field(default_factory=set[int])  # process ids of those that crashed
    listeners: list[asyncio.Queue[str | None]] = field(default_factory=list[asyncio.Queue[str | None]])
    deaf: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])  # since when, until when
    on_wrong: Callable[[str], None] = lambda _: None
    stored: Stored = field(init=False)
    _in_doubt: set[tuple[UUID, int, int]] = field(default_factory=set[tuple[UUID, int, int]])
    _statements: dict[str, Statement] = field(init=False)

    def __post_init__(self) -> None:
        self.stored = Stored(self.loop)
        self._statements = {
            clock.SELECT_DATABASE_TIME: reads(lambda _: [(self.stored.model.now,)]),
            **Ownership(self.stored, self.random).statements(),
            **Outbox(self.stored).statements(),
            **Settling(self.stored).statements(),
            **Commands(self.stored).statements(),
            **Webhooks(self.stored).statements(),
            **Health(self.stored).statements(),
            progress.SELECT_UNSETTLED_REPLAYS: reads(lambda _: []),  # nobody replays anything here
            hints.NOTIFY: writes(self._notify),
        }

    @property
    def trace(self) -> list[str]:
        """The history, a line for each thing that happened: the same seed has the same."""
        return self.stored.trace

    def fork_random(self) -> random.Random:
        """Returns the source of chance of one more process."""
        return random.Random(self.random.random())

    def latency(self) -> float:
        """Half a round trip."""
        return 0.0002 + self.random.expovariate(400.0)

    def fault_until(self, at: float) -> None:
        """Until then nobody need know what is in the database."""
        if not self.deaf or at > self.deaf[-1][1]:
            self.deaf.append((self.loop.now, at))

    async def connect(self, *_: object, **__: object) -> _Connection:
        """Stands for `AsyncConnection.connect`."""
        await asyncio.sleep(self.latency())
        if self.loop.now < self.weather.away_until:
            self.fault_until(self.loop.now)
            raise psycopg.OperationalError("connection refused")
        return _Connection(self)

    async def run(self, _: Any, statement: str, params: Any) -> list[Row]:
        """Stands for `db.run`."""
        params = _plain(params)
        if statement not in _FENCED:
            return await self._run(statement, params)
        ours = {(params["worker"], *shard) for shard in zip(params["shards"], params["epochs"], strict=True)}
        if ours & self._in_doubt:
            self.on_wrong(f"written at an epoch at which an earlier statement is in doubt: {ours & self._in_doubt}")
        try:
            return await self._run(statement, params)
        except BaseException as error:
            if not isinstance(error, psycopg.DataError):
                self._in_doubt |= ours
            raise

    async def _run(self, statement: str, params: Any) -> list[Row]:
        """What happens after this is done by the server, whatever becomes of the caller."""
        weather, chance = self.weather, self.random.random()
        there = self.latency()
        if self.loop.now < weather.hangs_until:
            there += weather.hangs_until - self.loop.now
        if self.loop.now < weather.away_until or chance < weather.not_run:
            self.fault_until(self.loop.now + there)
            await asyncio.sleep(self.latency())
            raise psycopg.OperationalError("the connection was lost before the statement was run")
        back = self.latency()
        is_lost = chance < weather.not_run + weather.lost_answer
        if is_lost or there > 1.0:
            self.fault_until(self.loop.now + there)
        elif chance < weather.not_run + weather.lost_answer + weather.late:
            self.fault_until(self.loop.now + weather.late_seconds)
            if self.random.random() < 0.3:
                there += self.random.uniform(0, weather.late_seconds)
            elif self.random.random() < 0.5:  # just when whoever sent it has given it up, and sends it again
                there += weather.deadline_seconds + self.random.uniform(0, 0.15)
            else:
                back += self.random.uniform(0, weather.late_seconds)
        answered: asyncio.Future[list[Row]] = self.loop.create_future()
        self.loop.call_later(there, self._arrive, statement, params, back, is_lost, answered, context=_NOBODYS)
        return await answered

    def _arrive(
        self, statement: str, params: Params, back: float, is_lost: bool, answered: asyncio.Future[list[Row]]
    ) -> None:
        if self.loop.is_over:
            return
        played = self._statements[statement]
        if not played.is_write:  # a read sees what was committed when it began
            self.stored.at(self.stored.now())
            rows = played.run(params)
            self.loop.call_later(back, _answer, answered, rows, None, is_lost, context=_NOBODYS)
            return
        working = self.random.expovariate(1000.0)
        if statement in _PUBLISHING and self.random.random() < self.weather.late_commit:
            working += self.random.uniform(0, 5.0)
        self.loop.call_later(
            working, self._commit, statement, params, self.stored.now(), back, is_lost, answered, context=_NOBODYS
        )

    def _commit(
        self,
        statement: str,
        params: Params,
        began_at: datetime,
        back: float,
        is_lost: bool,
        answered: asyncio.Future[list[Row]],
    ) -> None:
        if self.loop.is_over:
            return
        played = self._statements[statement]
        rows, error = None, None
        try:
            self.stored.at(began_at)
            rows = played.run(params)
        except psycopg.Error as refused:
            error = refused
        self.loop.call_later(back, _answer, answered, rows, error, is_lost, context=_NOBODYS)

    def _notify(self, params: Any) -> list[Row]:
        for queue in list(self.listeners):
            if self.random.random() >= self.weather.lost_hint:
                self.loop.call_later(self.latency(), queue.put_nowait, params[0], context=_NOBODYS)
        return []

    def cut_listeners(self) -> None:
        """Ends the connections on which hints are heard."""
        for queue in list(self.listeners):
            queue.put_nowait(None)


def _plain(params: Any) -> Any:
    """Returns parameters with the items of arrays in place of what stands for their binary form."""
    if not isinstance(params, dict):
        return params
    named = cast("dict[str, Any]", params)
    return {name: list(value.items) if isinstance(value, Array) else value for name, value in named.items()}


def _answer(
    answered: asyncio.Future[list[Row]], rows: list[Row] | None, error: Exception | None, is_lost: bool
) -> None:
    if answered.done():  # whoever asked has given up
        return
    if is_lost:
        answered.set_exception(psycopg.OperationalError("the connection was lost after the statement was run"))
    elif error is not None:
        answered.set_exception(error)
    else:
        assert rows is not None
        answered.set_result(rows)

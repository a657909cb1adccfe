"""Connections to Postgres, and what their errors mean.

There are two ways to run a statement: the pool, for requests, and a `LoopConnection` for each hot loop, so that no
flood of requests can keep the engine from its connections. Both run single statements in autocommit mode, under a
deadline of the client, because a server that hangs answers neither a statement nor its cancellation. A statement that
missed its deadline is ended in the background (`abandoning`), and the next statement gets another connection.

A connection that ended while it was idle is replaced before anything is sent (`liveness`). One that ends under a
statement is replaced too, and the statement is sent once more if that is harmless (`failures`).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Generator, Mapping, Sequence
from dataclasses import field
from random import Random
from typing import Final, LiteralString, Protocol

import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from webhook_grpc.domain.errors import DiskFull, Unavailable
from webhook_grpc.domain.progress import Progress, Service
from webhook_grpc.domain.record import record
from webhook_grpc.domain.tally import DatabaseErrors
from webhook_grpc.store.connection import failures, liveness, session
from webhook_grpc.store.connection.abandoning import Abandoned
from webhook_grpc.store.connection.direct import DirectStatements
from webhook_grpc.store.connection.failures import StoreRefusal
from webhook_grpc.store.connection.plans import Plans
from webhook_grpc.store.connection.session import (
    Pooling,
    Row,
)

log = structlog.get_logger(__name__)

Params = Mapping[str, object] | Sequence[object] | None

_TRIES_MAX: Final = 3
_POOL_RETRY_SECONDS: Final = 0.2
# Errors that the values cause: class 22 (data), class 23 (integrity), class 54 (beyond a limit of Postgres).
_INPUT_SQLSTATE_CLASSES: Final = ("22", "23", "54")
_STATEMENT_SQLSTATE_CLASS: Final = "42"  # this statement may not be run, or its tables are not there

# How many connections the server allows this role and this database. Only the last two limits bind a superuser.
SELECT_CONNECTION_LIMITS: Final = """
SELECT current_user,
    (SELECT CASE WHEN rolsuper THEN -1 ELSE rolconnlimit END FROM pg_roles WHERE rolname = current_user),
    (SELECT CASE WHEN r.rolsuper THEN -1 ELSE datconnlimit END
        FROM pg_database, pg_roles r WHERE datname = current_database() AND r.rolname = current_user),
    current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer
        - coalesce(current_setting('reserved_connections', true), '0')::integer
"""


class TooFewConnections(Exception):
    """The server allows this process fewer connections than it needs; the message says how many these are."""


@record
class DatabaseOptions:
    """How to reach the database. Times are in seconds.

    `schema` has our tables; None: each connection looks where they are.
    `loops` lists every connection beside the pool: each LoopConnection adds itself. `progress` has the work of each
    loop. `errors` counts what fails. `random` belongs to the process: pauses that it varies are not in step with those
    of other processes.
    """

    conninfo: str
    pool_size: int
    pool_timeout_seconds: float
    pool_waiting_max: int
    statement_timeout_seconds: float
    pooling: Pooling = Pooling.NONE
    schema: str | None = None
    loops: list[LoopConnection] = field(default_factory=list["LoopConnection"], compare=False)
    progress: Progress = field(default_factory=Progress, compare=False)
    errors: DatabaseErrors = field(default_factory=DatabaseErrors, compare=False)
    random: Random = field(default_factory=Random, compare=False)

    @property
    def connections_needed(self) -> int:
        """Returns how many connections one process opens at most."""
        return self.pool_size + len(self.loops)


async def connect(options: DatabaseOptions, name: str) -> AsyncConnection[Row]:
    """Opens a connection with our session settings. Raises psycopg.Error.

    `name` is shown in pg_stat_activity.
    """
    connection: AsyncConnection[Row] = await AsyncConnection.connect(
        options.conninfo, **session.connection_arguments(name, options.pooling)
    )
    try:
        await _prepare(connection, options, is_loop=True)
    except BaseException:
        await connection.close()
        raise
    return connection


async def _prepare(connection: AsyncConnection[Row], options: DatabaseOptions, *, is_loop: bool) -> None:
    """Sets the session, but not behind a transaction pooler: the next client of the session would have the settings."""
    if options.pooling is not Pooling.TRANSACTION:
        await session.set_session(connection, options.schema, options.statement_timeout_seconds, is_loop=is_loop)


@contextlib.contextmanager
def translated_errors(errors: DatabaseErrors, expected: Collection[str] = ()) -> Generator[None]:
    """Turns the driver's errors into ours, and counts them but those with an SQLSTATE that is expected.

    No other place does. Raises StoreRefusal for values that Postgres never accepts, and Unavailable (DiskFull is one
    kind of it) for everything that may pass.
    """
    try:
        yield
    except (psycopg.Error, TimeoutError) as error:
        if failures.sqlstate_of(error) not in expected:
            errors.add(failures.class_of(error), is_disk_full=failures.is_disk_full(error))
        raise _translated(error) from error


def _translated(error: psycopg.Error | TimeoutError) -> Exception:
    if isinstance(error, PoolTimeout | TooManyRequests | TimeoutError):
        return Unavailable("STORAGE_UNAVAILABLE", "the database did not answer in time")
    if is_refusal(error):
        return StoreRefusal(error.sqlstate or type(error).__name__)
    if failures.is_disk_full(error):
        return DiskFull()
    if failures.sqlstate_of(error) == failures.READ_ONLY:
        return Unavailable(
            "STORAGE_UNAVAILABLE",
            "the database takes no writes now: a standby answers, or its transactions are read-only; call again",
        )
    return Unavailable("STORAGE_UNAVAILABLE", "the database cannot be reached or is overloaded")


def is_refusal(error: psycopg.Error) -> bool:
    """Returns whether Postgres refused the values. A missing partition (23514) may pass: we make partitions."""
    if isinstance(error, psycopg.DataError):
        return True
    sqlstate = error.sqlstate or ""
    return sqlstate.startswith(_INPUT_SQLSTATE_CLASSES) and sqlstate != "23514"


class Queries(Protocol):
    """Runs single statements: the pool, or a loop's own connection."""

    async def rows(self, statement: LiteralString, params: Params = None) -> list[Row]:
        """Runs one statement and returns its rows. Raises Unavailable and StoreRefusal."""
        ...


class Database:
    """The pool of connections for requests. Runs single statements in autocommit mode under a deadline."""

    def __init__(self, options: DatabaseOptions) -> None:
        self.options = options
        self._calls = options.progress.work("calls", Service.WEBHOOKS)
        self._some_calls = options.progress.work("some calls")
        self._abandoned = Abandoned()
        self._retrying: asyncio.Task[None] | None = None
        self._pool: AsyncConnectionPool[AsyncConnection[Row]] = AsyncConnectionPool(
            options.conninfo,
            kwargs=session.connection_arguments("pool", options.pooling),
            configure=functools.partial(_prepare, options=options, is_loop=False),
            min_size=1,
            max_size=options.pool_size,
            timeout=options.pool_timeout_seconds,
            max_waiting=options.pool_waiting_max,
            check=liveness.check,  # without it a restart leaves dead connections in the pool
            reconnect_timeout=0,
            reconnect_failed=self._connecting_failed,
            name="webhook-grpc",
            open=False,
        )

    async def open(self) -> None:
        """Connects the pool and every LoopConnection that was made before.

        Raises Unavailable if the database can't be reached, and TooFewConnections.
        """
        try:
            await self._compare_limits()
            await self._open_loops()
        except Unavailable as error:
            if failures.sqlstate_of(error.__cause__) == failures.TOO_MANY_CONNECTIONS:
                raise _too_few(self.options, failures.text_of(error.__cause__ or error)) from error
            raise
        await self._pool.open()

    async def close(self) -> None:
        """Closes the pool and every LoopConnection."""
        await asyncio.gather(*(loop.close() for loop in self.options.loops))
        await self._abandoned.ended()
        if self._retrying is not None:
            self._retrying.cancel()
        await self._pool.close(timeout=5)

    @contextlib.asynccontextmanager
    async def connection(self, expected: Collection[str] = ()) -> AsyncGenerator[AsyncConnection[Row]]:
        """Gives a connection, for a transaction that takes no longer than one statement may, waiting included.

        `expected`: SQLSTATEs that the caller deals with. If the server hangs, psycopg waits for the cancellation up to
        ten seconds more. Raises Unavailable and StoreRefusal.
        """
        with self._noted(expected), translated_errors(self.options.errors, expected):
            async with asyncio.timeout(self.options.statement_timeout_seconds), self._pool.connection() as connection:
                yield connection

    async def rows(self, statement: LiteralString, params: Params = None) -> list[Row]:
        """Runs one statement and returns its rows. Raises Unavailable and StoreRefusal.

        A statement that lost a race is run again, a read also after its connection was lost.
        """
        with self._noted(), translated_errors(self.options.errors):
            work = self._rows(statement, params)
            return await self._abandoned.within(self.options.statement_timeout_seconds, work)

    @contextlib.contextmanager
    def _noted(self, expected: Collection[str] = ()) -> Generator[None]:
        """Reports how a statement ends. What the caller expects, and deals with, is no failure of the database.

        A missing grant concerns some calls only, so it does not make the service NOT_SERVING.
        """
        try:
            yield
        except Unavailable as error:
            cause = failures.cause_of(error)
            if cause.sqlstate is None or cause.sqlstate not in expected:
                is_of_some = (cause.sqlstate or "").startswith(_STATEMENT_SQLSTATE_CLASS)
                (self._some_calls if is_of_some else self._calls).fail(cause)
            raise
        self._calls.succeed()
        self._some_calls.succeed()

    async def _rows(self, statement: LiteralString, params: Params) -> list[Row]:
        for number in range(1, _TRIES_MAX + 1):
            try:
                async with self._pool.connection() as connection:
                    return await self._run(connection, statement, params)
            except psycopg.Error as error:
                is_lost_race = error.sqlstate in failures.LOST_RACES - failures.GIVEN_UP
                may_repeat = is_lost_race or failures.is_harmless_to_repeat(error, statement, is_idempotent=False)
                if number == _TRIES_MAX or not may_repeat:
                    raise
                if is_lost_race:
                    await asyncio.sleep(self.options.random.uniform(0.01, 0.05) * number)  # so the winner can finish
        raise AssertionError("unreachable")

    async def _run(self, connection: AsyncConnection[Row], statement: LiteralString, params: Params) -> list[Row]:
        try:
            return await run(connection, statement, params)
        except psycopg.Error as error:
            if error.sqlstate in failures.REFUSED_BY_SESSION:
                await connection.close()  # the pool then makes another
            raise

    async def _connecting_failed(self, _: object) -> None:
        """Has the pool try again, for the calls that wait: by itself it does when another one comes, or never."""
        if self._retrying is None or self._retrying.done():
            self._retrying = asyncio.create_task(self._retry(), name="retry of the pool")

    async def _retry(self) -> None:
        await asyncio.sleep(_POOL_RETRY_SECONDS)  # as between two tries: the pool has just failed
        while self._pool.get_stats()["requests_waiting"]:  # so none is idle, which it would take for a round trip
            await self._pool.check()
            await asyncio.sleep(_POOL_RETRY_SECONDS)

    async def _compare_limits(self) -> None:
        with translated_errors(self.options.errors):
            async with asyncio.timeout(self.options.statement_timeout_seconds):
                async with await connect(self.options, "start") as connection:
                    if self.options.pooling is Pooling.NONE:  # a pooler's clients are not the server's
                        [limits] = await run(connection, SELECT_CONNECTION_LIMITS, None)
                        _refuse_too_few(self.options, *limits)

    async def _open_loops(self) -> None:
        opened = await asyncio.gather(*(loop.open() for loop in self.options.loops), return_exceptions=True)
        for error in filter(None, opened):
            await asyncio.gather(*(loop.close() for loop in self.options.loops))
            raise error


def _refuse_too_few(
    options: DatabaseOptions, role: str, role_limit: int, database_limit: int, server_limit: int
) -> None:
    allowed = {f"role `{role}`": role_limit, "the database": database_limit, "the server": server_limit}
    for who, limit in allowed.items():
        if 0 <= limit < options.connections_needed:
            raise _too_few(options, f"{who} allows {limit}")


def _too_few(options: DatabaseOptions, why: str) -> TooFewConnections:
    return TooFewConnections(
        f"a process needs {options.connections_needed} connections to the database ({options.pool_size} for calls, "
        f"WEBHOOK_DATABASE_POOL_SIZE, and {len(options.loops)} of its own), and can't have them: {why}"
    )


class LoopConnection:
    """The connection of one hot loop. Opened when it is needed, closed after any doubt."""

    def __init__(self, options: DatabaseOptions, name: str) -> None:
        self._options = options
        self._name = name
        self._connection: AsyncConnection[Row] | None = None
        self.opened_count = 0
        self._on_opened: Callable[[AsyncConnection[Row]], Awaitable[None]] | None = None
        self._plans = Plans()  # of the connection that was made last; another one never runs a statement of rows()
        self._direct = DirectStatements()  # of the same connection
        self._lock = asyncio.Lock()
        self._abandoned = Abandoned()
        options.loops.append(self)

    @property
    def progress(self) -> Progress:
        """Returns where the loop of this connection reports to."""
        return self._options.progress

    def on_opened(self, look: Callable[[AsyncConnection[Row]], Awaitable[None]]) -> None:
        """Has a look at each new connection before any statement runs on it; if that raises, none does."""
        self._on_opened = look

    async def open(self) -> None:
        """Connects, if it is not connected. Raises Unavailable."""
        async with self._lock:
            with translated_errors(self._options.errors):
                await self._abandoned.within(self._options.statement_timeout_seconds, self._open())

    async def rows(
        self, statement: LiteralString, params: Params = None, *, is_idempotent: bool = False, keeps_plan: bool = False
    ) -> list[Row]:
        """Runs one statement and returns its rows. A read is run again if the connection ends under it.

        So is an idempotent statement: with the same parameters it must do nothing more the second time, even if the
        first is still running. `keeps_plan`: it may use a plan that was made up to a second ago for other parameters
        (connection/plans.py). Raises StoreRefusal, or Unavailable: then nobody knows whether it was committed.
        """
        async with self._lock:
            with translated_errors(self._options.errors):
                work = self._rows(statement, params, is_idempotent=is_idempotent, keeps_plan=keeps_plan)
                return await self._abandoned.in_place(self._options.statement_timeout_seconds, work)

    async def listen(
        self, statement: LiteralString, hear: Callable[[str], None], on_listening: Callable[[], None]
    ) -> None:
        """Runs LISTEN and calls `hear` with the payload of each notification.

        Calls `on_listening` once no notification can be missed any more. Raises Unavailable when the connection ends.
        """
        async with self._lock:
            with translated_errors(self._options.errors):
                async with asyncio.timeout(self._options.statement_timeout_seconds):
                    connection = await self._connected()
                async with connection:
                    await connection.execute(statement)
                    on_listening()
                    async for notification in connection.notifies():
                        hear(notification.payload)

    async def close(self) -> None:
        """Closes the connection. Waits for statements that were abandoned: a few seconds at most."""
        async with self._lock:
            await self._abandoned.ended()
            await self._drop(self._taken())

    async def _rows(
        self, statement: LiteralString, params: Params, *, is_idempotent: bool, keeps_plan: bool
    ) -> list[Row]:
        for number in range(1, _TRIES_MAX + 1):
            connection = await self._connected()
            try:
                return await self._run(connection, statement, params, keeps_plan=keeps_plan)
            except psycopg.Error as error:
                may_repeat = failures.is_harmless_to_repeat(error, statement, is_idempotent=is_idempotent)
                if number == _TRIES_MAX or not may_repeat:
                    raise
        raise AssertionError("unreachable")

    async def _run(
        self, connection: AsyncConnection[Row], statement: LiteralString, params: Params, *, keeps_plan: bool
    ) -> list[Row]:
        """Runs a statement on a connection that no other statement has; keeps the connection only if it is sound."""
        try:
            await self._choose_plan(connection, keeps_plan=keeps_plan)
            may_prepare = keeps_plan and self._options.pooling is not Pooling.TRANSACTION
            rows = await run(connection, statement, params, direct=self._direct if may_prepare else None)
        except BaseException as error:
            if isinstance(error, psycopg.Error) and is_refusal(error):
                await self._give_back(connection)
            else:
                await self._drop(connection)
            raise
        await self._give_back(connection)
        return rows

    async def _choose_plan(self, connection: AsyncConnection[Row], *, keeps_plan: bool) -> None:
        """Lets the session keep plans or not. Behind a transaction pooler it has none to keep."""
        if self._options.pooling is Pooling.TRANSACTION:
            return
        first = self._plans.before(time.monotonic(), keeps_plan=keeps_plan)
        if first is not None:
            await connection.execute(first, prepare=False)

    async def _open(self) -> None:
        await self._give_back(await self._connected())

    async def _connected(self) -> AsyncConnection[Row]:
        connection = self._taken()
        if connection is not None and liveness.is_alive(connection):
            return connection
        await self._drop(connection)
        connection = await connect(self._options, self._name)
        self.opened_count += 1
        if self._on_opened is not None:
            try:
                await self._on_opened(connection)
            except BaseException:
                await connection.close()
                raise
        self._plans = Plans()
        self._direct = DirectStatements()
        log.debug("connected", connection=self._name)
        return connection

    def _taken(self) -> AsyncConnection[Row] | None:
        connection, self._connection = self._connection, None
        return connection

    async def _give_back(self, connection: AsyncConnection[Row]) -> None:
        other, self._connection = self._connection, connection
        await self._drop(other)

    async def _drop(self, connection: AsyncConnection[Row] | None) -> None:
        if connection is not None:
            await connection.close()


class KeptPlans:
    """Runs the statements of a loop with plans that are kept for a second: those that read few rows under any plan."""

    def __init__(self, connection: LoopConnection) -> None:
        self._connection = connection

    async def rows(self, statement: LiteralString, params: Params = None) -> list[Row]:
        """Runs one statement and returns its rows, as `LoopConnection.rows`."""
        return await self._connection.rows(statement, params, keeps_plan=True)


async def run(
    connection: AsyncConnection[Row],
    statement: LiteralString,
    params: Params,
    *,
    direct: DirectStatements | None = None,
) -> list[Row]:
    """Runs one statement on a connection and returns its rows, none if it gives none.

    `direct` runs it, if it is given and the parameters are of its kinds; else a cursor does.
    """
    if direct is not None and isinstance(params, Mapping):
        rows = await direct.run(connection, statement, params)
        if rows is not None:
            return rows
    cursor = await connection.execute(statement, params)
    has_rows = cursor.pgresult is not None and cursor.pgresult.nfields > 0  # `description` takes 20 times as long
    return await cursor.fetchall() if has_rows else []

"""Connections to Postgres, and what their errors mean.

Two ways to reach it: a pool for requests, and one `LoopConnection` for each hot loop, so that no flood of requests can
keep the engine from its connections. Both run single statements in autocommit mode under a deadline of the client's
own: a server that hangs answers neither the statement nor its cancellation. (psycopg gives a cancellation up to ten
seconds more, so a deadline of ten seconds ends within twenty.)
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, LiteralString, Protocol

import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from ..domain.errors import Unavailable
from . import session
from .session import Pooling as Pooling  # noqa: PLC0414 - for whoever makes DatabaseOptions
from .session import Row as Row  # noqa: PLC0414 - for whoever runs statements

log = structlog.get_logger(__name__)

Params = Mapping[str, object] | Sequence[object] | None

# Losing against a concurrent statement: the same statement may be run again.
RETRYABLE_SQLSTATES: Final = frozenset({"40001", "40P01", "55P03"})
_ATTEMPTS_MAX: Final = 3
# Refusals of this input, not of the moment: class 22 (data) and 23 (integrity), and statements beyond a limit.
_INPUT_SQLSTATE_CLASSES: Final = ("22", "23", "54")


class StoreRefusal(Exception):
    """Postgres refused these values. Repeating the statement would not help."""


@dataclass(frozen=True, slots=True)
class DatabaseOptions:
    """How to reach the database. Times are in seconds."""

    conninfo: str
    pool_size: int
    pool_timeout_seconds: float
    pool_waiting_max: int
    statement_timeout_seconds: float
    pooling: Pooling = Pooling.NONE


async def connect(options: DatabaseOptions, name: str) -> AsyncConnection[Row]:
    """Opens a connection with our session settings. Raises psycopg.Error.

    `name` says in pg_stat_activity whose it is.
    """
    connection: AsyncConnection[Row] = await AsyncConnection.connect(
        options.conninfo, **session.connection_arguments(name, options.pooling)
    )
    try:
        await _prepare(connection, options)
    except BaseException:
        await connection.close()
        raise
    return connection


async def _prepare(connection: AsyncConnection[Row], options: DatabaseOptions) -> None:
    """Behind a transaction pooler nothing may be set: the next client of the session would have it."""
    if options.pooling is not Pooling.TRANSACTION:
        await session.set_session(connection, options.statement_timeout_seconds)


@contextlib.contextmanager
def translated_errors() -> Generator[None]:
    """Turns the driver's errors into ours, once, here.

    Raises StoreRefusal for values that Postgres will never take and Unavailable for everything that may pass.
    """
    try:
        yield
    except (PoolTimeout, TooManyRequests) as error:
        raise Unavailable("STORAGE_UNAVAILABLE", "the database did not answer in time") from error
    except TimeoutError as error:
        raise Unavailable("STORAGE_UNAVAILABLE", "the database did not answer in time") from error
    except psycopg.Error as error:
        if is_refusal(error):
            raise StoreRefusal(error.sqlstate or type(error).__name__) from error
        raise Unavailable("STORAGE_UNAVAILABLE", "the database cannot be reached or is overloaded") from error


def is_refusal(error: psycopg.Error) -> bool:
    """Whether Postgres refused the values. A missing partition (23514) is ours to mend, so it may pass."""
    if isinstance(error, psycopg.DataError):
        return True
    sqlstate = error.sqlstate or ""
    return sqlstate.startswith(_INPUT_SQLSTATE_CLASSES) and sqlstate != "23514"


class Queries(Protocol):
    """Whatever runs single statements: the pool, or a loop's own connection."""

    async def rows(self, statement: LiteralString, params: Params = None) -> list[Row]:
        """Runs one statement and returns its rows. Raises Unavailable and StoreRefusal."""
        ...


class Database:
    """The pool. Single statements, in autocommit mode, under a deadline."""

    def __init__(self, options: DatabaseOptions) -> None:
        self.options = options
        self._pool: AsyncConnectionPool[AsyncConnection[Row]] = AsyncConnectionPool(
            options.conninfo,
            kwargs=session.connection_arguments("pool", options.pooling),
            configure=functools.partial(_prepare, options=options),
            min_size=1,
            max_size=options.pool_size,
            timeout=options.pool_timeout_seconds,
            max_waiting=options.pool_waiting_max,
            check=AsyncConnectionPool.check_connection,  # without it a restart leaves dead connections in the pool
            reconnect_timeout=0,
            name="webhook-grpc",
            open=False,
        )

    async def open(self) -> None:
        """Connects. Raises Unavailable if the database can't be reached."""
        with translated_errors():
            async with asyncio.timeout(self.options.statement_timeout_seconds):
                async with await connect(self.options, "start"):
                    pass
        await self._pool.open()

    async def close(self) -> None:
        """Closes every connection."""
        await self._pool.close(timeout=5)

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncGenerator[AsyncConnection[Row]]:
        """A connection for as long as one statement may take, getting it included."""
        with translated_errors():
            async with asyncio.timeout(self.options.statement_timeout_seconds), self._pool.connection() as connection:
                yield connection

    async def rows(self, statement: LiteralString, params: Params = None) -> list[Row]:
        """Runs one statement and returns its rows. Lost races are run again.

        Raises Unavailable and StoreRefusal.
        """
        for attempt in range(1, _ATTEMPTS_MAX + 1):
            try:
                async with self.connection() as connection:
                    return await run(connection, statement, params)
            except Unavailable as error:
                cause = error.__cause__
                if attempt == _ATTEMPTS_MAX or getattr(cause, "sqlstate", None) not in RETRYABLE_SQLSTATES:
                    raise
                await asyncio.sleep(random.uniform(0.01, 0.05) * attempt)  # let the winner finish
        raise AssertionError("unreachable")


class LoopConnection:
    """One connection of its own for one hot loop. Opened when it is needed, dropped after any doubt."""

    def __init__(self, options: DatabaseOptions, name: str) -> None:
        self._options = options
        self._name = name
        self._connection: AsyncConnection[Row] | None = None
        self._lock = asyncio.Lock()

    async def rows(self, statement: LiteralString, params: Params = None) -> list[Row]:
        """Runs one statement and returns its rows.

        Raises StoreRefusal, or Unavailable: then whether it was committed is not known.
        """
        async with self._lock:
            with translated_errors():
                try:
                    async with asyncio.timeout(self._options.statement_timeout_seconds):
                        return await run(await self._connected(), statement, params)
                except BaseException as error:
                    if not (isinstance(error, psycopg.Error) and is_refusal(error)):
                        await self._drop()
                    raise

    async def close(self) -> None:
        """Closes the connection."""
        async with self._lock:
            await self._drop()

    async def _connected(self) -> AsyncConnection[Row]:
        if self._connection is None or self._connection.closed:
            self._connection = await connect(self._options, self._name)
            log.debug("connected", connection=self._name)
        return self._connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


async def run(connection: AsyncConnection[Row], statement: LiteralString, params: Params) -> list[Row]:
    """Runs one statement on a connection and returns its rows, if it gives any."""
    cursor = await connection.execute(statement, params)
    return await cursor.fetchall() if cursor.description else []

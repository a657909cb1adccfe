"""Opens the database for a command that does one thing and ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from webhook_grpc.store.connection.placing import Place
from webhook_grpc.store.connection.poolers import check_sessions
from webhook_grpc.store.db import Database, DatabaseOptions

_Result = TypeVar("_Result")
_SECONDS_MAX: Final = 30.0  # of a statement, and of the wait for a connection


def run_in_database(place: Place, act: Callable[[Database], Awaitable[_Result]]) -> _Result:
    """Runs an act in an event loop of its own, with one connection.

    Raises UnsuitableServer if sessions of a pooler lack our settings, Unavailable, and what the act raises.
    """

    async def run() -> _Result:
        options = DatabaseOptions(place.conninfo, 1, _SECONDS_MAX, 1, _SECONDS_MAX, place.pooling, place.schema)
        await check_sessions(options)
        database = Database(options)
        await database.open()
        try:
            return await act(database)
        finally:
            await database.close()

    return asyncio.run(run())

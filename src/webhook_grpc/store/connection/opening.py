"""Opens one connection for something short, outside of an event loop. Sets nothing in its session."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Final

import psycopg
from psycopg import Connection

from .conninfo import checked
from .session import Pooling, Row, connection_arguments

# One message, so that nothing is idle between: until then the role's own deadlines hold, of a millisecond say.
_BEGIN: Final = """
BEGIN;
SET LOCAL statement_timeout = '20s';
SET LOCAL lock_timeout = '20s';
SET LOCAL idle_in_transaction_session_timeout = '20s'
"""
_BEGIN_FROM_17: Final = f"{_BEGIN}; SET LOCAL transaction_timeout = 0"


class DatabaseUnreachable(Exception):
    """No connection to the database could be opened."""


@contextmanager
def opened(conninfo: str, name: str) -> Generator[Connection[Row]]:
    """Opens a connection in autocommit mode, which prepares nothing. Raises BadConninfo, DatabaseUnreachable."""
    conninfo = checked(conninfo)
    try:
        connection = psycopg.connect(conninfo, **connection_arguments(name, Pooling.TRANSACTION))
    except psycopg.Error as error:  # its first line names the place; `checked` has seen to it that no password does
        raise DatabaseUnreachable(f"the database cannot be reached: {str(error).splitlines()[0]}") from None
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def bounded(connection: Connection[Row]) -> Generator[None]:
    """Gives the statements of the block deadlines of ours, in one transaction: nothing stays set in the session.

    What the role, the database or the server sets may be too short to look at anything.
    """
    connection.execute(_BEGIN_FROM_17 if connection.info.server_version >= 170_000 else _BEGIN)
    try:
        yield
    finally:
        with suppress(psycopg.Error):  # the connection has ended, and the block has said so
            connection.execute("ROLLBACK")

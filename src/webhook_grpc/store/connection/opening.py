"""Opens one connection for something short, outside of an event loop. Sets nothing in its session."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import psycopg
from psycopg import Connection

from .conninfo import checked
from .session import Pooling, Row, connection_arguments


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

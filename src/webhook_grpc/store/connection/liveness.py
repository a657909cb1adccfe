"""Finds out whether an idle connection is still there, without a round trip to the server.

If a connection was ended while it was idle (a restart, an administrator, a proxy's idle limit, a failover), bytes or
the end of the stream wait in its socket. Looking there costs microseconds; a round trip costs as much as a small
statement. A peer that vanished without a word can't be seen there; keepalives notice it within ten seconds.
"""

from __future__ import annotations

import select
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection
from psycopg.pq import ConnStatus

_HUNG_UP: Final = select.POLLHUP | select.POLLERR | select.POLLNVAL | getattr(select, "POLLRDHUP", 0)  # RDHUP: Linux
_LOOKS_MAX: Final = 8  # at notices that wait; each look reads what there is


def is_alive(connection: AsyncConnection[Any]) -> bool:
    """Returns False if the connection is closed, or its peer has ended it. Reads what the server sent meanwhile."""
    if connection.closed:
        return False
    socket = select.poll()
    socket.register(connection.pgconn.socket, select.POLLIN | _HUNG_UP)
    for _ in range(_LOOKS_MAX):
        events = socket.poll(0)
        if not events:
            return True
        if events[0][1] & _HUNG_UP or not _take_in(connection):
            return False
    return True


def _take_in(connection: AsyncConnection[Any]) -> bool:
    """Reads what waits: notices, changed settings. Returns False if that was the end of the connection."""
    try:
        connection.pgconn.consume_input()
        connection.pgconn.is_busy()  # parses it
    except psycopg.Error:
        return False
    return connection.pgconn.status == ConnStatus.OK


async def check(connection: AsyncConnection[Any]) -> None:
    """Raises OperationalError if the connection has ended, as the `check` of a psycopg pool must."""
    if not is_alive(connection):
        await connection.close()
        raise psycopg.OperationalError("the connection has ended")

"""Whether a connection that rests is still there, without asking the server.

A connection that was ended while it rested (a restart, an administrator, a proxy's idle limit, a failover) has bytes or
the end of the stream waiting in its socket. Looking there costs microseconds; a round trip would cost what a small
statement does. What no look can see: a peer that vanished without a word; keepalives see it within ten seconds.
"""

from __future__ import annotations

import select
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection
from psycopg.pq import ConnStatus

_HUNG_UP: Final = select.POLLHUP | select.POLLERR | select.POLLNVAL | getattr(select, "POLLRDHUP", 0)  # RDHUP: Linux
_LOOKS_MAX: Final = 8  # at notices that wait; each look takes in what there is


def is_alive(connection: AsyncConnection[Any]) -> bool:
    """Returns False if the connection is closed, or its peer has ended it. Takes in what the server said meanwhile."""
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
    """Reads what waits: notices, changed settings. False: it was the end."""
    try:
        connection.pgconn.consume_input()
        connection.pgconn.is_busy()  # parses it
    except psycopg.Error:
        return False
    return connection.pgconn.status == ConnStatus.OK


async def check(connection: AsyncConnection[Any]) -> None:
    """Raises OperationalError if the connection has ended: what a pool wants of its check."""
    if not is_alive(connection):
        await connection.close()
        raise psycopg.OperationalError("the connection has ended")

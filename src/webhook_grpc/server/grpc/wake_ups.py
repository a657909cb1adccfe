"""Wake-ups of the event loop by gRPC: all that have come are read in one turn of the loop.

gRPC's thread writes a byte for each event (a call has come, a message was sent) into a socket. Its reader takes a byte
a turn, though it handles every event that is there. While turns take long the bytes pile up until the socket is full,
which some 280 are. From then on gRPC's thread waits for each byte: one event a turn reaches the loop, and a new call
waits behind what was sent to watchers, for half a minute perhaps; then gRPC ends it as CANCELLED.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Generator
from typing import Any, Final

_READ_MAX: Final = 65_536  # more than such a socket can hold


@contextlib.contextmanager
def read_together(then: Callable[[], None] = lambda: None) -> Generator[None]:
    """Makes what gRPC lets the running loop read within the block be read in this way. Enter it before gRPC is used.

    `then` is called when events were read, in the same turn of the loop.
    """
    loop: Any = asyncio.get_running_loop()
    add_reader: Callable[..., Any] = loop.add_reader

    def add(waker: socket.socket, handle: Callable[..., Any], *arguments: Any) -> None:
        def handle_all() -> None:
            handle(*arguments)
            then()

        add_reader(waker, take_all, waker, handle_all)

    loop.add_reader = add
    try:
        yield
    finally:
        del loop.add_reader  # the class has its own


def take_all(waker: socket.socket, handle: Callable[..., Any], *arguments: Any) -> None:
    """Takes all bytes but one, which `handle` takes. Without any it would wait for one."""
    try:
        count = len(waker.recv(_READ_MAX, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except BlockingIOError:
        return
    if count > 1:
        waker.recv(count - 1)
    handle(*arguments)

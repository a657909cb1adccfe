"""Watches deliveries: an iterator that goes on after every interruption, without a gap."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Self

import grpc
from webhook.v1 import delivery_pb2

from ..connecting import Token
from ..cursor_files import CursorFile
from ..errors import Unauthorized, error_of
from ..following import Following, WatchFields


class Watcher:
    """Iterates over deliveries as they stood after each change, oldest change first.

    `cursor` moves when the next delivery is asked for: what was not finished is delivered again by a later watch. One
    thread iterates; any may call `close`.
    """

    def __init__(self, watch: Callable[..., Any], token: Token, fields: WatchFields) -> None:
        """Raises ValueError for fields that contradict one another, CursorFileBroken or OSError for a cursor file."""
        self._watch = watch
        self._token = token
        self._following = Following(fields, time.monotonic())
        self._file = CursorFile(Path(fields["cursor_file"])) if "cursor_file" in fields else None
        if self._file is not None:
            self._following.cursor = self._file.load() or self._following.cursor
        self._closing = threading.Event()
        self._call: Any = None
        self._deliveries = self._iterate()

    @property
    def cursor(self) -> bytes:
        """Returns what to give to the next watch, so that it goes on here; empty before the first message."""
        return self._following.cursor

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> delivery_pb2.Delivery:
        return next(self._deliveries)

    def close(self) -> None:
        """Ends the watch, and the iteration. The cursor file has the cursor when the iterating thread has left."""
        self._closing.set()
        if self._call is not None:
            self._call.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._deliveries.close()  # saves the cursor

    def _iterate(self) -> Generator[delivery_pb2.Delivery]:
        try:
            while not self._closing.is_set():
                metadata = self._token.metadata()
                try:
                    yield from self._stream(metadata)
                    if self._closing.is_set():
                        return
                    pause_seconds = self._following.ended(random.random())
                except grpc.RpcError as error:
                    pause_seconds = self._pause_seconds(error, metadata)
                self._closing.wait(pause_seconds)
        finally:
            self._save(is_last=True)

    def _pause_seconds(self, error: grpc.RpcError, metadata: object) -> float:
        if self._closing.is_set():
            return 0.0
        failure = error_of(error)
        if isinstance(failure, Unauthorized) and self._token.metadata() != metadata:
            return self._following.ended(random.random())  # there is a new token
        return self._following.failed(failure, random.random())

    def _stream(self, metadata: object) -> Generator[delivery_pb2.Delivery]:
        self._call = call = self._watch(self._following.request(), metadata=metadata)
        try:
            if self._closing.is_set():  # `close` may have come just before there was a call to cancel
                return
            for message in call:
                self._following.received(message, time.monotonic())
                yield from message.deliveries
                self._following.finished(message)
                self._save()
                if self._following.is_idle(time.monotonic()):
                    self._closing.set()
                    return
        finally:
            call.cancel()

    def _save(self, *, is_last: bool = False) -> None:
        cursor, now = self._following.cursor, time.monotonic()
        if self._file is not None and self._file.is_due(cursor, now, is_last=is_last):
            self._file.save(cursor, now)

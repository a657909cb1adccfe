"""Watches deliveries: an iterator that goes on after every interruption, without a gap."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, Self

import grpc
from webhook.v1 import delivery_pb2

from ..connecting import Token
from ..cursor_files import CursorFile
from ..errors import Unauthorized, error_of
from ..following import Following, WatchFields


class AsyncWatcher:
    """Iterates over deliveries as they stood after each change, oldest change first.

    `cursor` moves when the next delivery is asked for: what was not finished is delivered again by a later watch.
    """

    def __init__(self, watch: Callable[..., Any], token: Token, fields: WatchFields) -> None:
        """Raises ValueError for fields that contradict one another, CursorFileBroken or OSError for a cursor file."""
        self._watch = watch
        self._token = token
        self._following = Following(fields, time.monotonic())
        self._file = CursorFile(Path(fields["cursor_file"])) if "cursor_file" in fields else None
        if self._file is not None:
            self._following.cursor = self._file.load() or self._following.cursor
        self._is_ended = False
        self._deliveries = self._iterate()

    @property
    def cursor(self) -> bytes:
        """Returns what to give to the next watch, so that it goes on here; empty before the first message."""
        return self._following.cursor

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> delivery_pb2.Delivery:
        return await anext(self._deliveries)

    async def close(self) -> None:
        """Ends the watch, and saves the cursor. While another task iterates, cancel that one instead."""
        await self._deliveries.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _iterate(self) -> AsyncGenerator[delivery_pb2.Delivery]:
        try:
            while not self._is_ended:
                metadata = self._token.metadata()
                try:
                    async with contextlib.aclosing(self._stream(metadata)) as stream:
                        async for delivery in stream:
                            yield delivery
                    pause_seconds = 0.0 if self._is_ended else self._following.ended(random.random())
                except grpc.RpcError as error:
                    pause_seconds = self._pause_seconds(error, metadata)
                await asyncio.sleep(pause_seconds)  # the back-off of `Following`
        finally:
            await self._save(is_last=True)

    def _pause_seconds(self, error: grpc.RpcError, metadata: object) -> float:
        failure = error_of(error)
        if isinstance(failure, Unauthorized) and self._token.metadata() != metadata:
            return self._following.ended(random.random())  # there is a new token
        return self._following.failed(failure, random.random())

    async def _stream(self, metadata: object) -> AsyncGenerator[delivery_pb2.Delivery]:
        call = self._watch(self._following.request(), metadata=metadata)
        try:
            async for message in call:
                self._following.received(message, time.monotonic())
                for delivery in message.deliveries:
                    yield delivery
                self._following.finished(message)
                await self._save()
                self._is_ended = self._following.is_idle(time.monotonic())
                if self._is_ended:
                    return
        finally:
            call.cancel()

    async def _save(self, *, is_last: bool = False) -> None:
        if self._file is not None and self._file.is_due(self._following.cursor, time.monotonic(), is_last=is_last):
            await asyncio.to_thread(self._file.save, self._following.cursor, time.monotonic())

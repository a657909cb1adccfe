"""Hints between processes, by NOTIFY: they make things quicker, and nothing depends on them.

A NOTIFY in every commit would cost most of the throughput (it serialises commits), so hints are collected and sent at
most about twenty times a second, and not at all while this process is alone. A lost hint costs one poll interval.
Behind a pooler in transaction mode there are none.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterable
from typing import Final

from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.progress import Service
from webhook_grpc.store.connection.failures import cause_of, watched
from webhook_grpc.store.db import DatabaseOptions, LoopConnection, Pooling

CHANNEL: Final = "webhook_grpc"
LISTEN: Final = "LISTEN webhook_grpc"
NOTIFY: Final = "SELECT pg_notify('webhook_grpc', %s)"

_SEND_INTERVAL_SECONDS: Final = 0.05
_RECONNECT_SECONDS: Final = 1.0
_DUE: Final = re.compile(r"d[0-9]{1,2}")  # words of other versions, or of anybody who may NOTIFY, are passed over
_COMMANDED: Final = re.compile(r"c[0-9]{1,2}")
_CHANGED: Final = re.compile(r"w[0-9]{1,19}")
_IDS_MAX: Final = 300  # a payload has at most 7,999 bytes


class Hints:
    """Tells this process at once and the others soon."""

    def __init__(self, options: DatabaseOptions) -> None:
        self._connection = LoopConnection(options, "hints")
        self._sending = options.progress.work("send hints", Service.DELIVERY)
        self._is_heard = options.pooling is not Pooling.TRANSACTION  # where nobody can LISTEN, everybody polls
        self._due_shards: set[int] = set()
        self._commanded_shards: set[int] = set()
        self._changed_webhooks: set[int] = set()
        self._logged = False
        self._wanted = asyncio.Event()
        self._alone = True
        self.on_webhooks_changed: Callable[[set[int]], None] = _ignore
        self.on_commanded: Callable[[set[int]], None] = _ignore
        self.on_logged: Callable[[], None] = _ignore

    def process_counted(self, live_count: int) -> None:
        """Takes in how many processes there are. One alone needs no hints."""
        self._alone = live_count <= 1 or not self._is_heard

    def deliveries_due(self, shards: Iterable[int]) -> None:
        """Tells the other owners that something became due in these shards."""
        if not self._alone:
            self._due_shards.update(shards)
            if self._due_shards:
                self._wanted.set()

    def commanded(self, shards: Iterable[int]) -> None:
        """Tells everybody that there are commands for the owners of these shards."""
        named = set(shards)
        self.on_commanded(named)
        if not self._alone and named:
            self._commanded_shards.update(named)
            self._wanted.set()

    def webhook_changed(self, webhook_id: int) -> None:
        """Tells everybody that a webhook was changed."""
        self.on_webhooks_changed({webhook_id})
        if not self._alone:
            self._changed_webhooks.add(webhook_id)
            self._wanted.set()

    def logged(self) -> None:
        """Tells everybody that the log grew."""
        self.on_logged()
        if not self._alone:
            self._logged = True
            self._wanted.set()

    async def run(self) -> None:
        """Sends until it is cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            with contextlib.suppress(Unavailable), watched(self._sending):  # a hint that is lost costs a poll
                await self._connection.rows(NOTIFY, (self._take(),))
            await asyncio.sleep(_SEND_INTERVAL_SECONDS)  # the bound on how often

    async def close(self) -> None:
        """Closes the connection."""
        await self._connection.close()

    def _take(self) -> str:
        words = [f"d{shard}" for shard in self._due_shards]
        words += [f"c{shard}" for shard in self._commanded_shards]
        words += [f"w{webhook_id}" for webhook_id in list(self._changed_webhooks)[:_IDS_MAX]]
        words += ["l"] if self._logged else []
        self._due_shards.clear()
        self._commanded_shards.clear()
        self._changed_webhooks.clear()
        self._logged = False
        return " ".join(words)


def _ignore(*_: object) -> None:
    pass


class HintListener:
    """Hears the hints of all processes, and calls back. Reconnects by itself."""

    def __init__(
        self,
        options: DatabaseOptions,
        *,
        on_due: Callable[[set[int]], None],
        on_commanded: Callable[[set[int]], None],
        on_webhooks_changed: Callable[[set[int]], None],
        on_logged: Callable[[], None],
    ) -> None:
        self._connection = LoopConnection(options, "listen")
        self._hearing = options.progress.work("hear hints", Service.DELIVERY)
        self._is_deaf = options.pooling is Pooling.TRANSACTION
        self._on_due = on_due
        self._on_commanded = on_commanded
        self._on_webhooks_changed = on_webhooks_changed
        self._on_logged = on_logged

    async def run(self) -> None:
        """Listens until it is cancelled. Behind a pooler in transaction mode there is nothing to hear."""
        if self._is_deaf:
            await asyncio.Event().wait()
        while True:
            self._hearing.begin()
            try:
                await self._connection.listen(LISTEN, self._hear, self._hearing.succeed)
            except Unavailable as error:
                self._hearing.fail(cause_of(error))
            await asyncio.sleep(_RECONNECT_SECONDS)  # polling serves meanwhile

    def _hear(self, payload: str) -> None:
        words = payload.split()
        shards = {int(word[1:]) for word in words if _DUE.fullmatch(word)}
        commanded = {int(word[1:]) for word in words if _COMMANDED.fullmatch(word)}
        webhook_ids = {int(word[1:]) for word in words if _CHANGED.fullmatch(word)}
        if shards:
            self._on_due(shards)
        if commanded:
            self._on_commanded(commanded)
        if webhook_ids:
            self._on_webhooks_changed(webhook_ids)
        if "l" in words:
            self._on_logged()

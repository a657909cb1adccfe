"""Hints by topic, within a process at once and between processes by NOTIFY: nothing depends on them.

A NOTIFY in every commit would cost most of the throughput (it serialises commits), so hints are collected and sent at
most about twenty times a second, and not at all while this process is alone. A lost hint costs one poll interval.
Behind a pooler in transaction mode there are none between processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Coroutine, Iterable, Mapping
from enum import StrEnum
from typing import Any, Final

from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.progress import Service
from webhook_grpc.store.connection.failures import cause_of, watched
from webhook_grpc.store.db import LoopConnection, Pooling

# Channels belong to the database: each schema of ours has its own. That of `public` is the one of versions that knew no
# other schema. A name has 63 bytes at most, and LISTEN takes no parameter.
CHANNEL: Final = """
CASE current_schema() WHEN 'public' THEN 'webhook_grpc'
    ELSE 'webhook_grpc_' || left(encode(sha256(convert_to(current_schema(), 'UTF8')), 'hex'), 16) END
"""
LISTEN: Final = f"DO $$ BEGIN EXECUTE format('LISTEN %I', {CHANNEL}); END $$"
NOTIFY: Final = f"SELECT pg_notify({CHANNEL}, %s)"

_SEND_INTERVAL_SECONDS: Final = 0.05
_RECONNECT_SECONDS: Final = 1.0
_IDS_MAX: Final = 170  # of webhooks, and of tokens, in a payload, which has at most 7,999 bytes


class Topic(StrEnum):
    """What a hint is about. The value is the first letter of the topic's words in a payload."""

    DUE = "d"  # something became due in these shards
    COMMANDED = "c"  # there are commands for the owners of these shards
    WEBHOOKS = "w"  # these webhooks were changed
    TOKENS = "t"  # these tokens were revoked
    LOG = "l"  # the log grew; no numbers


Handler = Callable[[set[int]], None]

# The words of each topic, with a number for all but the last. Other words are passed over: they are of another version,
# or of anybody who may NOTIFY.
_WORDS: Final[Mapping[Topic, re.Pattern[str]]] = {
    Topic.DUE: re.compile(r"d([0-9]{1,2})"),
    Topic.COMMANDED: re.compile(r"c([0-9]{1,2})"),
    Topic.WEBHOOKS: re.compile(r"w([0-9]{1,19})"),
    Topic.TOKENS: re.compile(r"t([0-9]{1,19})"),
    Topic.LOG: re.compile(r"l()"),
}


class Hints:
    """Hands hints to the handlers of their topic: those of this process at once, those of the others as they arrive."""

    def __init__(
        self, sending: LoopConnection, listening: LoopConnection, is_alone: Callable[[], bool], pooling: Pooling
    ) -> None:
        """`is_alone` returns whether there is no other process, which would have to be notified."""
        self._sending_connection = sending
        self._listening_connection = listening
        self._sending = sending.progress.work("send hints", Service.DELIVERY)
        self._hearing = listening.progress.work("hear hints", Service.DELIVERY)
        self._is_alone = is_alone
        self._may_listen = pooling is not Pooling.TRANSACTION
        self._handlers: dict[Topic, list[Handler]] = {topic: [] for topic in Topic}
        self._waiting: dict[Topic, set[int]] = {}  # to be sent
        self._wanted = asyncio.Event()

    def subscribe(self, topic: Topic, handler: Handler) -> None:
        """Calls the handler with the shards, webhooks or tokens of each hint of the topic. A handler must not wait."""
        self._handlers[topic].append(handler)

    def deliveries_due(self, shards: Iterable[int]) -> None:
        """Reports to the owners of these shards that something became due."""
        self._report(Topic.DUE, set(shards))

    def commanded(self, shards: Iterable[int]) -> None:
        """Reports to the owners of these shards that there are commands."""
        self._report(Topic.COMMANDED, set(shards))

    def webhook_changed(self, webhook_id: int) -> None:
        """Reports to every process that a webhook was changed."""
        self._report(Topic.WEBHOOKS, {webhook_id})

    def token_revoked(self, token_id: int) -> None:
        """Reports to every process that a token was revoked."""
        self._report(Topic.TOKENS, {token_id})

    def logged(self) -> None:
        """Reports to every process that the log grew."""
        self._hand_over(Topic.LOG, set())
        self._send_later(Topic.LOG, set())

    def loops(self) -> Mapping[str, Coroutine[Any, Any, None]]:
        """Returns what has to run, by name. No loop ends by itself."""
        return {"hints": self._send(), "hint listener": self._listen()}

    def _report(self, topic: Topic, numbers: set[int]) -> None:
        if numbers:
            self._hand_over(topic, numbers)
            self._send_later(topic, numbers)

    def _hand_over(self, topic: Topic, numbers: set[int]) -> None:
        for handler in self._handlers[topic]:
            handler(numbers)

    # --- to the others ---------------------------------------------------------------------------------------------

    def _send_later(self, topic: Topic, numbers: set[int]) -> None:
        if self._may_listen and not self._is_alone():  # where nobody can LISTEN, everybody polls
            self._waiting.setdefault(topic, set()).update(numbers)
            self._wanted.set()

    async def _send(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            with contextlib.suppress(Unavailable), watched(self._sending):  # a hint that is lost costs a poll
                await self._sending_connection.rows(NOTIFY, (self._payload(),))
            await asyncio.sleep(_SEND_INTERVAL_SECONDS)  # the bound on how often

    def _payload(self) -> str:
        waiting, self._waiting = self._waiting, {}
        words = [
            f"{topic}{number}" for topic in Topic for number in list(waiting.get(topic, ()))[:_IDS_MAX]
        ]  # there are fewer shards than that
        return " ".join([*words, Topic.LOG] if Topic.LOG in waiting else words)

    # --- from the others -------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Hears the hints of all processes, and connects again when the connection has ended."""
        if not self._may_listen:
            await asyncio.Event().wait()
        while True:
            self._hearing.begin()
            try:
                await self._listening_connection.listen(LISTEN, self._hear, self._hearing.succeed)
            except Unavailable as error:
                self._hearing.fail(cause_of(error))
            await asyncio.sleep(_RECONNECT_SECONDS)  # polling serves meanwhile

    def _hear(self, payload: str) -> None:
        words = payload.split()
        for topic, pattern in _WORDS.items():
            numbers = [found[1] for word in words if (found := pattern.fullmatch(word))]
            if numbers:
                self._hand_over(topic, {int(number) for number in numbers if number})

"""Gathers the figures of all children for the one that was asked for them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Final

from webhook_grpc.process.family.line_channel import Message

from .child import Child

_SECONDS_MAX: Final = 2.0  # for each child; those that do not answer are left out


class Figures:
    """Asks the children, and remembers who waits for what."""

    def __init__(self, children: Sequence[Child]) -> None:
        self._children = children
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[str]] = {}

    async def gather(self, asker: Child, message: Message) -> None:
        """Answers a child with the figures of all."""
        serving = [child for child in self._children if child.ready_at is not None]
        texts = await asyncio.gather(*(self._text_of(child) for child in serving))
        asker.send(
            {
                "kind": "all figures",
                "id": message["id"],
                "texts": {child.name: text for child, text in zip(serving, texts, strict=True) if text},
                "restarts": {child.name: child.restarts.count for child in self._children},
            }
        )

    def take_in(self, message: Message) -> None:
        """Takes in the figures of one child."""
        future = self._asked.get(message["id"])
        if future is not None and not future.done():
            future.set_result(message["text"])

    async def _text_of(self, child: Child) -> str:
        number = next(self._numbers)
        future = self._asked[number] = asyncio.get_running_loop().create_future()
        child.send({"kind": "figures", "id": number})
        try:
            async with asyncio.timeout(_SECONDS_MAX):
                return await future
        except TimeoutError:
            return ""
        finally:
            del self._asked[number]

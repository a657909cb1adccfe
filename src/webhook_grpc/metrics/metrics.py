"""All figures of a process, as text for Prometheus."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from .families import Source

if TYPE_CHECKING:
    from .writing import Writer

FRESH_SECONDS: Final = 0.5  # so long a text is given again: whoever reads without a pause costs no more


class Metrics:
    """Shows what its sources know. What writes it is loaded by the first reader: a start does without."""

    def __init__(self) -> None:
        self._sources: Sequence[Source] = ()
        self._writer: Writer | None = None
        self._text = b""
        self._written_at = -FRESH_SECONDS

    @property
    def content_type(self) -> str:
        """Returns the value for the header `Content-Type`."""
        from .writing import CONTENT_TYPE  # noqa: PLC0415 - loaded by the first reader of figures

        return CONTENT_TYPE

    def show(self, sources: Sequence[Source], *, at_once: bool = False) -> None:
        """Takes all that is shown. To be called once. `at_once`: the first reader does not wait for what writes it."""
        self._sources = sources
        if at_once:
            self._load()

    async def text(self) -> bytes:
        """Returns all figures, at most FRESH_SECONDS old. Waits for nothing but, once, what writes them."""
        if self._writer is None:
            await asyncio.to_thread(self._load)
        return self.text_now()

    def text_now(self) -> bytes:
        """Returns all figures, at most FRESH_SECONDS old."""
        now = time.monotonic()
        if now - self._written_at >= FRESH_SECONDS:
            self._text, self._written_at = self._load().text(), now
        return self._text

    def _load(self) -> Writer:
        if self._writer is None:
            from .writing import Writer  # noqa: PLC0415 - loaded by the first reader of figures

            self._writer = Writer(self._sources)
        return self._writer

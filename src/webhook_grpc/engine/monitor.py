"""Turns what stands still into health and into lines of the log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from ..domain.progress import News, Progress, Service, Work
from .ownership import Ownership
from .stillness import Stillness

log = structlog.get_logger(__name__)

_INTERVAL_SECONDS_MAX: Final = 0.5
_LOOKS_PER_STALL: Final = 4


class Monitor:
    """Looks at the progress of every loop, and says what has changed.

    A service does not serve while the lease is not renewed, or when something that it can't do without stands still.
    """

    def __init__(
        self,
        progress: Progress,
        ownership: Ownership,
        stillness: Stillness,
        set_serving: Callable[[str, bool], Awaitable[None]],
    ) -> None:
        self._progress = progress
        self._ownership = ownership
        self._stillness = stillness
        self._set_serving = set_serving
        self._serving = dict.fromkeys(Service, True)

    async def run(self) -> None:
        """Looks every so often until it is cancelled."""
        while True:
            await asyncio.sleep(min(_INTERVAL_SECONDS_MAX, self._progress.stalled_seconds / _LOOKS_PER_STALL))
            await self.look(time.monotonic())

    async def look(self, now: float) -> None:
        """Looks once."""
        self._stillness.look(now)
        for news in self._progress.advance(now):
            _say(news)
        for service in Service:
            why = self._why_not(service)
            if self._serving[service] is bool(why):
                await self._change(service, why)

    def _why_not(self, service: Service) -> list[str]:
        """What keeps a service from serving; nothing if it serves."""
        stalled = self._progress.stalled(service)
        if not stalled and not self._ownership.may_send:
            stalled = [self._ownership.renewing]
        return [_words(work) for work in stalled]

    async def _change(self, service: Service, why: list[str]) -> None:
        self._serving[service] = not why
        await self._set_serving(service, not why)
        if why:
            log.warning("health changed", service=service.value, serving=False, why="; ".join(why))
        else:
            log.info("health changed", service=service.value, serving=True)


def _words(work: Work) -> str:
    cause = work.cause
    text = "not renewed in time" if cause is None else f"{cause.sqlstate or ''} {cause.text}".strip()
    return f"{work.name}: {text}"


def _say(news: News) -> None:
    """An outage is a warning, its end is none."""
    seconds = round(news.seconds, 1)
    if news.cause is None:
        log.info(news.message, work=news.work, seconds=seconds)
    else:
        log.warning(
            news.message,
            work=news.work,
            sqlstate=news.cause.sqlstate,
            text=news.cause.text,
            last_success_seconds_ago=seconds,
        )

"""Turns what stands still into health and into lines of the log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import structlog

from webhook_grpc.domain.progress import News, Progress, Service, Work
from webhook_grpc.engine.ownership import Ownership

from .stillness import Stillness

log = structlog.get_logger(__name__)

_INTERVAL_SECONDS_MAX: Final = 0.5
_LOOKS_PER_STALL: Final = 4


class Monitor:
    """Looks at the progress of every loop, and reports what has changed.

    A service does not serve while the lease is not renewed, or while something that it needs stands still.
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
        """Looks every so often until the task is cancelled."""
        while True:
            await asyncio.sleep(min(_INTERVAL_SECONDS_MAX, self._progress.stalled_seconds / _LOOKS_PER_STALL))
            await self.look(time.monotonic())

    async def look(self, now: float) -> None:
        """Looks once."""
        self._stillness.look(now)
        _say(self._progress.advance(now))
        for service in Service:
            why = self._why_not(service)
            if self._serving[service] is bool(why):
                await self._change(service, why)

    def _why_not(self, service: Service) -> list[str]:
        """Returns what keeps a service from serving; nothing if it serves."""
        stalled = self._progress.stalled(service)
        if not stalled and not self._ownership.shards.may_send:
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
    cause = work.cause_now  # None after a pause of this process (SIGSTOP): then no renewal has failed, it is only late
    text = "not renewed in time" if cause is None else f"{cause.sqlstate or ''} {cause.text}".strip()
    return f"{work.name}: {text}"


def _say(said: Iterable[News]) -> None:
    """Logs one line for all work that fails for the same cause, or fails no longer. A failure is a warning."""
    alike: dict[tuple[str, str], list[News]] = {}
    for news in said:
        alike.setdefault((news.message, news.cause.line if news.cause else ""), []).append(news)
    for group in alike.values():
        work, seconds = ", ".join(news.work for news in group), round(max(news.seconds for news in group), 1)
        message, cause = group[0].message, group[0].cause
        if cause is None:
            log.info(message, work=work, seconds=seconds)
        else:
            log.warning(message, work=work, sqlstate=cause.sqlstate, text=cause.text, last_success_seconds_ago=seconds)

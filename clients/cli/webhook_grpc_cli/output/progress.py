"""Progress on stderr: a bar on a terminal, otherwise a line each ten seconds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, Final, Self

from .look import Look
from .printing import console_of

LINE_SECONDS: Final = 10.0
_BAR_CELLS: Final = (4, 40)  # at least, at most


class Progress(AbstractContextManager["Progress"]):
    """How far something is. `total` is None where nobody knows it."""

    def __init__(self, look: Look, say: Callable[[str], None], total: int | None, *, is_quiet: bool) -> None:
        self._look = look
        self._say = say
        self._total = total
        self._started_at = self._said_at = time.monotonic()
        self._bar = _bar(look) if look.is_terminal and not is_quiet else None
        self._task = self._bar.add_task("", total=total, tail="") if self._bar else None

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, done: int, words: str, *after: str, total: int | None = None) -> None:
        """Shows `words`, the bar, and what stands behind it; not more often than anybody can read it.

        `total` is a larger one than was thought.
        """
        self._total = total or self._total
        tail = "  ".join(filter(None, [self._share(done), *after]))
        if self._bar:
            words, tail = self._look.mark(words), self._look.mark(tail)
            for column in self._bar.columns[1:-1]:
                room = self._look.width - len(words) - len(tail) - 3
                column.bar_width = max(_BAR_CELLS[0], min(_BAR_CELLS[1], room))
            self._bar.update(self._task, completed=done, total=self._total, description=words, tail=tail)
        elif time.monotonic() - self._said_at >= LINE_SECONDS:
            self._said_at = time.monotonic()
            self._say(f"{words}   {tail}".rstrip())

    def rate_and_left(self, done: int) -> tuple[str, str]:
        """Returns how many a second were done so far, and how long the rest takes at that rate: `0:00:05 left`."""
        rate = done / max(time.monotonic() - self._started_at, 0.001)
        left = math.ceil((self._total - done) / rate) if self._total and rate else 0
        return f"{rate:,.0f}/s", f"{timedelta(seconds=left)} left" if left > 0 else ""

    def _share(self, done: int) -> str:
        return f"{100 * min(done, self._total) / self._total:.0f} %" if self._total else ""


def _bar(look: Look) -> Any:
    from rich import progress

    columns: list[progress.ProgressColumn] = [progress.TextColumn("{task.description}", markup=False)]
    if look.has_unicode:
        columns.append(progress.BarColumn())
    columns.append(progress.TextColumn("{task.fields[tail]}", markup=False))
    return progress.Progress(*columns, console=console_of(look, is_stderr=True), transient=True)

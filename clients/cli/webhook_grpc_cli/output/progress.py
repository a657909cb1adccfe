"""Progress on stderr: a bar on a terminal, otherwise a line each ten seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final, Self

from .look import Look
from .printing import console_of

LINE_SECONDS: Final = 10.0


class Progress(AbstractContextManager["Progress"]):
    """How far something is. `total` is None where nobody knows it."""

    def __init__(self, look: Look, say: Callable[[str], None], total: int | None, *, is_quiet: bool) -> None:
        self._look = look
        self._say = say
        self._total = total
        self._said_at = time.monotonic()
        self._bar = _bar(look) if look.is_terminal and not is_quiet else None
        self._task = self._bar.add_task("", total=total) if self._bar else None

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, done: int, words: str) -> None:
        """Shows how much is done; not more often than anybody can read it."""
        if self._bar:
            self._bar.update(self._task, completed=done, description=self._look.mark(words))
        elif time.monotonic() - self._said_at >= LINE_SECONDS:
            self._said_at = time.monotonic()
            self._say(f"{words} · {done:,}" + (f" of {self._total:,}" if self._total else ""))


def _bar(look: Look) -> Any:
    from rich import progress

    columns: list[progress.ProgressColumn] = [progress.TextColumn("{task.description}"), progress.MofNCompleteColumn()]
    if look.has_unicode:
        columns.append(progress.BarColumn())
    columns += [progress.TaskProgressColumn(), progress.TimeRemainingColumn()]
    return progress.Progress(*columns, console=console_of(look, is_stderr=True), transient=True)

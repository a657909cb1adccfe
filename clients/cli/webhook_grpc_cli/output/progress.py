"""Progress on stderr: a bar on a terminal, otherwise a line each ten seconds."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, Self

from .printing import console_of

if TYPE_CHECKING:
    from webhook_grpc_cli.session import Session

LINE_SECONDS: Final = 10.0


class Progress(AbstractContextManager["Progress"]):
    """How far something is. `total` is None where nobody knows it."""

    def __init__(self, session: Session, total: int | None) -> None:
        self._session = session
        self._total = total
        self._said_at = time.monotonic()
        self._bar = _bar(session) if session.talk.is_terminal and not session.is_quiet else None
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
            self._bar.update(self._task, completed=done, description=self._session.talk.mark(words))
        elif time.monotonic() - self._said_at >= LINE_SECONDS:
            self._said_at = time.monotonic()
            self._session.say(f"{words} · {done:,}" + (f" of {self._total:,}" if self._total else ""))


def _bar(session: Session) -> Any:
    from rich import progress

    columns: list[progress.ProgressColumn] = [progress.TextColumn("{task.description}"), progress.MofNCompleteColumn()]
    if session.talk.has_unicode:
        columns.append(progress.BarColumn())
    columns += [progress.TaskProgressColumn(), progress.TimeRemainingColumn()]
    return progress.Progress(*columns, console=console_of(session.talk, is_stderr=True), transient=True)

"""Starts the embedded Postgres again when it has ended while the service runs: nobody else would.

It is killed with all of its connections where memory runs out, and ends by itself where its disk is full.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Final, Protocol, Self

import structlog

from webhook_grpc.store.schema.embedded import EmbeddedPostgresError

log = structlog.get_logger(__name__)

_LOOK_SECONDS: Final = 1.0
_LOOKS_MIN: Final = 2  # that find nothing: between two of its own starts somebody else may be starting it
_TRY_SECONDS_MAX: Final = 30.0  # between two starts that fail


class Embedded(Protocol):
    """A Postgres that this process has started."""

    def has_ended(self) -> bool:
        """Returns whether it does not run any more."""
        ...

    def start_again(self) -> None:
        """Starts it again. Raises EmbeddedPostgresError."""
        ...


class EmbeddedWatch:
    """A thread that looks after Postgres until the block ends."""

    def __init__(self, embedded: Embedded, look_seconds: float = _LOOK_SECONDS) -> None:
        self._embedded = embedded
        self._look_seconds = look_seconds
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="embedded Postgres", daemon=True)

    def __enter__(self) -> Self:
        """Begins to look."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Waits for a start that is under way: who ends Postgres next must find it."""
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        misses = 0
        while not self._is_over.wait(self._look_seconds):
            misses = misses + 1 if self._embedded.has_ended() else 0
            if misses >= _LOOKS_MIN:
                self._start_again()
                misses = 0

    def _start_again(self) -> None:
        """Tries until it runs, ever more rarely; says a reason that is not that of the try before."""
        began_at, pause_seconds, said = time.monotonic(), self._look_seconds, ""
        log.warning("the embedded Postgres has ended; it is started again")
        while True:
            try:
                self._embedded.start_again()
            except EmbeddedPostgresError as error:
                if str(error) != said:
                    log.error("the embedded Postgres does not start", problem=str(error))  # noqa: TRY400 - a sentence
                said = str(error)
            else:
                log.info("the embedded Postgres runs again", seconds=round(time.monotonic() - began_at, 1))
                return
            if self._is_over.wait(pause_seconds):
                return
            pause_seconds = min(pause_seconds * 2, _TRY_SECONDS_MAX)

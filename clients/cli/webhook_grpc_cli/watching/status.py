"""What is said beside the lines: the state of the stream in the terminal's last line, and each interruption."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TextIO

from webhook.v1 import service_pb2

from webhook_grpc_cli.output.look import Look, span_text, width_of

from .observing import ObservedStream

_RATE_SECONDS: Final = 5.0
_TICK_SECONDS: Final = 1.0
_ERASE: Final = "\r\x1b[K"


class Status:
    """The state of a watch. The iterating thread notes what happens; a thread of its own writes the last line."""

    def __init__(
        self,
        look: Look,
        address: str,
        filters: str,
        cursor_file: Path | None,
        *,
        is_quiet: bool,
        goes_on_after_gap: bool = False,
    ) -> None:
        """`goes_on_after_gap`: where changes can't be had any more, a snapshot stands for them."""
        self._look = look
        self._address = address
        self._filters = filters
        self._cursor_file = cursor_file
        self._is_quiet = is_quiet
        self._goes_on_after_gap = goes_on_after_gap
        self._has_line = look.is_terminal and not is_quiet
        self._counts: deque[tuple[float, int]] = deque()
        self._behind = 0.0
        self._lost_at: float | None = None
        self._state = "connecting"
        self._was_live = False
        self._writing = threading.RLock()
        self._ended = threading.Event()

    # --- what happens on the stream ----------------------------------------------------------------------------------

    def received(self, message: service_pb2.WatchDeliveriesResponse) -> None:
        """Notes a message, and says so if it is the first after an interruption."""
        now = time.monotonic()
        self._counts.append((now, len(message.deliveries)))
        if message.deliveries:
            newest = message.deliveries[-1].update_time.ToDatetime(UTC)
            self._behind = (message.server_time.ToDatetime(UTC) - newest).total_seconds()
        if self._lost_at is not None:
            after = span_text(now - self._lost_at)
            self.say(
                f"── back after {after}, nothing missed ──" if self._was_live else f"── connected after {after} ──"
            )
            self._lost_at = None
        if message.snapshot_complete:
            self.say("── that is what is pending; changes from here on ──")
        self._state = "live"
        self._was_live = True

    def finished(self, message: service_pb2.WatchDeliveriesResponse) -> None:
        """Nothing is said of it: the last line shows when the cursor was saved."""

    def lost(self, gap: str) -> None:
        """Says that the stream broke off, once until it is back. A gap that ends the watch is said by its error."""
        if gap and self._goes_on_after_gap:
            self.say(f"── {gap}: what is pending now follows ──")
            self._lost_at = None
        elif not gap and self._lost_at is None:
            self._lost_at = time.monotonic()
            at = f"{self._look.clock(datetime.now(UTC))}".rpartition(".")[0]
            what = "connection lost, resuming" if self._was_live else f"{self._address} does not answer, trying again"
            self.say(f"── {at} {what} … ──")
        self._state = "resuming" if self._was_live else "connecting"

    # --- what is written ---------------------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Writes a line to stderr."""
        if not self._is_quiet:
            self.write(sys.stderr, text)

    def write(self, stream: TextIO, text: str) -> None:
        """Writes a line in front of the last one, and flushes it."""
        with self._writing:
            self._erase()
            shown = self._look.mark(text) if stream is sys.stderr else text
            stream.write(f"{shown}\n")
            stream.flush()

    def _erase(self) -> None:
        if self._has_line:
            sys.stderr.write(_ERASE)
            sys.stderr.flush()

    def text(self, now: float) -> str:
        """Returns the last line. `now` is in monotonic seconds."""
        while self._counts and now - self._counts[0][0] > _RATE_SECONDS:
            self._counts.popleft()
        rate = sum(count for _, count in self._counts) / _RATE_SECONDS
        words = [f"● {self._state}", f"{rate:,.0f}/s", f"{self._behind:.1f} s behind", self._filters, self._saved()]
        return self._look.mark(" · ".join(filter(None, words)))[: self._look.width - 1]

    def _saved(self) -> str:
        try:
            at = self._cursor_file.stat().st_mtime if self._cursor_file else 0.0
        except OSError:
            return "cursor not saved yet"
        return f"cursor saved {self._look.clock(datetime.fromtimestamp(at, UTC)).rpartition('.')[0]}" if at else ""

    # --- the thread --------------------------------------------------------------------------------------------------

    def keep(self, stream: ObservedStream) -> threading.Thread:
        """Starts the thread that writes the last line and ends calls that have fallen silent. `end` ends it."""
        thread = threading.Thread(target=self._keep, args=(stream,), name="watch-status", daemon=True)
        thread.start()
        return thread

    def _keep(self, stream: ObservedStream) -> None:
        while not self._ended.wait(_TICK_SECONDS):
            now = time.monotonic()
            stream.end_if_silent(now)
            if self._has_line:
                with self._writing:
                    self._look = replace(self._look, width=width_of(sys.stderr, os.environ))
                    sys.stderr.write(_ERASE + self.text(now))
                    sys.stderr.flush()

    def end(self) -> None:
        """Ends the thread, and takes the last line away."""
        self._ended.set()
        with self._writing:
            self._erase()
            self._has_line = False

"""Where log lines wait for stderr: a bounded queue and a thread of its own.

A log line never changes an answer. Whoever logs only leaves a record here: nobody waits for a pipe that is not read,
and no failure of writing (the reader is away, the disk full, the descriptor closed) reaches a call or a loop of the
service. What could not be written is counted, and the count is written once lines can be written again.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, cast

Record = dict[str, Any]

WRITE_BYTES_MAX: Final = select.PIPE_BUF  # so many are written whole (POSIX): lines of two processes do not mix
FLUSH_SECONDS_MAX: Final = 2.0  # how long the end of the process waits for a pipe that nobody reads
BATCH_MAX: Final = 256  # lines rendered at once
_LINE_CHARACTERS: Final = 1000  # a record with more counts as several lines: so the bound is one of memory as well
_VALUE_CHARACTERS: Final = 100  # as so many a value counts that is no text: about the memory that it takes
_GATHER_SECONDS: Final = 0.05  # a batch each, not a line each: waking the thread costs more than the line


class LogSink:
    """Writes records to a descriptor, in order, in a thread that is started here and ends with close()."""

    def __init__(self, descriptor: int, render: Callable[[Record], bytes], lines_waiting_max: int) -> None:
        self._descriptor = descriptor
        self._render = render
        self._lines_waiting_max = lines_waiting_max
        self._waiting = deque[tuple[Record, int]]()  # with as how many lines it counts
        self._waiting_lines = 0
        # Reentrant: a collection of garbage inside put() may log, on the same thread
        self._changed = threading.Condition(threading.RLock())
        self._closing = False
        self._is_writing = False
        self._hurry = threading.Event()  # somebody waits until all is written
        self._dropped = 0  # since the last line that says so
        self._dropped_total = 0
        self._cause = ""
        self._is_torn = False  # whether what was written last ends within a line
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)  # may hang in a write for ever
        self._thread.start()

    @property
    def dropped(self) -> int:
        """How many lines were dropped since a line said so."""
        return self._dropped

    @property
    def dropped_total(self) -> int:
        """How many lines were dropped since the start."""
        return self._dropped_total

    def put(self, record: Record) -> None:
        """Leaves a record to be written, or counts it as dropped if too many wait. Never waits itself, never fails."""
        with self._changed:
            if self._waiting_lines >= self._lines_waiting_max:
                self._count_dropped(1, f"{self._lines_waiting_max} lines were waiting to be written")
                return
            # To weigh a record takes longer than to leave it here: only where many wait, or with an exception.
            is_light = len(self._waiting) < BATCH_MAX and "exception" not in record
            lines = 1 if is_light else _line_count(record)
            self._waiting.append((record, lines))
            self._waiting_lines += lines
            if len(self._waiting) == 1:
                self._changed.notify_all()

    def unusable(self, error: Exception) -> None:
        """Counts a record that could not be prepared as dropped."""
        with self._changed:
            self._count_dropped(1, f"a line could not be prepared: {type(error).__name__}")

    def flush(self, seconds: float = FLUSH_SECONDS_MAX) -> None:
        """Returns when what was left here before is written or counted as dropped, or after so many seconds."""
        self._hurry.set()
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._is_writing, seconds)
        self._hurry.clear()

    def close(self, seconds: float = FLUSH_SECONDS_MAX) -> None:
        """Ends the thread when all is written, or returns after so many seconds without. Waits only the first time."""
        self._hurry.set()
        with self._changed:
            is_first, self._closing = not self._closing, True
            self._changed.notify_all()
        if is_first:
            self._thread.join(seconds)

    def _count_dropped(self, count: int, cause: str) -> None:
        self._dropped += count
        self._dropped_total += count
        self._cause = cause

    def _run(self) -> None:
        while batch := self._take():
            self._write(list(self._lines(batch)))
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()
            if len(self._waiting) < BATCH_MAX:
                self._hurry.wait(_GATHER_SECONDS)

    def _take(self) -> list[Record]:
        """Waits for records and returns the first of them; none when the sink is being closed and nothing waits."""
        with self._changed:
            while not self._waiting and not self._closing:
                self._changed.wait()
            batch = [self._waiting.popleft() for _ in range(min(BATCH_MAX, len(self._waiting)))]
            self._waiting_lines -= sum(lines for _, lines in batch)
            self._is_writing = bool(batch)
            return [record for record, _ in batch]

    def _lines(self, batch: list[Record]) -> Iterator[bytes]:
        for record in batch:
            try:
                yield self._render(record)
            except Exception as error:  # noqa: BLE001 - whatever a value of the record does, the next line is written
                self.unusable(error)

    def _write(self, lines: list[bytes]) -> None:
        """Writes the lines, or counts those that could not be."""
        written = 0
        try:
            self._write_count_of_dropped()
            while written < len(lines):
                end = _end_of_chunk(lines, written)
                self._write_whole(b"".join(lines[written:end]))
                written = end
        except OSError as error:
            with self._changed:
                self._count_dropped(len(lines) - written, f"could not be written: {error.strerror}")

    def _write_count_of_dropped(self) -> None:
        count = self._dropped
        if count:
            self._write_whole(self._render(dropped_record(count, self._cause)))
            with self._changed:
                self._dropped -= count

    def _write_whole(self, data: bytes) -> None:
        if self._is_torn:
            data = b"\n" + data
        while data:
            try:
                written = os.write(self._descriptor, data)
            except BlockingIOError:  # whoever gave us the descriptor made it non-blocking
                poll = select.poll()
                poll.register(self._descriptor, select.POLLOUT)
                poll.poll()
                continue
            self._is_torn = data[written - 1 : written] != b"\n"
            data = data[written:]


def dropped_record(count: int, cause: str) -> Record:
    """Returns the line that says how many lines were dropped, and why the latest of them was."""
    timestamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"event": "log lines dropped", "level": "warning", "timestamp": timestamp, "count": count, "cause": cause}


def _line_count(record: Record) -> int:
    """Returns as how many waiting lines a record counts."""
    return 1 + _characters(record) // _LINE_CHARACTERS


def _characters(value: object) -> int:
    """Returns the characters of all texts in a record, with a share for each other value and each container."""
    match value:
        case str() | bytes():
            return len(value)
        case dict():
            values = cast("dict[str, object]", value).values()
            return _VALUE_CHARACTERS + sum(map(_characters, values))
        case list() | tuple():
            return _VALUE_CHARACTERS + sum(map(_characters, cast("Sequence[object]", value)))
        case _:
            return _VALUE_CHARACTERS


def _end_of_chunk(lines: list[bytes], start: int) -> int:
    """Returns the end of what is written at once: WRITE_BYTES_MAX, or a single line that is longer."""
    end, size = start + 1, len(lines[start])
    while end < len(lines) and size + len(lines[end]) <= WRITE_BYTES_MAX:
        size += len(lines[end])
        end += 1
    return end

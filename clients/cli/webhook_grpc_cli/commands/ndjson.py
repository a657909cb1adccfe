"""`events publish --ndjson`: one event a line, in batches; each is judged by itself, none is published twice."""

from __future__ import annotations

import codecs
import json
import os
import secrets
import stat
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, ExitStack, nullcontext
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Final, cast

import click

from webhook_grpc_cli.failures import INTERRUPTED, PARTLY, UsageFailure
from webhook_grpc_cli.output.escaping import escaped
from webhook_grpc_cli.output.kind import Kind
from webhook_grpc_cli.reading import members
from webhook_grpc_cli.signals import Interruption
from webhook_grpc_cli.values import json_text

if TYPE_CHECKING:
    from webhook_grpc_cli.output.progress import Progress
    from webhook_grpc_cli.session import Session

LINE_BYTES_MAX: Final = 2_000_000  # an event's data has 256 KiB at most, which JSON may write six times as long
_SHOWN_REFUSALS_MAX: Final = 20
_MEMBERS: Final[dict[str, tuple[type, str]]] = {
    "event_type": (str, "text"),
    "data_json": (str, "text that is JSON"),
    "customer_id": (int, "a whole number"),
    "request_id": (str, "text"),
    "occur_time": (str, "a time such as 2026-01-31T12:00:00Z"),
    "attributes": (dict, "an object whose values are texts"),
}
_KNOWN: Final = frozenset({"data", *_MEMBERS})
_MARK: Final = codecs.BOM_UTF8.decode()  # what some programs write before the first line
_RUN: Final = Kind("run", (), more=dict.fromkeys(("published", "duplicates", "refused", "run"), ""))
_WAITING_BYTES_MAX: Final = 32_000_000  # half of what a publisher takes before whoever publishes has to wait
_Waiting = tuple[int, int, "Future[Any]"]  # the number of the line, its bytes, its result


def event_of(line: str) -> tuple[str, str, dict[str, Any]]:
    """Returns the type, the data as its source text, and the other fields of one line. Raises ValueError."""
    found = dict(members(line))
    if unknown := found.keys() - _KNOWN:
        raise ValueError(f"there is no field {', '.join(sorted(unknown))}; there are {', '.join(sorted(_KNOWN))}")
    if "data" in found and "data_json" in found:
        raise ValueError("either data or data_json, not both")
    fields = {name: _checked(name, json.loads(text)) for name, text in found.items() if name != "data"}
    data = found["data"] if "data" in found else fields.pop("data_json", "{}")
    if "event_type" not in fields:
        raise ValueError("event_type is missing")
    if "occur_time" in fields:
        fields["occur_time"] = _time(fields["occur_time"])
    return fields.pop("event_type"), data, fields


def _checked(name: str, value: Any) -> Any:
    """Returns the value of a member if it is of the right kind. Raises ValueError."""
    kind, wanted = _MEMBERS[name]
    if not _is_right(value, kind):
        raise ValueError(f"{name} must be {wanted}")
    return value


def _is_right(value: object, kind: type) -> bool:
    if isinstance(value, dict):
        return kind is dict and all(isinstance(text, str) for text in cast("dict[str, object]", value).values())
    return isinstance(value, kind) and not isinstance(value, bool)


def _time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"occur_time must be {_MEMBERS['occur_time'][1]}") from None
    if at.tzinfo is None:
        raise ValueError("occur_time has no time zone")
    return at


class Ndjson:
    """One run over a file."""

    def __init__(self, session: Session, path: str, run: str | None, errors: str | None) -> None:
        self._session = session
        self._path = path
        self._run = run or secrets.token_hex(3)
        self._errors_path = errors
        self._errors: IO[str] | None = None
        self._published = self._duplicates = self._refused = 0
        self._waiting_bytes = 0
        self._has_begun = False
        self._interruption = Interruption()
        self._progress: Progress | None = None
        self._total: int | None = None

    def publish(self, batch: int, in_flight: int) -> None:
        """Publishes all lines. Ctrl-C: what is on its way is finished, and the way to go on is said; twice: ends.

        SIGTERM and SIGHUP are heard as Ctrl-C.
        """
        interrupted = False
        try:
            with ExitStack() as stack:
                interrupted = self._publish(stack, batch, in_flight)
        except Exception:
            if self._has_begun:
                self._say_how_to_go_on()
            raise
        self._end(interrupted=interrupted)

    def _publish(self, stack: ExitStack, batch: int, in_flight: int) -> bool:
        from webhook_grpc_client import PublisherLimits

        most = batch * in_flight * 2
        limits = PublisherLimits(
            max_waiting=2 * most + 1,  # no more ever wait, so nobody waits for room (see _is_full), but for the oldest
            batches_at_once=in_flight,
            batch_events=batch,
            patience_seconds=self._session.timeout_seconds,
        )
        self._session.printer.check(_RUN)
        self._session.confirm_change(f"publish the lines of {self._path}")
        lines = stack.enter_context(self._opened())
        self._errors = stack.enter_context(self._errors_file(lines))
        self._total = self._counted()
        self._progress = stack.enter_context(self._session.progress(self._total))
        publisher = stack.enter_context(self._session.client.publisher(limits))
        self._has_begun = True
        with self._interruption.heard():
            return self.publish_lines(publisher, lines, 2 * most)

    def publish_lines(self, publisher: Any, lines: BinaryIO, most: int) -> bool:
        """Publishes lines, of which at most so many wait for their results. Returns whether it was interrupted."""
        waiting: deque[_Waiting] = deque()
        try:
            for number, line in enumerate(self._read(lines), 1):
                self._take(publisher, waiting, number, line)
                while self._is_full(waiting, most) or (waiting and waiting[0][2].done()):
                    self._settle_first(waiting)
            self._finish(waiting)
        except KeyboardInterrupt:
            self._finish_interrupted(waiting)
            return True
        return False

    def _is_full(self, waiting: deque[_Waiting], most: int) -> bool:
        return len(waiting) > most or self._waiting_bytes > _WAITING_BYTES_MAX

    def _read(self, lines: BinaryIO) -> Iterator[bytes]:
        source = _bounded(lines)
        while True:
            with self._interruption.breaks_off():
                line = next(source, None)
            if line is None:
                return
            yield line

    def _finish(self, waiting: deque[_Waiting]) -> None:
        """Settles what is on its way."""
        while waiting:
            self._settle_first(waiting)

    def _finish_interrupted(self, waiting: deque[_Waiting]) -> None:
        """Settles what is on its way, and reads no more. A second interruption ends the program at once."""
        try:
            self._interruption.forget()
            self._session.say("finishing what is on its way; Ctrl-C once more ends at once")
            self._finish(waiting)
        except KeyboardInterrupt:  # closing the publisher would wait for what nobody wants to wait for
            self._say_how_to_go_on()
            sys.stderr.flush()
            os._exit(INTERRUPTED)

    def _say_how_to_go_on(self) -> None:
        self._session.say(f"to go on: the same command with --run {self._run}, which publishes nothing twice")

    def _counted(self) -> int | None:
        """Returns how many lines there are, where that is for anybody to see and the file can be read twice."""
        if self._path == "-" or not self._session.talk.is_terminal:
            return None
        if not Path(self._path).is_file():  # a pipe: nothing may be read ahead, and to open it again may block
            return None
        count, last = 0, b"\n"
        with Path(self._path).open("rb") as file:
            for part in iter(partial(file.read, LINE_BYTES_MAX), b""):
                count, last = count + part.count(b"\n"), part[-1:]
        return count + (last != b"\n")

    def _take(self, publisher: Any, waiting: deque[_Waiting], number: int, line: bytes) -> None:
        try:
            text = _text(number, line)
            if not text:
                return
            event_type, data, fields = event_of(text)
            fields.setdefault("request_id", f"cli-{self._run}-{number}")
            fields.setdefault("customer_id", self._session.place.customer_id)
            waiting.append((number, len(line), publisher.publish(event_type, data, **fields)))
            self._waiting_bytes += len(line)
        except RecursionError:  # a thousand levels
            self._refuse(number, "LINE_INVALID", "is nested too deeply", ())
        except (ValueError, TypeError) as error:
            self._refuse(number, "LINE_INVALID", str(error), ())

    def _settle_first(self, waiting: deque[_Waiting]) -> None:
        """Waits for the oldest. What an interruption comes before stays among those that wait."""
        with self._interruption.breaks_off():
            wait([waiting[0][2]])
        number, size_bytes, future = waiting.popleft()
        self._waiting_bytes -= size_bytes
        self._settle(number, future)

    def _settle(self, number: int, future: Future[Any]) -> None:
        from webhook_grpc_client import Refused

        try:
            answer = future.result()
        except Refused as error:
            hint = self._session.meant.hint(error.reason, error.message)
            message = f"{error.message}.{hint}" if hint else error.message
            self._refuse(number, error.reason, message, [(field, text + hint) for field, text in error.violations])
        else:
            self._published += not answer.duplicate
            self._duplicates += answer.duplicate
        self._show(number)

    def _show(self, done: int) -> None:
        if self._progress is not None:
            words = f"run {self._run} · {done:,}" + (f" of {self._total:,}" if self._total else "")
            self._progress.show(done, words, *self._progress.rate_and_left(done), f"{self._refused:,} refused")

    def _refuse(self, number: int, reason: str, message: str, violations: Any) -> None:
        self._refused += 1
        where = "; ".join(f"{field}: {text}" for field, text in violations) or message
        if self._refused <= _SHOWN_REFUSALS_MAX:
            self._session.say(escaped(f"line {number}: {reason} {where}"))
        if self._refused == _SHOWN_REFUSALS_MAX:
            self._session.say("… further refusals are counted, and written to --errors")
        if self._errors is not None:
            violated = [{"field": field, "description": text} for field, text in violations]
            line = {"line": number, "reason": reason, "message": message, "field_violations": violated}
            self._errors.write(json_text(line) + "\n")

    def _end(self, *, interrupted: bool) -> None:
        counts = {"published": self._published, "duplicates": self._duplicates, "refused": self._refused}
        if self._session.form in {"json", "id"} or self._session.fields:
            self._session.printer.one(_RUN, {**counts, "run": self._run})
        else:
            words = " · ".join(f"{name} {count:,}" for name, count in counts.items())
            self._session.printer.sentence(f"{words}   run {self._run}")
        if interrupted:
            self._say_how_to_go_on()
            raise click.exceptions.Exit(INTERRUPTED)
        if self._refused:
            raise click.exceptions.Exit(PARTLY)

    def _opened(self) -> AbstractContextManager[BinaryIO]:
        try:
            return nullcontext(sys.stdin.buffer) if self._path == "-" else Path(self._path).open("rb")
        except OSError as error:
            raise UsageFailure(f"{self._path}: {error.strerror}") from error

    def _errors_file(self, lines: BinaryIO) -> AbstractContextManager[IO[str] | None]:
        try:
            if self._errors_path and _is_same(self._errors_path, lines):
                raise UsageFailure(f"--errors: {self._errors_path} is what is read")
            return Path(self._errors_path).open("w", encoding="utf-8") if self._errors_path else nullcontext()
        except OSError as error:
            raise UsageFailure(f"{self._errors_path}: {error.strerror}") from error


def _is_same(path: str, lines: BinaryIO) -> bool:
    """Returns whether a path is that of the file that is read."""
    try:
        found, read = Path(path).stat(), os.fstat(lines.fileno())
    except (OSError, ValueError):  # there is none yet, or what is read is no file
        return False
    return stat.S_ISREG(found.st_mode) and os.path.samestat(found, read)


def _bounded(lines: BinaryIO) -> Iterator[bytes]:
    """Yields each line; of one that is too long only so much that this is seen."""
    while line := lines.readline(LINE_BYTES_MAX + 1):
        yield line
        while len(line) > LINE_BYTES_MAX and not line.endswith(b"\n"):
            line = lines.readline(LINE_BYTES_MAX + 1)


def _text(number: int, line: bytes) -> str:
    """Returns a line as text without blanks around it. Raises ValueError."""
    if len(line) > LINE_BYTES_MAX:
        raise ValueError(f"has more than {LINE_BYTES_MAX:,} bytes")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("is no text in UTF-8") from None
    return (text.removeprefix(_MARK) if number == 1 else text).strip()

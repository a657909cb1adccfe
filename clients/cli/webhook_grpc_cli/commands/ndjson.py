"""`events publish --ndjson`: one event a line, in batches; each is judged by itself, none is published twice."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import click

from webhook_grpc_cli.failures import INTERRUPTED, PARTLY, UsageFailure
from webhook_grpc_cli.output.escaping import escaped
from webhook_grpc_cli.reading import members
from webhook_grpc_cli.values import json_text

if TYPE_CHECKING:
    from webhook_grpc_cli.output.progress import Progress
    from webhook_grpc_cli.session import Session

LINE_CHARACTERS_MAX: Final = 2_000_000  # an event's data has 256 KiB at most, which JSON may write six times as long
_SHOWN_REFUSALS_MAX: Final = 20
_KNOWN: Final = {"event_type", "data", "data_json", "customer_id", "request_id", "occur_time", "attributes"}
_Waiting = tuple[int, "Future[Any]"]


def event_of(line: str) -> tuple[str, str, dict[str, Any]]:
    """Returns the type, the data as its source text, and the other fields of one line. Raises ValueError."""
    found = dict(members(line))
    if unknown := found.keys() - _KNOWN:
        raise ValueError(f"there is no field {', '.join(sorted(unknown))}; there are {', '.join(sorted(_KNOWN))}")
    if "data" in found and "data_json" in found:
        raise ValueError("either data or data_json, not both")
    fields = {name: json.loads(text) for name, text in found.items() if name != "data"}
    data = found["data"] if "data" in found else fields.pop("data_json", "{}")
    event_type = fields.pop("event_type", None)
    if not isinstance(event_type, str) or not isinstance(data, str):
        raise ValueError("event_type and data_json are text, and event_type has to be there")  # noqa: TRY004 - the line is wrong
    if "occur_time" in fields:
        from datetime import datetime

        fields["occur_time"] = datetime.fromisoformat(fields["occur_time"])
    return event_type, data, fields


class Ndjson:
    """One run over a file."""

    def __init__(self, session: Session, path: str, run: str | None, errors: str | None) -> None:
        self._session = session
        self._path = path
        self._run = run or secrets.token_hex(3)
        self._errors_path = errors
        self._errors: IO[str] | None = None
        self._published = self._duplicates = self._refused = 0
        self._progress: Progress | None = None

    def publish(self, batch: int, in_flight: int) -> None:
        """Publishes all lines. Ctrl-C: what is on its way is finished, and the way to go on is said; twice: ends."""
        interrupted = False
        try:
            with ExitStack() as stack:
                interrupted = self._publish(stack, batch, in_flight)
        except Exception:
            self._say_how_to_go_on()
            raise
        self._end(interrupted=interrupted)

    def _publish(self, stack: ExitStack, batch: int, in_flight: int) -> bool:
        from webhook_grpc_client import PublisherLimits

        most = batch * in_flight * 2
        limits = PublisherLimits(
            max_waiting=most,
            batches_at_once=in_flight,
            batch_events=batch,
            patience_seconds=self._session.timeout_seconds,
        )
        lines = stack.enter_context(self._opened())
        self._errors = stack.enter_context(self._errors_file())
        self._progress = stack.enter_context(self._session.progress(self._total()))
        publisher = stack.enter_context(self._session.client.publisher(limits))
        waiting: deque[_Waiting] = deque()
        try:
            for number, line in enumerate(_bounded(lines), 1):
                self._take(publisher, waiting, number, line)
                while len(waiting) > 2 * most or (waiting and waiting[0][1].done()):
                    self._settle(*waiting.popleft())
        except KeyboardInterrupt:
            self._finish(publisher, waiting)
            return True
        self._finish(publisher, waiting)
        return False

    def _finish(self, publisher: Any, waiting: deque[_Waiting]) -> None:
        """Settles what is on its way."""
        try:
            publisher.flush()
            while waiting:
                self._settle(*waiting.popleft())
        except KeyboardInterrupt:  # the second: closing the publisher would wait for what nobody wants to wait for
            self._say_how_to_go_on()
            sys.stderr.flush()
            os._exit(INTERRUPTED)

    def _say_how_to_go_on(self) -> None:
        self._session.say(f"to go on: the same command with --run {self._run}, which publishes nothing twice")

    def _total(self) -> int | None:
        if self._path == "-" or not self._session.talk.is_terminal:
            return None
        with Path(self._path).open("rb") as file:
            return sum(1 for _ in file)

    def _take(self, publisher: Any, waiting: deque[_Waiting], number: int, line: str) -> None:
        if not line.strip():
            return
        try:
            event_type, data, fields = event_of(line)
            fields.setdefault("request_id", f"cli-{self._run}-{number}")
            fields.setdefault("customer_id", self._session.place.customer_id)
            waiting.append((number, publisher.publish(event_type, data, **fields)))
        except (ValueError, TypeError) as error:
            self._refuse(number, "LINE_INVALID", str(error), ())

    def _settle(self, number: int, future: Future[Any]) -> None:
        from webhook_grpc_client import Refused

        try:
            answer = future.result()
        except Refused as error:
            self._refuse(number, error.reason, error.message, error.violations)
            return
        self._published += not answer.duplicate
        self._duplicates += answer.duplicate
        if self._progress is not None:
            self._progress.show(number, f"run {self._run} · {self._refused} refused")

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
        if self._session.form == "json":
            click.echo(json_text({**counts, "run": self._run}))
        else:
            words = " · ".join(f"{name} {count:,}" for name, count in counts.items())
            self._session.printer.sentence(f"{words}   run {self._run}")
        if interrupted:
            self._say_how_to_go_on()
            raise click.exceptions.Exit(INTERRUPTED)
        if self._refused:
            raise click.exceptions.Exit(PARTLY)

    def _opened(self) -> AbstractContextManager[IO[str]]:
        try:
            return nullcontext(sys.stdin) if self._path == "-" else Path(self._path).open(encoding="utf-8")
        except OSError as error:
            raise UsageFailure(f"{self._path}: {error.strerror}") from error

    def _errors_file(self) -> AbstractContextManager[IO[str] | None]:
        try:
            return Path(self._errors_path).open("w", encoding="utf-8") if self._errors_path else nullcontext()
        except OSError as error:
            raise UsageFailure(f"{self._errors_path}: {error.strerror}") from error


def _bounded(lines: IO[str]) -> Iterator[str]:
    while line := lines.readline(LINE_CHARACTERS_MAX + 1):
        if len(line) > LINE_CHARACTERS_MAX:
            raise UsageFailure(f"a line has more than {LINE_CHARACTERS_MAX} characters")
        yield line

"""Logging: structlog, one JSON object a line, or readable on a terminal. Goes to stderr; stdout is for answers.

What happens where: the caller's thread notes the time and, of an exception, bounded plain values; the thread of the
sink renders and writes. So nothing is rendered on the event loop, and no line ever holds it up (see log_sink.py).
"""

from __future__ import annotations

import atexit
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import orjson
import structlog
from structlog.typing import EventDict, WrappedLogger

from webhook_grpc.settings import Settings

from . import tracebacks
from .log_sink import LogSink, Record

_STDERR: Final = 2
_MESSAGE_CHARACTERS_MAX: Final = 4000  # of a line of the standard library's logging


def configure_logging(settings: Settings, process: str = "") -> LogSink:
    """Sets up structlog and the standard library's logging for this process; both leave their lines in one sink.

    The sink is closed when the process exits, or before by whoever has it. `process`: what each line names this process
    where several write to one stderr.
    """
    named: Record = {"process": process} if process else {}
    is_json = settings.log_format == "json" or (settings.log_format == "auto" and not _is_terminal())
    sink = LogSink(_STDERR, _render_json if is_json else _console_renderer(), settings.log_lines_waiting_max)
    atexit.register(sink.close)
    structlog.configure(
        processors=[_Preparing(sink, named)],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.log_level.upper())),
        logger_factory=lambda *_: _SinkLogger(sink),
        cache_logger_on_first_use=True,
    )
    # psycopg_pool and grpc use the standard library; their warnings are about reconnecting, which we report ourselves
    logging.basicConfig(level=logging.ERROR, handlers=[_SinkHandler(sink, named)])
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)
    # The usual ones write to stderr themselves, and wait for it
    sys.unraisablehook = _report_unraisable
    threading.excepthook = _report_of_thread
    logging.captureWarnings(capture=True)
    logging.getLogger("py.warnings").setLevel(logging.WARNING)
    return sink


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()  # pyright: ignore[reportUnnecessaryComparison] - None if closed


class _Preparing:
    """Makes of what is logged a record that any thread may render, at any later time."""

    def __init__(self, sink: LogSink, named: Record) -> None:
        self._sink = sink
        self._named = named
        self._second = (0, "")  # Unix time, and the start of the timestamps in it: one tuple, for threads read it

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> tuple[tuple[EventDict], Record]:
        try:
            event = structlog.processors.add_log_level(logger, method, event)
            event["timestamp"] = self._timestamp(time.time_ns())
            _note_exception(event)
            event.update(self._named)
        except Exception as error:  # noqa: BLE001 - a log line never changes an answer, not even a wrong one
            self._sink.unusable(error)
            raise structlog.DropEvent from None
        return (event,), {}

    def _timestamp(self, unix_nanoseconds: int) -> str:
        second, nanoseconds = divmod(unix_nanoseconds, 1_000_000_000)
        known, text = self._second
        if second != known:
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second, text
        return f"{text}.{nanoseconds // 1000:06}Z"


def _note_exception(event: EventDict) -> None:
    """Replaces the exception by plain values.

    The exception itself must not go to another thread: its frames hold sockets and connections, which may only be let
    go on the event loop.
    """
    exc_info = event.pop("exc_info", None)
    if exc_info:
        error = exc_info if isinstance(exc_info, BaseException) else sys.exc_info()[1]
        event["exception"] = tracebacks.as_records(error)


class _SinkLogger:
    """What structlog ends in: each level leaves the record in the sink."""

    def __init__(self, sink: LogSink) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = self.exception = self.msg = sink.put


class _SinkHandler(logging.Handler):
    """Takes what asyncio and the libraries say by way of the standard library."""

    def __init__(self, sink: LogSink, named: Record) -> None:
        super().__init__()
        self._sink = sink
        self._named = named

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._sink.put(_of_library(record) | self._named)
        except Exception as error:  # noqa: BLE001 - as above
            self._sink.unusable(error)


def _of_library(record: logging.LogRecord) -> Record:
    line: Record = {
        "event": tracebacks.without_credentials(record.getMessage()[:_MESSAGE_CHARACTERS_MAX]),
        "level": record.levelname.lower(),
        "logger": record.name,
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
    }
    if record.exc_info and record.exc_info[1] is not None:
        line["exception"] = tracebacks.as_records(record.exc_info[1])
    return line


def _report_unraisable(unraisable: Any) -> None:  # sys.UnraisableHookArgs exists for type checkers only
    where = type(unraisable.object).__name__ if unraisable.object is not None else ""
    structlog.get_logger(__name__).error("exception ignored", where=where, exc_info=unraisable.exc_value)


def _report_of_thread(failed: threading.ExceptHookArgs) -> None:
    name = failed.thread.name if failed.thread is not None else ""
    structlog.get_logger(__name__).error("a thread ended with an exception", thread=name, exc_info=failed.exc_value)


def _render_json(record: Record) -> bytes:
    return orjson.dumps(record, default=repr, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)


def _console_renderer() -> Callable[[Record], bytes]:
    render = structlog.dev.ConsoleRenderer(colors=_is_terminal(), exception_formatter=structlog.dev.plain_traceback)

    def render_text(record: Record) -> bytes:
        if "exception" in record:
            record = {**record, "exception": tracebacks.as_text(record["exception"])}
        return f"{render(None, '', record)}\n".encode("utf-8", "backslashreplace")

    return render_text

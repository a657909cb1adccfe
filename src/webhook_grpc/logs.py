"""Logging: structlog, one JSON object a line, or readable on a terminal. Goes to stderr; stdout is for answers."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import Processor

from . import tracebacks
from .settings import Settings


def configure_logging(settings: Settings) -> None:
    """Sets up structlog for this process."""
    is_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    factory: Callable[..., Any]
    if is_json:
        processors += [
            structlog.processors.ExceptionRenderer(_as_records),
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ]
        factory = structlog.BytesLoggerFactory(sys.stderr.buffer)
    else:
        colors = sys.stderr.isatty()
        processors.append(structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=_write_text))
        factory = structlog.PrintLoggerFactory(sys.stderr)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.log_level.upper())),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    # psycopg_pool and grpc use the standard library; their warnings are about reconnecting, which we report ourselves
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.ERROR, handlers=[handler])
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)


_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class _Formatter(logging.Formatter):
    """What asyncio says of a task that failed is bounded as well."""

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 - the standard library's name
        return tracebacks.as_text(ei[1])


def _as_records(exc_info: _ExcInfo) -> list[dict[str, Any]]:
    return tracebacks.as_records(exc_info[1])


def _write_text(stream: TextIO, exc_info: _ExcInfo) -> None:
    stream.write("\n" + tracebacks.as_text(exc_info[1]))

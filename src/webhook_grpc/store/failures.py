"""What the errors of Postgres and of the driver mean: what was done, what may be repeated, what the log says."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Generator
from typing import Final

import psycopg
import structlog
from psycopg_pool import PoolTimeout, TooManyRequests

from ..domain.errors import Unavailable

log = structlog.get_logger(__name__)

# Losing against a concurrent statement: the same statement may be run again.
LOST_RACES: Final = frozenset({"40001", "40P01", "55P03"})
# Refused before anything was done, and by this session only: another one may take the same statement. A server that
# became a standby (25006), a plan or a statement prepared before the tables changed (0A000, 26000).
REFUSED_BY_SESSION: Final = frozenset({"25006", "0A000", "26000"})
# Postgres gave the statement up: statement_timeout, a cancellation, lock_timeout.
GIVEN_UP: Final = frozenset({"57014", "55P03"})
TOO_MANY_CONNECTIONS: Final = "53300"

_READ: Final = re.compile(r"\s*(WITH|SELECT|VALUES|TABLE)\b", re.IGNORECASE)
_WRITE: Final = re.compile(
    r"\b(INSERT|UPDATE|DELETE|MERGE|TRUNCATE|LISTEN|SET|nextval|setval|set_config|pg_notify|publish_event|\w*advisory\w*)\b",
    re.IGNORECASE,
)
_TEXT_CHARACTERS_MAX: Final = 500
# libpq gives the SQLSTATE of a refused connection to nobody, so its text has to say it (in English; others stay text).
_TOO_MANY: Final = re.compile(r"too many (clients|connections)|connection slots are reserved")


@functools.lru_cache(maxsize=1000)
def is_read(statement: str) -> bool:
    """Returns whether a statement only reads, so that running it twice is harmless. In doubt it is no read."""
    return bool(_READ.match(statement)) and not _WRITE.search(statement)


def is_harmless_to_repeat(error: psycopg.Error, statement: str, *, is_idempotent: bool) -> bool:
    """Returns whether a statement that failed so may be sent once more, on another connection.

    Either the answer says that nothing was done, or the connection ended, so that nobody knows, and it does not matter.
    """
    if error.sqlstate in REFUSED_BY_SESSION:
        return True
    return _has_ended(error) and (is_idempotent or is_read(statement))


def _has_ended(error: psycopg.Error) -> bool:
    """Returns whether the connection ended: Postgres' last words (57P01, say), or none."""
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.diag.severity_nonlocalized in {"FATAL", "PANIC"}


def timed_out(error: BaseException) -> bool:
    """Returns whether a statement was given up because it took too long, by us or by Postgres."""
    cause = error.__cause__ if isinstance(error, Unavailable) else error
    return isinstance(cause, TimeoutError | PoolTimeout) or sqlstate_of(cause) in GIVEN_UP


def sqlstate_of(error: BaseException | None) -> str | None:
    """Returns the SQLSTATE of an error of Postgres, if it has one."""
    if not isinstance(error, psycopg.Error):
        return None
    if error.sqlstate is None and _TOO_MANY.search(str(error)):
        return TOO_MANY_CONNECTIONS
    return error.sqlstate


def text_of(error: BaseException) -> str:
    """Returns Postgres' own words, for the log: no values of a statement, and nothing of a connection string."""
    if isinstance(error, psycopg.Error) and error.sqlstate is not None:
        text = error.diag.message_primary or type(error).__name__
    elif isinstance(error, psycopg.OperationalError | PoolTimeout | TooManyRequests):
        text = str(error)
    elif isinstance(error, TimeoutError):
        text = "no answer in time"
    else:  # a driver's error may repeat what it was given
        text = type(error).__name__
    return "; ".join(text.split("\n"))[:_TEXT_CHARACTERS_MAX]


class Spell:
    """Says once why statements fail, again when that changes, and once that they succeed again."""

    def __init__(self, connection: str) -> None:
        self._connection = connection
        self._said: tuple[str | None, str] | None = None

    @contextlib.contextmanager
    def watched(self) -> Generator[None]:
        """Looks at what comes of a statement. Nothing is known of one that was cancelled or refused."""
        try:
            yield
        except Unavailable as error:
            self._failed(error.__cause__ or error)
            raise
        self._succeeded()

    def _failed(self, error: BaseException) -> None:
        sqlstate, text = sqlstate_of(error), text_of(error)
        kind = (sqlstate, "" if sqlstate else type(error).__name__)
        if kind != self._said:
            self._said = kind
            log.warning("the database fails", connection=self._connection, sqlstate=sqlstate, text=text)

    def _succeeded(self) -> None:
        if self._said is not None:
            self._said = None
            log.info("the database answers again", connection=self._connection)

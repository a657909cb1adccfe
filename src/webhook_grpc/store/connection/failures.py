"""Says what errors of Postgres and of the driver mean: was anything done, may it be repeated, what the log shows."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Generator
from typing import Final

import psycopg
from psycopg_pool import PoolTimeout, TooManyRequests

from webhook_grpc.domain.errors import Unavailable, WebhookError
from webhook_grpc.domain.progress import NO_ANSWER, Cause, Work

# Losing against a concurrent statement: the same statement may be run again.
LOST_RACES: Final = frozenset({"40001", "40P01", "55P03"})
# Postgres ended the statement: statement_timeout, a cancellation, lock_timeout.
GIVEN_UP: Final = frozenset({"57014", "55P03"})
TOO_MANY_CONNECTIONS: Final = "53300"
DISK_FULL: Final = "53100"
READ_ONLY: Final = "25006"  # a standby, or default_transaction_read_only
# Refused before anything was done, and by this session only: another session may run the same statement. The server
# became a standby; a plan or a prepared statement is older than a change of the tables (0A000, 26000).
REFUSED_BY_SESSION: Final = frozenset({READ_ONLY, "0A000", "26000"})

# Those that a service may meet (PostgreSQL, Appendix A), and the words of `class_of`.
_SQLSTATE_CLASSES: Final = frozenset(
    {"08", "0A", "21", "22", "23", "25", "26", "28", "2D", "34", "3D", "3F", "40", "42", "44", "53", "54", "55"}
    | {"57", "58", "XX"}
)
ERROR_CLASSES: Final = (*sorted(_SQLSTATE_CLASSES), "connection", "other", "timeout")

_READ: Final = re.compile(r"\s*(WITH|SELECT|VALUES|TABLE)\b", re.IGNORECASE)
_WRITE: Final = re.compile(
    r"\b(INSERT|UPDATE|DELETE|MERGE|TRUNCATE|LISTEN|SET|nextval|setval|set_config|pg_notify|publish_event|analyse_table|delete_audit_entries|\w+_partition|\w*advisory\w*)\b",
    re.IGNORECASE,
)
_TEXT_CHARACTERS_MAX: Final = 500
_NUMBERS: Final = re.compile(r"[0-9]+")  # ports and process ids: with other numbers it is the same cause
# libpq does not pass on the SQLSTATE of a refused connection, so its English text has to say it.
_TOO_MANY: Final = re.compile(r"too many (clients|connections)|connection slots are reserved")
# What the operating system says where Postgres gives no SQLSTATE for it: a quota, or an older version.
_NO_ROOM: Final = re.compile(r"No space left on device|Disk quota exceeded")


class StoreRefusal(Exception):
    """Postgres refused these values; the text is the SQLSTATE. Repeating the statement does not help."""


@functools.lru_cache(maxsize=1000)
def is_read(statement: str) -> bool:
    """Returns whether a statement surely only reads, so that running it twice is harmless."""
    return bool(_READ.match(statement)) and not _WRITE.search(statement)


def is_harmless_to_repeat(error: psycopg.Error, statement: str, *, is_idempotent: bool) -> bool:
    """Returns whether a statement that failed with this error may be sent once more, on another connection.

    Either the error says that nothing was done, or the connection ended, and it does not matter what was done.
    """
    if error.sqlstate in REFUSED_BY_SESSION:
        return True
    return _has_ended(error) and (is_idempotent or is_read(statement))


def _has_ended(error: psycopg.Error) -> bool:
    """Returns whether the connection ended, with an error of Postgres (57P01, say) or without one."""
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.diag.severity_nonlocalized in {"FATAL", "PANIC"}


def timed_out(error: BaseException) -> bool:
    """Returns whether we or Postgres ended a statement because it took too long."""
    cause = error.__cause__ if isinstance(error, Unavailable) else error
    return isinstance(cause, TimeoutError | PoolTimeout) or sqlstate_of(cause) in GIVEN_UP


def sqlstate_of(error: BaseException | None) -> str | None:
    """Returns the SQLSTATE of an error of Postgres, if it has one."""
    if not isinstance(error, psycopg.Error):
        return None
    if error.sqlstate is None and _TOO_MANY.search(str(error)):
        return TOO_MANY_CONNECTIONS
    if error.sqlstate is None and _NO_ROOM.search(str(error)):
        return DISK_FULL
    return error.sqlstate


def class_of(error: BaseException) -> str:
    """Returns the class of an error's SQLSTATE (its first two characters) if it is one of Postgres' own, else a word.

    That is `connection` if there is no SQLSTATE, `timeout` if we gave up, and `other`: so there are few different ones.
    """
    if timed_out(error):
        return "timeout"
    sqlstate = sqlstate_of(error)
    if sqlstate is None:
        return "connection"
    return sqlstate[:2] if sqlstate[:2] in _SQLSTATE_CLASSES else "other"


def text_of(error: BaseException) -> str:
    """Returns the words of Postgres, for the log: no values of a statement, and no part of a connection string."""
    if isinstance(error, psycopg.Error) and error.sqlstate is not None:
        text = error.diag.message_primary or type(error).__name__
    elif isinstance(error, psycopg.OperationalError | PoolTimeout | TooManyRequests):
        text = str(error)
    elif isinstance(error, TimeoutError):
        text = "no answer in time"
    else:  # a driver's error may repeat what it was given
        text = type(error).__name__
    return "; ".join(line.strip() for line in text.splitlines())[:_TEXT_CHARACTERS_MAX]


def cause_of(error: BaseException) -> Cause:
    """Returns why something failed, for the log: the driver's error behind an error of ours, if there is one."""
    cause = error.__cause__ if isinstance(error, Unavailable) and error.__cause__ is not None else error
    if timed_out(cause) and sqlstate_of(cause) is None:
        return NO_ANSWER
    if isinstance(cause, WebhookError):
        return Cause(cause.message, kind=cause.reason)
    text = text_of(cause)
    return Cause(text, sqlstate_of(cause), kind=_NUMBERS.sub("", text))


def sentence_of(error: Unavailable) -> str:
    """Returns what is reported to operators: also what Postgres said, which may answer and still not do something."""
    cause = cause_of(error)
    return error.message if cause.sqlstate is None else f"{error.message}: {cause.text} (SQLSTATE {cause.sqlstate})"


def is_disk_full(error: BaseException) -> bool:
    """Returns whether Postgres has no room left to write, on its disk or within its quota there."""
    if not isinstance(error, psycopg.Error):
        return False
    return sqlstate_of(error) == DISK_FULL or bool(_NO_ROOM.search(error.diag.message_primary or ""))


@contextlib.contextmanager
def watched(work: Work, *, is_timed: bool = True) -> Generator[None]:
    """Reports to `work` whether a try succeeded or failed; a cancelled try counts as neither.

    `is_timed`: whether a try that takes longer than the bound of a stall counts as a stall.
    """
    if is_timed:
        work.begin()
    try:
        yield
    except StoreRefusal:  # Postgres works; only these values are refused
        work.succeed()
        raise
    except Exception as error:
        work.fail(cause_of(error))
        raise
    except BaseException:
        work.leave()
        raise
    work.succeed()

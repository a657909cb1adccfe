"""The schema: plain SQL files, applied forward only by yoyo-migrations, one transaction each.

yoyo's lock is a row, which a killed process leaves behind for ever; ours is an advisory lock, which goes with the
connection. A server never changes a real database on its own: it says what to run.
"""

# yoyo has no types:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

import psycopg
import yoyo
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import parse_uri

from .session import Row, connection_arguments

_POST: Final = ".post"
MIGRATIONS: Final = Path(__file__).with_name("migrations")
_LOCK_KEY: Final = int.from_bytes(hashlib.sha256(b"webhook-grpc migrate").digest()[:8], "big", signed=True)

APPLIED: Final = "SELECT migration_id FROM _yoyo_migration ORDER BY migration_id"
TABLE_EXISTS: Final = "SELECT to_regclass('_yoyo_migration') IS NOT NULL"


class SchemaError(Exception):
    """The database's schema is not the one that this program needs."""


class DatabaseUnreachable(Exception):
    """No connection to the database could be opened."""


class _Backend(PostgresqlPsycopgBackend):
    """yoyo on our own connection settings, with a lock that can't be left behind."""

    conninfo: str = ""

    def connect(self, dburi: object) -> psycopg.Connection[Row]:
        del dburi  # yoyo's own form knows fewer options than libpq's
        return psycopg.connect(self.conninfo, **connection_arguments())

    @contextlib.contextmanager
    def lock(self, timeout: int = 10) -> Generator[None]:
        del timeout  # a second migrator waits for the first
        self.execute("SELECT pg_advisory_lock(%(key)s)", {"key": _LOCK_KEY})
        try:
            yield
        finally:
            self.execute("SELECT pg_advisory_unlock(%(key)s)", {"key": _LOCK_KEY})


def migrate(conninfo: str, *, before_deployment: bool = False) -> list[str]:
    """Applies what is missing and returns its names. Safe to run from several places at once.

    `before_deployment` leaves out what has to wait until no process of the old version runs any more (`.post`).

    Raises DatabaseUnreachable, and SchemaError if the schema is newer than this program.
    """
    with _connect(conninfo) as connection:
        _refuse_newer(_applied(connection))
    backend = _open_backend(conninfo)
    try:
        with backend.lock():
            known = yoyo.read_migrations(str(MIGRATIONS))
            if before_deployment:
                known = known.filter(_is_before_deployment)
            missing = backend.to_apply(known)
            names = [migration.id for migration in missing]
            backend.apply_migrations(missing)
            return names
    finally:
        backend.connection.close()


def _is_before_deployment(migration: Any) -> bool:
    return not migration.id.endswith(_POST)


def check_schema(conninfo: str) -> None:
    """Raises DatabaseUnreachable, and SchemaError unless this program can work with the schema."""
    with _connect(conninfo) as connection:
        applied = _applied(connection)
    _refuse_newer(applied)
    if not applied:
        raise SchemaError("the database has no schema yet; run `webhook-grpc migrate` (or `make migrate`) first")
    if missing := [name for name in migration_names() if name not in applied and not name.endswith(_POST)]:
        raise SchemaError(
            f"the database's schema is too old (it lacks {', '.join(missing)}); run `webhook-grpc migrate` first"
        )


def _connect(conninfo: str) -> psycopg.Connection[Row]:
    try:
        return psycopg.connect(conninfo, **connection_arguments())
    except psycopg.Error as error:  # its first line names the place, never the password
        raise DatabaseUnreachable(f"the database cannot be reached: {str(error).splitlines()[0]}") from None


def migration_names() -> list[str]:
    """The names of the files, in order."""
    return sorted(path.stem for path in MIGRATIONS.glob("*.sql"))


def _refuse_newer(applied: list[str]) -> None:
    if unknown := [name for name in applied if name not in migration_names()]:
        raise SchemaError(
            f"the database's schema is too new (it has {', '.join(unknown)}); run a newer version of webhook-grpc"
        )


def _applied(connection: psycopg.Connection[Row]) -> list[str]:
    row = connection.execute(TABLE_EXISTS).fetchone()
    if row is None or not row[0]:
        return []
    return [name for (name,) in connection.execute(APPLIED)]


def _open_backend(conninfo: str) -> Any:  # yoyo has no types
    _Backend.conninfo = conninfo
    backend = _Backend(parse_uri("postgresql+psycopg://"), "_yoyo_migration")
    backend.init_database()
    return backend

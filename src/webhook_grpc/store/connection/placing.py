"""Says which schema our tables are in: the one that is chosen, else where they are, else that of a new installation.

It is decided once, at the start; each connection then has it as the first of its search_path (`session.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final, LiteralString

from psycopg import Connection

from webhook_grpc.domain.record import record

from .server_checks import UnsuitableServer
from .session import FOUND, Pooling, Row

NEW: Final = "webhook_grpc"  # of a new installation
OLD: Final = "public"  # where versions made theirs that had no such setting

SELECT_FOUND: Final[LiteralString] = f"SELECT name, is_on_path FROM ({FOUND}) f"
# `source` says who has set search_path. The last column: whether nothing is in the schema that it leads to.
SELECT_PATH: Final[LiteralString] = """
SELECT current_schema()::text, s.source, current_user::text, current_database()::text,
    NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = current_schema())
FROM pg_settings s WHERE s.name = 'search_path'
"""
# In a session of ours, until the end of the transaction: what the role, the database or the URL gives it.
USE_GIVEN_PATH: Final[LiteralString] = "SET LOCAL search_path TO DEFAULT"
# Set in the connection string or for the role: for whoever runs this program, and not for all of the database.
_SET_FOR_US: Final = frozenset({"client", "user", "database user"})


@record
class Place:
    """A database, what pooler stands before it, and the schema of our tables in it."""

    conninfo: str
    schema: str
    pooling: Pooling = Pooling.NONE
    left: tuple[str, ...] = ()
    """Migrations of this version that wait for the end of an upgrade (`.post`)."""
    newer: tuple[str, ...] = ()
    """Migrations of newer versions, with which this one works."""


@record
class Path:
    """What a session without our settings has: the first schema of its search_path, and whether it was set for us."""

    first: str | None
    is_set_for_us: bool
    role: str
    database: str
    is_first_empty: bool = False


@record
class Looked:
    """What a look found. `found`: the schemas where our tables are; `on_path` is the part in search_path."""

    on_path: tuple[str, ...]
    found: tuple[str, ...]
    path: Path


def schema_of(connection: Connection[Row], chosen: str | None, say: Callable[[str], None] = lambda _: None) -> str:
    """Returns the schema of our tables, whether it is there or not. Call it before the session is set.

    `say` gets a line about a search_path that may have been meant for us, and was not followed.
    Raises UnsuitableServer.
    """
    if chosen is not None:
        return chosen
    looked = _look(connection)
    schema = decide(looked)
    if (words := not_followed(looked, schema)) is not None:
        say(words)
    return schema


def _look(connection: Connection[Row]) -> Looked:
    found = connection.execute(SELECT_FOUND).fetchall()
    [(first, source, role, database, is_empty)] = connection.execute(SELECT_PATH).fetchall()
    path = Path(first, source in _SET_FOR_US, role, database, is_empty)
    return Looked(tuple(name for name, is_on_path in found if is_on_path), tuple(name for name, _ in found), path)


def decide(looked: Looked) -> str:
    """Returns the schema where no setting says it. Raises UnsuitableServer."""
    path = looked.path
    if looked.on_path:
        return looked.on_path[0]
    if path.is_set_for_us:  # one installation for each search_path, as before there was a setting
        if path.first is None:
            raise UnsuitableServer(
                f"search_path of the role {path.role} names no schema that exists in the database {path.database}"
            )
        if path.first != OLD:
            return path.first
    return looked.found[0] if looked.found else NEW


def not_followed(looked: Looked, schema: str) -> str | None:
    """Returns a sentence if search_path leads to an empty schema, made for us perhaps, and the tables are elsewhere.

    One with something in it is that of the application.
    """
    path = looked.path
    if schema not in looked.found or path.first in {None, OLD, schema} or not path.is_first_empty:
        return None
    return (
        f"search_path leads to the schema {path.first} of the database {path.database}, where nothing is; this works "
        f"in {schema}, where our tables are. WEBHOOK_DATABASE_SCHEMA chooses another schema"
    )


def refuse_to_come_before(connection: Connection[Row], schema: str, make: Callable[[], None]) -> None:
    """Raises UnsuitableServer if tables in this schema would be found instead of those that there are.

    `make` makes what they are found by: that is tried, and rolled back. Whose search_path is another one than that of
    this session is not concerned.
    """
    with connection.transaction(force_rollback=True):
        make()
        connection.execute(USE_GIVEN_PATH)
        after = _look(connection)
    before = replace(
        after,
        on_path=tuple(name for name in after.on_path if name != schema),
        found=tuple(name for name in after.found if name != schema),
    )
    taken = _taken(before)
    if taken is not None and taken != _taken(after):
        raise UnsuitableServer(
            f"there is an installation in the schema {taken}, and processes without WEBHOOK_DATABASE_SCHEMA would take "
            f"a new one in {schema} for theirs; choose another name, or give migrate a URL whose search_path names "
            f"{schema} alone (options=-csearch_path%3D{schema})"
        )


def _taken(looked: Looked) -> str | None:
    """Returns where a process without the setting finds tables of ours; None if it finds none."""
    with suppress(UnsuitableServer):
        schema = decide(looked)
        return schema if schema in looked.found else None
    return None

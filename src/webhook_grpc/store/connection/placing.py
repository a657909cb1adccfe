"""Says which schema our tables are in: the one that is chosen, else where they are, else that of a new installation.

It is decided once, at the start; each connection then has it as the first of its search_path (`session.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, LiteralString

from psycopg import Connection

from .server_checks import UnsuitableServer
from .session import FOUND, Pooling, Row

NEW: Final = "webhook_grpc"  # of a new installation
OLD: Final = "public"  # where versions made theirs that had no such setting

SELECT_FOUND: Final[LiteralString] = f"SELECT name, is_on_path FROM ({FOUND}) f"
# `source` says who has set search_path.
SELECT_PATH: Final[LiteralString] = """
SELECT current_schema()::text, s.source, current_user::text, current_database()::text
FROM pg_settings s WHERE s.name = 'search_path'
"""
# Set in the connection string or for the role: for whoever runs this program, and not for all of the database.
_SET_FOR_US: Final = frozenset({"client", "user", "database user"})


@dataclass(frozen=True, slots=True)
class Place:
    """A database, what pooler stands before it, and the schema of our tables in it."""

    conninfo: str
    schema: str
    pooling: Pooling = Pooling.NONE


@dataclass(frozen=True, slots=True)
class Path:
    """What a session without our settings has: the first schema of its search_path, and whether it was set for us."""

    first: str | None
    is_set_for_us: bool
    role: str
    database: str


def schema_of(connection: Connection[Row], chosen: str | None) -> str:
    """Returns the schema of our tables, whether it is there or not. Call it before the session is set.

    Raises UnsuitableServer.
    """
    if chosen is not None:
        return chosen
    found = connection.execute(SELECT_FOUND).fetchall()
    [(first, source, role, database)] = connection.execute(SELECT_PATH).fetchall()
    path = Path(first, source in _SET_FOR_US, role, database)
    return decide([name for name, is_on_path in found if is_on_path], [name for name, _ in found], path)


def decide(on_path: Sequence[str], found: Sequence[str], path: Path) -> str:
    """Returns the schema where no setting says it. `found`: where our tables are; `on_path` is the part in search_path.

    Raises UnsuitableServer.
    """
    if on_path:
        return on_path[0]
    if path.is_set_for_us:  # one installation for each search_path, as before there was a setting
        if path.first is None:
            raise UnsuitableServer(
                f"search_path of the role {path.role} names no schema that exists in the database {path.database}"
            )
        if path.first != OLD:
            return path.first
    return found[0] if found else NEW


def refuse_to_come_before(connection: Connection[Row], schema: str) -> None:
    """Raises UnsuitableServer if tables that are made in this schema would be found instead of those that there are."""
    found = [name for name, _ in connection.execute(SELECT_FOUND).fetchall()]
    if schema == OLD and NEW in found:
        raise UnsuitableServer(
            f"there is an installation in the schema {NEW}, and processes without WEBHOOK_DATABASE_SCHEMA would take a "
            f"new one in {OLD} for theirs; choose another name"
        )

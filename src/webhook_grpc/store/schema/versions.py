"""Finds out whether a process of an older version runs, and refuses a call whose outcome it would handle wrongly.

A process writes the version of its program into `workers` (0005); older programs leave it NULL. This is a check, not a
lock: an old process that is started later, while secrets overlap say, does it wrongly.
"""

from __future__ import annotations

from typing import Final

from psycopg import Connection, sql

from webhook_grpc.domain.errors import FailedPrecondition
from webhook_grpc.store import literals
from webhook_grpc.store.connection.session import Row
from webhook_grpc.store.db import Database

from .migration_files import number_of

# From this version on both secrets sign while a rotation overlaps, tests are sent, schemas are checked.
WITH_VERSIONS: Final = number_of("0005-worker-version.pre")
# From this version on the values of webhooks' own headers are opened before they are sent.
WITH_SEALED_HEADERS: Final = number_of("0012-sealed-headers.pre")
# From this version on the signing keys of webhooks' customers sign.
WITH_SIGNING_KEYS: Final = number_of("0016-signing-keys.pre")
# From this version on the queries of webhooks' URLs are opened before they are called.
WITH_SEALED_QUERIES: Final = number_of("0018-sealed-queries.pre")
WITH_SEALED_CURSORS: Final = WITH_SEALED_HEADERS  # it came with the same version

_OLDER_PROCESSES: Final = f"""
FROM workers
WHERE lease_until > now() AND lease_until < now() + {literals.LEASE_MAX_TWICE} AND coalesce(version, 0) < %(version)s
"""
COUNT_OLDER_PROCESSES: Final = f"SELECT count(*) {_OLDER_PROCESSES}"
# For a session that has none of our settings, and a table that may lack the version yet.
COUNT_OLDER_IN: Final = sql.SQL(f"""
SELECT count(*) FROM {{}}.workers w
WHERE lease_until > now() AND lease_until < now() + {literals.LEASE_MAX_TWICE}
    AND coalesce((to_jsonb(w) ->> 'version')::integer, 0) < %(version)s
""")
COUNT_OTHER_SESSIONS: Final = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""

# Applied: nobody goes back to a version that can't open what is sealed.
SEALING_BEGINS: Final = "0018-sealing-begins.post"
SELECT_MAY_SEAL_QUERIES: Final = f"""
SELECT EXISTS (SELECT FROM webhook_migrations WHERE name = %(name)s AND steps_done = step_count)
    AND NOT EXISTS (SELECT {_OLDER_PROCESSES})
"""


def count_older_in(connection: Connection[Row], schema: str, version: int) -> int:
    """Returns how many processes of a version before `version` run on the tables of a schema. Raises psycopg.Error."""
    statement = COUNT_OLDER_IN.format(sql.Identifier(schema))
    [(count,)] = connection.execute(statement, {"version": version}).fetchall()
    return int(count)


async def count_older(database: Database, version: int) -> int:
    """Returns how many processes of a version before `version` run. Raises Unavailable."""
    [(count,)] = await database.rows(COUNT_OLDER_PROCESSES, {"version": version})
    return count


async def may_seal_queries(database: Database) -> bool:
    """Returns whether no process needs queries of URLs in the clear, now or after going back. Raises Unavailable."""
    parameters = {"name": SEALING_BEGINS, "version": WITH_SEALED_QUERIES}
    [(may_seal,)] = await database.rows(SELECT_MAY_SEAL_QUERIES, parameters)
    return bool(may_seal)


async def refuse_beside_older(database: Database, feature: str, version: int = WITH_VERSIONS) -> None:
    """Raises FailedPrecondition while a process of a version before `version` runs, and Unavailable."""
    count = await count_older(database, version)
    if count:
        raise FailedPrecondition(
            "OLD_PROCESSES_RUNNING",
            f"{feature} waits for the end of a deployment: {count} processes of an older version, which would do it "
            "wrong, still run; repeat the call when they are replaced",
            "workers",
        )

"""Keeps the outbox small where autovacuum is switched off, or far behind.

A delivery's row is deleted when the delivery ends. Until a vacuum, reading what is due steps over deleted rows: after
50,000 deliveries it read 52,000 pages instead of 2,000.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.store.db import Database, LoopConnection

# The table's threshold for autovacuum is 5,000: with ten times as many, autovacuum does not come.
DEAD_ROWS_MAX: Final = 50_000
VACUUM_SECONDS_MAX: Final = 600.0

# VACUUM skips the table of another owner with a warning that nobody reads, so the right is checked first.
COUNT_DEAD_ROWS: Final = """
SELECT coalesce(pg_stat_get_dead_tuples(c.oid), 0), pg_has_role(c.relowner, 'USAGE')
    OR pg_has_role((SELECT d.datdba FROM pg_database d WHERE d.datname = current_database()), 'USAGE')
    OR CASE WHEN current_setting('server_version_num')::int >= 170000 THEN has_table_privilege(c.oid, 'MAINTAIN')
        ELSE false END
FROM pg_class c WHERE c.oid = to_regclass('deliveries')
"""
VACUUM_OUTBOX: Final = "VACUUM (ANALYZE, SKIP_LOCKED) deliveries"


async def vacuum_outbox(database: Database, dead_rows_max: int = DEAD_ROWS_MAX) -> int:
    """Vacuums the outbox if it has more deleted rows than `dead_rows_max`; returns how many, 0 if nothing was done.

    Takes no lock that publishing or settling waits for. Raises Unavailable.
    """
    [(dead_rows, may_vacuum)] = await database.rows(COUNT_DEAD_ROWS)
    if dead_rows <= dead_rows_max:
        return 0
    if not may_vacuum:
        raise Unavailable(
            "NOT_OWNER", f"{dead_rows} deleted rows; only the owner of deliveries may vacuum them, or who has MAINTAIN"
        )
    options = replace(database.options, statement_timeout_seconds=VACUUM_SECONDS_MAX, loops=[])
    connection = LoopConnection(options, "vacuum")
    try:
        await connection.rows(VACUUM_OUTBOX)
    finally:
        await connection.close()
    return dead_rows

"""Keeps the planner's statistics of the small tables. Statements that people write may depend on them; ours do not.

Autovacuum analyses a table when 50 rows and a tenth of it have changed, which tables of one row, or of 64, never do.
"""

from __future__ import annotations

from typing import Final

from webhook_grpc.store.db import Database

SMALL_TABLES: Final = ("meta", "shards", "workers", "event_types", "webhooks", "webhook_health")
# A function of the owner of the tables (0014): our own role may not be allowed to.
ANALYSE_TABLE: Final = "SELECT analyse_table(%(table)s)"

# ANALYZE skips the table of another owner with a warning that nobody reads, so the right is checked first.
SELECT_MAY_ANALYSE: Final = """
SELECT c.relname FROM pg_class c, pg_proc f
WHERE f.oid = to_regprocedure('analyse_table(text)') AND has_function_privilege(f.oid, 'EXECUTE')
    AND c.oid = ANY(SELECT to_regclass(t) FROM unnest(%(tables)s::text[]) t)
    AND (pg_has_role(f.proowner, c.relowner, 'USAGE') OR pg_has_role(f.proowner, (
        SELECT d.datdba FROM pg_database d WHERE d.datname = current_database()
    ), 'USAGE'))
"""


async def analyse_small_tables(database: Database) -> list[str]:
    """Analyses the small tables and returns those that our role may not analyse. Raises Unavailable."""
    may = {table for (table,) in await database.rows(SELECT_MAY_ANALYSE, {"tables": list(SMALL_TABLES)})}
    for table in SMALL_TABLES:
        if table in may:
            await database.rows(ANALYSE_TABLE, {"table": table})
    return [table for table in SMALL_TABLES if table not in may]

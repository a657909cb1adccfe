"""Keeps the planner's statistics of the small tables. Statements that people write may depend on them; ours do not.

Autovacuum analyses a table when 50 rows and a tenth of it have changed, which tables of one row, or of 64, never do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, LiteralString

from webhook_grpc.store.db import Database

# Each reads at most 30,000 pages of its table, because Postgres samples.
ANALYSE: Final[Mapping[str, LiteralString]] = {
    "meta": "ANALYZE meta",
    "shards": "ANALYZE shards",
    "workers": "ANALYZE workers",
    "event_types": "ANALYZE event_types",
    "webhooks": "ANALYZE webhooks",
    "webhook_health": "ANALYZE webhook_health",
}

# ANALYZE skips the table of another owner with a warning that nobody reads, so the right is checked first.
SELECT_MAY_ANALYSE: Final = """
SELECT c.relname FROM pg_class c
WHERE c.oid = ANY(SELECT to_regclass(t) FROM unnest(%(tables)s::text[]) t) AND (
    pg_has_role(c.relowner, 'USAGE')
    OR pg_has_role((SELECT d.datdba FROM pg_database d WHERE d.datname = current_database()), 'USAGE')
)
"""


async def analyse_small_tables(database: Database) -> list[str]:
    """Analyses the small tables and returns those that our role may not analyse. Raises Unavailable."""
    may = {table for (table,) in await database.rows(SELECT_MAY_ANALYSE, {"tables": list(ANALYSE)})}
    for table in ANALYSE:
        if table in may:
            await database.rows(ANALYSE[table])
    return [table for table in ANALYSE if table not in may]

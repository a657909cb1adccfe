"""Numbers and times that Python and SQL share, as parts of statements: no LiteralString can be made of a number.

tests/unit/test_statement_parts.py compares each with the constant that it repeats.
"""

from __future__ import annotations

from typing import Final

SHARD_COUNT: Final = "64"  # domain/ids.py SHARD_COUNT: a webhook's shard is its id modulo this

# domain/ids.py ID_TIME_SLACK: by how much clocks may differ, or have been set back, between two rows of one delivery.
CLOCK_SLACK: Final = "interval '10 minutes'"

BELIEVED_AHEAD: Final = "interval '1 hour'"  # domain/clock.py BELIEVED_AHEAD

# store/registry/webhooks.py LOOK_BACK_SECONDS, and five seconds for a statement to commit after its now().
CHANGED_LATELY: Final = "interval '15 seconds'"

# Twice the longest lease (settings.py lease_seconds): a lease that ends later was written by a clock that was wrong.
LEASE_MAX_TWICE: Final = "interval '2 minutes'"

# Tells apart what belongs to the database and not to a schema, as advisory locks do: 0 for installations in `public`,
# whose processes may run beside those of a version that knew no other schema (docs/decisions/0090).
SCHEMA_SEED: Final = "CASE current_schema() WHEN 'public' THEN 0 ELSE hashtextextended(current_schema()::text, 0) END"

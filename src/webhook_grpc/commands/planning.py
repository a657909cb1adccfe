"""What `webhook-grpc migrate --plan` prints: what would run, what it locks, and about how long it takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import orjson

from webhook_grpc.store.schema.migration_plan import PlannedStep

_MINUTE: Final = 60.0
_HOUR: Final = 3600.0


def plan_lines(steps: Sequence[PlannedStep]) -> Iterator[str]:
    """Yields the lines for people: the name of each migration, and below it a line for each statement."""
    migration = ""
    for step in steps:
        if step.migration != migration:
            migration = step.migration
            yield f"{migration}{_held_up_by(step.older_count)}"
        yield f"  {step.step}/{step.step_count}  {step.statement}: {_lock_of(step)}; {duration(step.seconds)}"
    if not steps:
        yield "nothing to do"
        return
    yield f"in the schema {steps[0].schema}; nothing was changed; `webhook-grpc migrate` runs this"


def plan_json(steps: Sequence[PlannedStep]) -> Iterator[bytes]:
    """Yields a JSON object for each statement. `seconds` is null where it is instant, whatever the size."""
    for step in steps:
        yield orjson.dumps(
            {
                "schema": step.schema,
                "migration": step.migration,
                "step": step.step,
                "step_count": step.step_count,
                "statement": step.statement,
                "table": step.table or None,
                "lock": step.lock.value,
                "waiting": step.waiting,
                "rows": None if step.size is None else step.size.rows,
                "partitions": None if step.size is None else step.size.partitions,
                "seconds": None if step.seconds is None else round(step.seconds, 1),
                "older_processes": step.older_count,
            }
        )


def duration(seconds: float | None) -> str:
    """Returns a time in words: it is a guess."""
    if seconds is None:
        return "instant"
    if seconds < 1:
        return "less than a second"
    if seconds < _MINUTE:
        return f"about {seconds:.0f} s"
    if seconds < _HOUR:
        return f"about {seconds / _MINUTE:.0f} min"
    return f"about {seconds / _HOUR:.1f} h"


def _held_up_by(count: int) -> str:
    return f": left out until processes of an older version have ended ({count} run now)" if count else ""


def _lock_of(step: PlannedStep) -> str:
    if step.size is None:
        return "locks no table that is in use"
    partitions = f", {step.size.partitions} partitions" if step.size.partitions else ""
    return f"{step.lock} on {step.table} (about {step.size.rows:,} rows{partitions}), {step.waiting}"

"""Says what each statement of a migration locks, and what it has to look at: from its text, without a database.

A statement of a kind that is not known here is an error: so no migration comes without an answer.
`tests/store/test_migration_plan.py` compares the answers with the locks that Postgres really takes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum, StrEnum
from typing import Final

from webhook_grpc.domain.record import record

from .migration_files import MigrationStep, StepKind, index_of


class Lock(StrEnum):
    """The strongest lock on a table that others use, by the names of Postgres' manual, the weakest first."""

    NONE = "none"
    ROW_EXCLUSIVE = "ROW EXCLUSIVE"
    SHARE_UPDATE_EXCLUSIVE = "SHARE UPDATE EXCLUSIVE"
    SHARE = "SHARE"
    SHARE_ROW_EXCLUSIVE = "SHARE ROW EXCLUSIVE"
    ACCESS_EXCLUSIVE = "ACCESS EXCLUSIVE"


class Work(Enum):
    """How long a statement takes: what it has to look at."""

    CATALOG = "catalog"  # no row of a table: instant, whatever the size
    SAMPLE = "sample"  # some thousand rows
    SCAN = "scan"  # every row
    BUILD = "build"  # every row, sorted: an index
    WRITE = "write"  # some rows, at worst all


@record
class Effect:
    """What one statement does to a table. `table` is empty if it touches none that others use."""

    statement: str
    table: str
    lock: Lock
    work: Work


# Strings, quoted code and comments are taken as a whole, so that a semicolon inside ends nothing.
_TOKEN: Final = re.compile(r"\$(?P<tag>\w*)\$.*?\$(?P=tag)\$|'(?:[^']|'')*'|--[^\n]*|;|[^$';-]+|.", re.DOTALL)
_HEAD_CHARACTERS_MAX: Final = 60

# The first that fits; a group is the table. Compiled when they are used: a service that starts needs none.
_KINDS: Final = (
    (r"CREATE TABLE \w+ .* REFERENCES (\w+)", Lock.SHARE_ROW_EXCLUSIVE, Work.CATALOG),
    (r"CREATE TABLE \w+", Lock.NONE, Work.CATALOG),
    (r"CREATE (?:UNIQUE )?INDEX \w+ ON (\w+)", Lock.SHARE, Work.BUILD),
    (r"CREATE (?:OR REPLACE )?FUNCTION ", Lock.NONE, Work.CATALOG),
    (r"CREATE VIEW ", Lock.NONE, Work.CATALOG),
    (r"CREATE OR REPLACE VIEW (\w+)", Lock.ACCESS_EXCLUSIVE, Work.CATALOG),
    (r"COMMENT ON FUNCTION ", Lock.NONE, Work.CATALOG),
    (r"COMMENT ON COLUMN (\w+)\.", Lock.SHARE_UPDATE_EXCLUSIVE, Work.CATALOG),
    (r"(?:GRANT|REVOKE) .* ON FUNCTION ", Lock.NONE, Work.CATALOG),
    (r"DO ", Lock.NONE, Work.CATALOG),  # ours change functions, and rights on tables that are new
    (r"ALTER TABLE (\w+) SET \(", Lock.SHARE_UPDATE_EXCLUSIVE, Work.CATALOG),
    (r"ALTER TABLE (\w+) VALIDATE CONSTRAINT ", Lock.SHARE_UPDATE_EXCLUSIVE, Work.SCAN),
    (r"ALTER TABLE (\w+) (?!.* ALTER COLUMN )(?:ADD COLUMN|DROP|RENAME) ", Lock.ACCESS_EXCLUSIVE, Work.CATALOG),
    (r"ALTER TABLE (\w+) ADD CONSTRAINT .* NOT VALID", Lock.ACCESS_EXCLUSIVE, Work.CATALOG),
    (r"ALTER TABLE (\w+) ALTER COLUMN \w+ (?:SET DEFAULT|DROP) ", Lock.ACCESS_EXCLUSIVE, Work.CATALOG),
    (r"DROP (?:TABLE|VIEW) (?:IF EXISTS )?(\w+)", Lock.ACCESS_EXCLUSIVE, Work.CATALOG),
    (r"DROP FUNCTION ", Lock.NONE, Work.CATALOG),
    (r"INSERT INTO (\w+)", Lock.ROW_EXCLUSIVE, Work.WRITE),
    (r"UPDATE (\w+) ", Lock.ROW_EXCLUSIVE, Work.WRITE),
    (r"DELETE FROM (\w+)", Lock.ROW_EXCLUSIVE, Work.WRITE),
    (r"ANALYZE (\w+)", Lock.SHARE_UPDATE_EXCLUSIVE, Work.SAMPLE),
    (r"VACUUM (?:\(ANALYZE\) )?(\w+)", Lock.SHARE_UPDATE_EXCLUSIVE, Work.SCAN),
)


def effects_of(step: MigrationStep) -> list[Effect]:
    """Returns what each statement of a step does. Raises ValueError for a kind of statement that is not known."""
    if step.kind is StepKind.INDEX:
        index = index_of(step)
        what = f"CREATE {'UNIQUE ' if index.is_unique else ''}INDEX CONCURRENTLY {index.name}"
        return [Effect(what, index.table, Lock.SHARE_UPDATE_EXCLUSIVE, Work.BUILD)]
    made: set[str] = set()
    effects: list[Effect] = []
    for statement in statements(step.sql):
        effect = _effect_of(statement)
        if new := re.match(r"CREATE TABLE (\w+)", statement):
            made.add(new[1])
        is_of_new = effect.table in made
        effects.append(Effect(effect.statement, "", Lock.NONE, Work.CATALOG) if is_of_new else effect)
    return effects


def statements(text: str) -> Iterator[str]:
    """Yields the statements of a text on one line each, without comments."""
    parts: list[str] = []
    for token in _TOKEN.finditer(f"{text};"):
        part = token[0]
        if part == ";":
            statement = " ".join("".join(parts).split())
            parts.clear()
            if statement:
                yield statement
        elif not part.startswith("--"):
            parts.append(part)


def _effect_of(statement: str) -> Effect:
    for pattern, lock, work in _KINDS:
        if found := re.match(pattern, statement):
            return Effect(_head_of(statement), found[1] if found.groups() else "", lock, work)
    raise ValueError(f"what this locks is not known: {_head_of(statement)}")


def _head_of(statement: str) -> str:
    """Returns the beginning, up to a parenthesis or quoted code."""
    head = re.split(r" ?\(| AS \$| \$", statement, maxsplit=1)[0]
    return head if len(head) <= _HEAD_CHARACTERS_MAX else f"{head[: _HEAD_CHARACTERS_MAX - 1]}…"

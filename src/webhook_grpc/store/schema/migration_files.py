"""Reads the files of migrations/: plain SQL, cut into steps that are applied one by one. See CONTRIBUTING.md.

A file is named `NNNN-what-it-does.pre.sql`, or `.post.sql` if it must wait until no process of the old version runs.
A program's version is the number of its newest migration.
"""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Final, LiteralString, cast

from webhook_grpc.domain.record import record

FOLDER: Final = Path(__file__).with_name("migrations")
POST: Final = ".post"

_WORKS_WITH: Final = re.compile(r"^-- works with: ([0-9]+)$", re.MULTILINE)
_STEP: Final = re.compile(r"^-- step(?:: (.*))?$", re.MULTILINE)
_COMMENT: Final = re.compile(r"^\s*--.*$", re.MULTILINE)
_INDEX: Final = re.compile(r"CREATE (UNIQUE )?INDEX (\w+) ON (\w+) (.+);", re.DOTALL)


class StepKind(StrEnum):
    """How a step is run: in one transaction with the row that records it, or so that it may be repeated."""

    TRANSACTION = "transaction"
    INDEX = "index"  # one CREATE INDEX, which is made CONCURRENTLY, on partitioned tables partition by partition
    ALONE = "alone"  # one statement that may be repeated, ANALYZE for example


@record
class MigrationStep:
    """A part of a migration that is applied at once."""

    kind: StepKind
    sql: LiteralString


@record
class Index:
    """An index of a migration: `definition` is what follows the name of the table."""

    name: str
    table: str
    definition: LiteralString
    is_unique: bool


@record
class Migration:
    """A file. Programs from version `works_with` on work while it is being applied, and after that."""

    name: str
    works_with: int
    steps: tuple[MigrationStep, ...]

    @property
    def is_post(self) -> bool:
        """Returns whether it must wait until no process of the old version runs any more."""
        return self.name.endswith(POST)


def migration_names() -> list[str]:
    """Returns the names of the files, in order."""
    return sorted(path.stem for path in FOLDER.glob("*.sql"))


def read_migrations() -> list[Migration]:
    """Returns the files, in order."""
    return [parse(name, (FOLDER / f"{name}.sql").read_text(encoding="utf-8")) for name in migration_names()]


def program_version() -> int:
    """Returns the version of this program: the number of its newest migration."""
    return number_of(migration_names()[-1])


def number_of(name: str) -> int:
    """Returns the number that a migration's name begins with."""
    return int(name.partition("-")[0])


def parse(name: str, text: str) -> Migration:
    """Returns the migration that a file describes. Raises ValueError if the file is not well-formed."""
    works_with = _WORKS_WITH.search(text)
    if works_with is None:
        raise ValueError(f"{name} has no line `-- works with: NNNN`")
    head, *parts = _STEP.split(text)
    if not parts:
        return Migration(name, int(works_with[1]), (_step(StepKind.TRANSACTION, text),))
    if _COMMENT.sub("", head).strip():
        raise ValueError(f"{name} has SQL before its first `-- step`")
    steps = [
        _step(StepKind(kind or StepKind.TRANSACTION), sql) for kind, sql in zip(parts[::2], parts[1::2], strict=True)
    ]
    return Migration(name, int(works_with[1]), tuple(steps))


def index_of(step: MigrationStep) -> Index:
    """Returns what an index step makes. Raises ValueError unless the step is one CREATE INDEX."""
    found = _INDEX.fullmatch(_COMMENT.sub("", step.sql).strip())
    if found is None:
        raise ValueError(f"not one plain CREATE INDEX: {step.sql}")
    unique, name, table, definition = found.groups()
    return Index(name, table, cast("LiteralString", definition), is_unique=bool(unique))


def _step(kind: StepKind, sql: str) -> MigrationStep:
    step = MigrationStep(kind, cast("LiteralString", sql.strip()))  # our own file
    if kind is StepKind.INDEX:
        index_of(step)
    return step

"""The files of migrations: how they are cut into steps, and what each of them must say."""

from __future__ import annotations

import pytest

from webhook_grpc.store.schema.migration_files import (
    Index,
    StepKind,
    index_of,
    number_of,
    parse,
    program_version,
    read_migrations,
)

TEXT = """\
-- works with: 7
-- What it is for.

-- step
-- Why.
ALTER TABLE a ADD COLUMN b text;

-- step: index
-- Why this one.
CREATE UNIQUE INDEX a_by_b ON a (b)
    INCLUDE (c);

-- step: alone
ANALYZE a;
"""


def test_a_file_is_cut_into_steps() -> None:
    migration = parse("0008-example.pre", TEXT)
    assert (migration.name, migration.works_with, migration.is_post) == ("0008-example.pre", 7, False)
    assert [step.kind for step in migration.steps] == [StepKind.TRANSACTION, StepKind.INDEX, StepKind.ALONE]
    assert migration.steps[0].sql == "-- Why.\nALTER TABLE a ADD COLUMN b text;"
    assert index_of(migration.steps[1]) == Index("a_by_b", "a", "(b)\n    INCLUDE (c)", is_unique=True)
    assert migration.steps[2].sql == "ANALYZE a;"


def test_a_file_without_steps_is_one_transaction() -> None:
    [step] = parse("0008-example.post", "-- works with: 7\nDROP TABLE a;\nDROP TABLE b;").steps
    assert step.kind is StepKind.TRANSACTION
    assert step.sql.endswith("DROP TABLE a;\nDROP TABLE b;")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("CREATE TABLE a ();", "no line"),
        ("-- works with: 7\nCREATE TABLE a ();\n-- step\nCREATE TABLE b ();", "before its first"),
        ("-- works with: 7\n-- step: quickly\nCREATE TABLE b ();", "quickly"),
        ("-- works with: 7\n-- step: index\nCREATE INDEX CONCURRENTLY i ON a (b);", "not one plain CREATE INDEX"),
        ("-- works with: 7\n-- step: index\nCREATE TABLE b ();", "not one plain CREATE INDEX"),
    ],
)
def test_a_file_that_is_not_written_as_it_must_be_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse("0008-example.pre", text)


def test_the_version_before_works_with_each_migration_that_is_applied_beside_it() -> None:
    migrations = [migration for migration in read_migrations() if not migration.is_post]
    numbers = [number_of(migration.name) for migration in migrations]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == program_version()
    for before, migration in zip(numbers, migrations[1:], strict=False):
        assert migration.works_with <= before, migration.name


def test_no_step_locks_two_tables_that_others_use() -> None:
    """Two locks, one after the other, are what deadlocks are made of."""
    for migration in read_migrations():
        for step in migration.steps:
            words = step.sql.split()
            altered = {words[at + 2] for at, word in enumerate(words) if word == "ALTER" and words[at + 1] == "TABLE"}
            assert len(altered) <= 1, (migration.name, altered)

"""What a statement of a migration locks, told from its text."""

from __future__ import annotations

import pytest

from webhook_grpc.commands.planning import duration
from webhook_grpc.store.schema.migration_effects import Effect, Lock, Work, effects_of, statements
from webhook_grpc.store.schema.migration_files import MigrationStep, StepKind, read_migrations


def test_a_text_is_cut_into_statements_outside_of_strings_code_and_comments() -> None:
    text = """
    -- a; comment
    INSERT INTO a VALUES (';', 'it''s; fine');  -- another;
    DO $$ BEGIN PERFORM 1; END $$;
    CREATE FUNCTION f() RETURNS text AS $body$ SELECT '$$;' $body$ LANGUAGE sql;
    SELECT a - 1
    """
    assert list(statements(text)) == [
        "INSERT INTO a VALUES (';', 'it''s; fine')",
        "DO $$ BEGIN PERFORM 1; END $$",
        "CREATE FUNCTION f() RETURNS text AS $body$ SELECT '$$;' $body$ LANGUAGE sql",
        "SELECT a - 1",
    ]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "ALTER TABLE a ADD COLUMN b text;",
            Effect("ALTER TABLE a ADD COLUMN b text", "a", Lock.ACCESS_EXCLUSIVE, Work.CATALOG),
        ),
        (
            "ALTER TABLE a\n    SET (fillfactor = 90);",
            Effect("ALTER TABLE a SET", "a", Lock.SHARE_UPDATE_EXCLUSIVE, Work.CATALOG),
        ),
        ("ANALYZE a;", Effect("ANALYZE a", "a", Lock.SHARE_UPDATE_EXCLUSIVE, Work.SAMPLE)),
        ("UPDATE a SET b = 1;", Effect("UPDATE a SET b = 1", "a", Lock.ROW_EXCLUSIVE, Work.WRITE)),
        ("DROP TABLE a;", Effect("DROP TABLE a", "a", Lock.ACCESS_EXCLUSIVE, Work.CATALOG)),
        ("CREATE TABLE a (b text);", Effect("CREATE TABLE a", "", Lock.NONE, Work.CATALOG)),
    ],
)
def test_a_statement_locks_what_it_locks(statement: str, expected: Effect) -> None:
    assert effects_of(MigrationStep(StepKind.TRANSACTION, statement)) == [expected]  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def test_what_is_done_to_a_table_that_the_same_step_makes_locks_nobody_out() -> None:
    step = MigrationStep(
        StepKind.TRANSACTION, "CREATE TABLE a (b text); CREATE INDEX c ON a (b); INSERT INTO a VALUES (1)"
    )
    assert {(effect.table, effect.lock) for effect in effects_of(step)} == {("", Lock.NONE)}


def test_what_every_migration_locks_is_known() -> None:
    assert all(effects_of(step) for migration in read_migrations() for step in migration.steps)


@pytest.mark.parametrize(
    "statement",
    [
        "CLUSTER a",
        "ALTER TABLE a ALTER COLUMN b TYPE bigint",
        "ALTER TABLE a ADD COLUMN c int, ALTER COLUMN b TYPE int",
    ],
)
def test_a_statement_of_an_unknown_kind_is_refused_rather_than_called_harmless(statement: str) -> None:
    with pytest.raises(ValueError, match="not known"):
        effects_of(MigrationStep(StepKind.TRANSACTION, statement))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "instant"),
        (0.0, "less than a second"),
        (4.4, "about 4 s"),
        (59.9, "about 60 s"),
        (90.0, "about 2 min"),
        (5400.0, "about 1.5 h"),
    ],
)
def test_a_duration_is_a_guess_in_words(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words

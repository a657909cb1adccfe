"""Which schema our tables are in, where no setting says it."""

from __future__ import annotations

import pytest

from webhook_grpc.settings import PREFIX, SettingsError, load_database_settings
from webhook_grpc.store.connection.placing import NEW, OLD, Looked, Path, decide, not_followed
from webhook_grpc.store.connection.server_checks import UnsuitableServer


def path(first: str | None = OLD, *, is_set_for_us: bool = False) -> Path:
    return Path(first, is_set_for_us, "app", "shop")


@pytest.mark.parametrize(
    ("on_path", "found", "path", "expected"),
    [
        ([], [], path(), NEW),
        ([], [], path(None), NEW),
        ([], [], path("app"), NEW),  # search_path of the database, or a schema named after the role
        ([OLD], [OLD], path(), OLD),
        ([], [NEW], path(), NEW),
        ([OLD], [OLD, NEW], path(), OLD),  # a process that was there first, and has no setting
        ([], [OLD, NEW], path("app"), OLD),
        ([], [], path("cell_1", is_set_for_us=True), "cell_1"),
        (["cell_1"], ["cell_1", OLD], path("cell_1", is_set_for_us=True), "cell_1"),
        ([], [NEW], path("cell_2", is_set_for_us=True), "cell_2"),  # a second installation, and not the first
        ([OLD], [OLD], path("app", is_set_for_us=True), OLD),  # search_path = app, public
        ([], [], path(OLD, is_set_for_us=True), NEW),
    ],
)
def test_the_schema_is_where_the_tables_are_or_that_of_a_new_installation(
    on_path: list[str], found: list[str], path: Path, expected: str
) -> None:
    assert decide(Looked(tuple(on_path), tuple(found), path)) == expected


def test_a_search_path_to_nowhere_is_refused() -> None:
    with pytest.raises(UnsuitableServer, match="search_path of the role app names no schema that exists"):
        decide(Looked((), (NEW,), path(None, is_set_for_us=True)))


@pytest.mark.parametrize(
    ("found", "first", "is_empty", "is_said"),
    [
        ((OLD,), "cell_2", True, True),
        ((OLD,), "shop", False, False),  # the application's
        ((), "cell_2", True, False),  # a new installation; decision 90
        ((OLD,), OLD, True, False),
        ((OLD,), None, True, False),
    ],
)
def test_a_search_path_to_an_empty_schema_that_is_not_followed_is_said(
    found: tuple[str, ...], first: str | None, is_empty: bool, is_said: bool
) -> None:
    looked = Looked((), found, Path(first, is_set_for_us=False, role="app", database="shop", is_first_empty=is_empty))
    words = not_followed(looked, decide(looked))
    assert (words is not None) == is_said
    assert (
        words is None
        or "leads to the schema cell_2 of the database shop, where nothing is; this works in public" in words
    )


@pytest.mark.parametrize("name", ["webhook_grpc", "cell_1", "public", "a" * 63])
def test_a_plain_name_is_a_schema(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}DATABASE_SCHEMA", name)
    assert load_database_settings().database_schema == name


@pytest.mark.parametrize(
    "name",
    [
        "Cell",
        "1st",
        "_cell",
        "cell-1",
        'a"b',
        "a;b",
        "a, b",
        "a.b",
        "pg_temp",
        "pg_catalog",
        "information_schema",
        "ü",
        "a" * 64,
    ],
)
def test_a_name_that_needs_quotes_or_is_postgres_own_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}DATABASE_SCHEMA", name)
    with pytest.raises(SettingsError, match="WEBHOOK_DATABASE_SCHEMA: must be"):
        load_database_settings()


def test_no_name_is_as_if_it_was_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}DATABASE_SCHEMA", "")
    assert load_database_settings().database_schema is None

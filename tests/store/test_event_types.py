"""What publishing knows of event types: soon what the table says, by few looks, and something while it is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from tests.support import slowness
from tests.support.store import AUDIT
from webhook_grpc.domain.errors import AlreadyExists, Conflict, FailedPrecondition, QuotaExceeded, Unavailable
from webhook_grpc.domain.model import EventTypeSpec
from webhook_grpc.hub import refreshed_value, type_rules
from webhook_grpc.hub.type_rules import EventTypes, TypeRules
from webhook_grpc.store.db import Database, Params, Row
from webhook_grpc.store.registry import event_types as store
from webhook_grpc.store.registry.event_types import SELECT_TYPE_RULES

SPEC = EventTypeSpec("An order was paid.", None, archived=False)
STRICT = EventTypeSpec("", '{"type":"integer"}', archived=False)


class Table:
    """The table as EventTypes sees it: counts looks, and can be held up or away."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.looks: list[Sequence[Row]] = []
        self.began = asyncio.Semaphore(0)
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.is_away = False
        self.at_the_end: Callable[[], object] = lambda: None

    async def rows(self, statement: Any, params: Params = None) -> list[Row]:
        assert statement is SELECT_TYPE_RULES
        self.began.release()
        rows = await self._database.rows(statement, params)
        await self.may_answer.wait()
        if self.is_away:
            raise Unavailable("STORAGE_UNAVAILABLE", "away")
        self.looks.append(rows)
        self.at_the_end()
        return rows


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock of the cache, moved by hand."""
    now = [1000.0]

    class Time:
        @staticmethod
        def monotonic() -> float:
            now[0] += 1e-6  # no two looks at the same moment
            return now[0]

    monkeypatch.setattr(type_rules, "time", Time)
    monkeypatch.setattr(refreshed_value, "time", Time)
    return now


@pytest.fixture
def table(database: Database) -> Table:
    return Table(database)


@pytest.fixture
def types(table: Table, clock: list[float]) -> EventTypes:
    return EventTypes(table)


# --- rows ------------------------------------------------------------------------------------------------------------


async def test_a_name_is_taken_once(database: Database) -> None:
    created = await asyncio.gather(
        *(store.create(database, "order.paid", SPEC, 100, audit=AUDIT) for _ in range(4)), return_exceptions=True
    )

    assert sum(isinstance(result, AlreadyExists) for result in created) == 3
    assert await store.get(database, "order.paid") in created


async def test_the_quota_can_t_be_passed_together(database: Database) -> None:
    """Seven are built in. Who comes second waits, and then sees what the first has committed."""
    async with database.connection() as first, first.transaction():
        await first.execute(store.LOCK_EVENT_TYPES)
        second = asyncio.create_task(store.create(database, "order.second", SPEC, 8, audit=AUDIT))
        await until_one_waits(database)
        await first.execute("INSERT INTO event_types (event_type, description) VALUES ('order.first', '')")

    with pytest.raises(QuotaExceeded):
        await second
    with pytest.raises(AlreadyExists):
        await store.create(database, "job.completed", SPEC, 8, audit=AUDIT)


async def until_one_waits(database: Database) -> None:
    async with slowness.timeout(20):
        while not await database.rows("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
            await asyncio.sleep(0.005)


async def test_of_two_changes_of_the_same_version_one_wins(database: Database) -> None:
    current = await store.create(database, "order.paid", SPEC, 100, audit=AUDIT)

    changed = await store.update(database, current, STRICT, audit=AUDIT)
    with pytest.raises(Conflict) as caught:
        await store.update(database, current, SPEC, audit=AUDIT)

    assert (changed.version, changed.spec) == (current.version + 1, STRICT)
    assert changed.update_time > current.update_time
    assert caught.value.metadata == {"current_etag": str(changed.version)}
    assert await store.get(database, "order.paid") == changed


async def test_a_list_is_in_the_order_of_names_and_joins(database: Database) -> None:
    names = ["a", "a-b", "a.b", "a_b", "ab", "b.a", "a.b-c", "0"]
    for name in names:
        await store.create(database, name, EventTypeSpec("", None, archived=name == "ab"), 100, audit=AUDIT)

    listed, after = list[str](), ""
    while page := await store.list_page(database, include_archived=True, after=after, limit=2):
        listed += [event_type.event_type for event_type in page]
        after = listed[-1]

    assert [name for name in listed if name in names] == sorted(names)
    assert listed == sorted(listed)
    assert len(listed) == 7 + len(names)
    in_use = await store.list_page(database, include_archived=False, after="", limit=100)
    assert [event_type.event_type for event_type in in_use] == [name for name in listed if name != "ab"]


# --- what is known ---------------------------------------------------------------------------------------------------


async def test_many_look_ups_are_one_look(types: EventTypes, table: Table) -> None:
    found = await asyncio.gather(*(types.rules({"job.completed", "job.failed"}) for _ in range(500)))

    assert len(table.looks) == 1
    assert all(set(rules) == {"job.completed", "job.failed"} for rules in found)
    for _ in range(500):
        await types.rules({"job.completed"})
    assert len(table.looks) == 1


async def test_it_is_looked_again_after_a_second(
    types: EventTypes, table: Table, clock: list[float], database: Database
) -> None:
    created = await store.create(database, "order.paid", SPEC, 100, audit=AUDIT)
    assert not (await types.rules({"order.paid"}))["order.paid"].archived
    await store.update(database, created, EventTypeSpec("", None, archived=True), audit=AUDIT)

    clock[0] += 0.9
    assert not (await types.rules({"order.paid"}))["order.paid"].archived
    clock[0] += 0.2
    assert (await types.rules({"order.paid"}))["order.paid"].archived
    assert len(table.looks) == 2


async def test_a_type_that_is_not_known_is_looked_up_at_once(types: EventTypes, database: Database) -> None:
    assert await types.rules({"order.paid"}) == {}
    await store.create(database, "order.paid", SPEC, 100, audit=AUDIT)
    assert set(await types.rules({"order.paid", "order.lost"})) == {"order.paid"}


async def test_a_type_created_while_a_look_is_under_way_is_known_after_it(
    types: EventTypes, table: Table, database: Database
) -> None:
    """The look has read the table before: its answer does not count for a caller that came later."""
    table.may_answer.clear()
    first = asyncio.create_task(types.rules({"job.completed"}))
    await table.began.acquire()
    await asyncio.sleep(0.05)  # it may or may not have read: both must do
    await store.create(database, "order.paid", SPEC, 100, audit=AUDIT)
    second = asyncio.create_task(types.rules({"order.paid"}))
    await asyncio.sleep(0)
    table.may_answer.set()

    assert set(await second) == {"order.paid"}
    assert set(await first) == {"job.completed"}
    assert len(table.looks) <= 2


async def test_a_caller_that_comes_in_the_moment_in_which_a_look_ends_has_one_made(
    types: EventTypes, table: Table
) -> None:
    """Once such a caller waited for the look that had ended, in a circle, and the process stood still for ever."""
    late = list[asyncio.Task[Mapping[str, TypeRules]]]()

    def arrive() -> None:  # its first step comes after the end of the look and before the callbacks of that
        table.at_the_end = lambda: None
        late.append(asyncio.create_task(types.rules(["never.registered"])))

    table.at_the_end = arrive
    assert "job.completed" in await types.rules(["job.completed"])
    assert await late[0] == {}
    assert len(table.looks) == 2


async def test_a_change_through_this_process_holds_at_once(types: EventTypes, table: Table, database: Database) -> None:
    created = await store.create(database, "order.paid", SPEC, 100, audit=AUDIT)
    await types.rules({"order.paid"})
    await store.update(database, created, EventTypeSpec("", None, archived=True), audit=AUDIT)

    types.changed()

    assert (await types.rules({"order.paid"}))["order.paid"].archived
    assert len(table.looks) == 2


async def test_a_schema_is_read_and_compiled_once_for_each_version(
    types: EventTypes, table: Table, clock: list[float], database: Database
) -> None:
    created = await store.create(database, "order.paid", STRICT, 100, audit=AUDIT)
    first = (await types.rules({"order.paid"}))["order.paid"].schema
    clock[0] += 2
    second = (await types.rules({"order.paid"}))["order.paid"].schema
    await store.update(database, created, EventTypeSpec("", '{"type":"string"}', archived=False), audit=AUDIT)
    clock[0] += 2
    third = (await types.rules({"order.paid"}))["order.paid"].schema

    assert first is not None
    assert first is second
    assert third is not None
    assert third.violations(b'"a"') == []
    schemas = [[row[4] for row in look if row[0] == "order.paid"] for look in table.looks]
    assert schemas == [['{"type":"integer"}'], [None], ['{"type":"string"}']]


async def test_a_schema_that_can_t_be_used_refuses_what_is_published(types: EventTypes, database: Database) -> None:
    """Written by SQL, or admitted by an older version."""
    await store.create(
        database, "order.paid", EventTypeSpec("", '{"$ref":"http://127.0.0.1:9/"}', archived=False), 100, audit=AUDIT
    )

    with pytest.raises(FailedPrecondition, match=r"order\.paid"):
        _ = (await types.rules({"order.paid"}))["order.paid"].schema


# --- when the database is away ---------------------------------------------------------------------------------------


async def test_what_is_known_goes_on_to_hold(types: EventTypes, table: Table, clock: list[float]) -> None:
    await types.rules({"job.completed"})
    table.is_away = True
    for _ in range(100):
        clock[0] += 0.1
        assert set(await types.rules({"job.completed"})) == {"job.completed"}

    tries = 0
    while not table.began.locked():
        await table.began.acquire()
        tries += 1
    assert 2 <= tries <= 12, "it is tried again, but not for every event"
    table.is_away = False
    clock[0] += 2
    await types.rules({"job.completed"})
    assert len(table.looks) == 2


async def test_nobody_is_called_unknown_by_a_database_that_is_away(types: EventTypes, table: Table) -> None:
    await types.rules({"job.completed"})
    table.is_away = True

    for _ in range(2):
        with pytest.raises(Unavailable):
            await types.rules({"order.paid"})


async def test_all_who_wait_for_a_look_share_its_failure(types: EventTypes, table: Table) -> None:
    table.is_away = True

    results = await asyncio.gather(*(types.rules({"order.paid"}) for _ in range(50)), return_exceptions=True)

    assert all(isinstance(result, Unavailable) for result in results)
    tries = 0
    while not table.began.locked():
        await table.began.acquire()
        tries += 1
    assert tries <= 2, "one that was due, one because the type was not known"


async def test_a_database_that_hangs_does_not_hold_up_what_is_known(
    types: EventTypes, table: Table, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refreshed_value, "_WAIT_SECONDS", 0.01)
    await types.rules({"job.completed"})
    table.may_answer.clear()
    clock[0] += 2

    assert set(await types.rules({"job.completed"})) == {"job.completed"}
    table.may_answer.set()


async def test_a_caller_that_gives_up_takes_the_answer_from_nobody(types: EventTypes, table: Table) -> None:
    table.may_answer.clear()
    impatient = asyncio.create_task(types.rules({"job.completed"}))
    patient = asyncio.create_task(types.rules({"job.completed"}))
    await table.began.acquire()
    impatient.cancel()
    await asyncio.gather(impatient, return_exceptions=True)
    table.may_answer.set()

    assert set(await patient) == {"job.completed"}
    assert len(table.looks) == 1

"""The statements of lists are answered from their indexes, in whatever way Postgres plans them.

Explained with the parameters of one call, and as the plan that Postgres may choose once a statement is prepared, which
must serve all. For each place: which index it is read by.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from tests.store.test_query_plans import FILL, day_of_rows, fill, last_event_id
from tests.support.postgres import TestPostgres
from webhook_grpc.domain.filters import AttemptFilter, DeliveryFilter, EventFilter
from webhook_grpc.domain.ids import event_id_time, stored_between
from webhook_grpc.domain.model import DeliveryStatus
from webhook_grpc.store.lists import attempts, deliveries, delivery_statements, events, merged
from webhook_grpc.store.log import lookup

pytestmark = pytest.mark.xdist_group("list plans")  # one process fills the tables

MANY_ATTEMPTS: LiteralString = """
INSERT INTO attempts (shard, seq, created_at, customer_id, webhook_id, event_id, event_type, event_created_at, status,
    attempt_count, outcome, started_at, latency_ms, reason)
SELECT w % 64, w * 100000 + n, now(), 42, w, gen_random_uuid(), 'job.completed', now() - n * interval '10 ms',
    'succeeded', 1, 'succeeded', now(), 5, 'none'
FROM generate_series(1, 40) w, generate_series(1, 2000) n
"""
# With one customer, the key of all events and the index by customer would cost the same.
OF_OTHERS: tuple[LiteralString, ...] = (
    "UPDATE events SET customer_id = 7 WHERE get_byte(uuid_send(event_id), 15) % 8 <> 0",
    "ANALYZE events",
)
PARTITIONS_OF_ATTEMPTS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'attempts'::regclass"
BY_DELIVERY = "webhook_id_event_created_at_event_id_seq_idx"
BY_ENDING = "webhook_id_status_event_created_at_event__idx"
BY_TIME = "webhook_id_created_at_seq_status_outcome__idx"
BY_CUSTOMER = "customer_id_event_id_idx"
PRIMARY_KEY = "pkey"
OUTBOX_KEY = "deliveries_pkey"
NO_EVENT = UUID(int=0)
ONE = DeliveryFilter(None, webhook_ids=(1,))
OWN = DeliveryFilter(42)
ALL = DeliveryFilter(None)


@pytest.fixture(scope="module")
def filled(postgres: TestPostgres) -> TestPostgres:
    """Filled once: the tests only explain."""
    fill(postgres, (MANY_ATTEMPTS, *FILL, *OF_OTHERS))
    return postgres


def indexes(postgres: TestPostgres, statement: LiteralString, parameters: dict[str, Any], mode: str) -> set[str]:
    """The indexes by which the large tables (today's partitions) are read; `sequential` where one is read without."""
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)b", statement)))
    numbered: str = statement.replace("%%", "%")
    for number, name in enumerate(names, 1):
        numbered = numbered.replace(f"%({name})b", f"${number}")
    values = sql.SQL(",").join(sql.Literal(parameters[name]) for name in names)
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(sql.SQL("SET plan_cache_mode = {}").format(sql.SQL(mode)))  # pyright: ignore[reportArgumentType]
        connection.execute(f"PREPARE listing AS {numbered}")  # pyright: ignore[reportArgumentType, reportCallIssue]
        [(plan,)] = connection.execute(sql.SQL("EXPLAIN (FORMAT JSON) EXECUTE listing ({})").format(values)).fetchall()
    today = day_of_rows(postgres)
    found: set[str] = set()

    def visit(node: dict[str, Any]) -> None:
        table: str = node.get("Relation Name", "")
        index: str = node.get("Index Name", "")
        if index.startswith("deliveries") or today in index:
            found.add(index.partition(f"{today}_")[2] or index)
        elif node["Node Type"] == "Seq Scan" and (table == "deliveries" or table.endswith(today)):
            found.add("sequential")
        for child in node.get("Plans", ()):
            visit(child)

    visit(plan[0]["Plan"])
    return found


def deliveries_step(
    wanted: DeliveryFilter, places: Sequence[LiteralString], since: datetime = merged.OLDEST
) -> tuple[LiteralString, dict[str, Any]]:
    statement: LiteralString = merged.wanted_by(wanted.customer_id, wanted.webhook_ids)
    parameters = deliveries.step_parameters(wanted, deliveries.DELIVERIES_START, since, per_webhook=50, step_rows=50)
    return statement + delivery_statements.next_of(places), {**parameters, "endings": ["failed", "expired"]}


def attempts_step(
    wanted: AttemptFilter, place: LiteralString, event_id: UUID = NO_EVENT
) -> tuple[LiteralString, dict[str, Any]]:
    statement: LiteralString = merged.wanted_by(wanted.customer_id, wanted.webhook_ids)
    parameters = attempts.step_parameters(wanted, attempts.ATTEMPTS_START, merged.OLDEST, 50, 50)
    of_event = attempts.event_parameters(event_id, *stored_between(event_id))
    return statement + place + attempts.SELECT_NEXT_ATTEMPTS, {**parameters, **of_event}


def events_step(wanted: EventFilter) -> tuple[LiteralString, dict[str, Any]]:
    return events.statement_for(wanted), events.step_parameters(wanted, events.EVENTS_START, 50)


PLACES: dict[str, tuple[tuple[LiteralString, ...], set[str]]] = {
    "logged": ((delivery_statements.SELECT_LOGGED_DELIVERIES,), {BY_DELIVERY, PRIMARY_KEY}),
    "ended": ((delivery_statements.SELECT_ENDED_DELIVERIES,), {BY_ENDING, BY_DELIVERY, PRIMARY_KEY}),
    "unlogged": ((delivery_statements.SELECT_UNLOGGED_DELIVERIES,), {OUTBOX_KEY, PRIMARY_KEY, BY_DELIVERY}),
    "retried": ((delivery_statements.SELECT_RETRIED_DELIVERIES,), {OUTBOX_KEY, PRIMARY_KEY, BY_DELIVERY}),
}


def rows(last: UUID) -> dict[str, tuple[tuple[LiteralString, dict[str, Any]], set[str]]]:
    """Each statement with parameters of when the last event was stored, and what it reads of that day's partitions."""
    now, an_hour_ago = event_id_time(last), UUID(int=last.int - (3_600_000 << 80))
    keys: dict[str, Any] = {"shards": [1] * 50, "seqs": list(range(1000, 1050)), "times": [now] * 50}
    # In the first hour of a day that is yesterday, whose partitions are not looked at.
    key_of_an_hour_ago = {PRIMARY_KEY} if (now - timedelta(hours=1)).date() == now.date() else set[str]()
    return {
        **{
            f"deliveries: {name}, {whose}": (deliveries_step(wanted, places), expected)
            for name, (places, expected) in PLACES.items()
            for whose, wanted in (("one webhook", ONE), ("a customer", OWN), ("all", ALL))
        },
        "deliveries: a window": (
            deliveries_step(OWN, PLACES["logged"][0], now - timedelta(days=1)),
            {BY_DELIVERY, PRIMARY_KEY},
        ),
        "deliveries: logged rows by their key": ((merged.SELECT_LOG_ROWS, keys), {PRIMARY_KEY}),
        "attempts: one webhook": (attempts_step(AttemptFilter(None, (1,)), attempts.FIND_BY_TIME), {BY_TIME}),
        "attempts: a customer": (attempts_step(AttemptFilter(42), attempts.FIND_BY_TIME), {BY_TIME}),
        "attempts: all": (attempts_step(AttemptFilter(None), attempts.FIND_BY_TIME), {BY_TIME}),
        "attempts: an event": (attempts_step(AttemptFilter(42), attempts.FIND_BY_EVENT, an_hour_ago), {BY_DELIVERY}),
        "attempts: an event that is gone": (
            attempts_step(AttemptFilter(42), attempts.FIND_BY_DELETED_EVENT, an_hour_ago),
            {BY_DELIVERY},
        ),
        "events: a customer": (events_step(EventFilter(42)), {BY_CUSTOMER}),
        "events: a customer, rare type": (events_step(EventFilter(42, ("never.seen",))), {BY_CUSTOMER}),
        "events: a customer, attributes": (events_step(EventFilter(42, attributes={"region": "eu"})), {BY_CUSTOMER}),
        "events: a request": (events_step(EventFilter(42, request_id="order-1")), {PRIMARY_KEY}),
        "events: all": (events_step(EventFilter(None)), {PRIMARY_KEY}),
        "events: by their ids": ((events.SELECT_WHOLE_EVENTS, {"event_ids": [last] * 50}), {PRIMARY_KEY}),
        "GetDelivery": (
            (lookup.SELECT_DELIVERY, lookup.delivery_parameters(None, last, 1)),
            {PRIMARY_KEY, BY_DELIVERY, OUTBOX_KEY},
        ),
        "GetDelivery: of an event that is gone": (
            (lookup.SELECT_DELIVERY_OF_DELETED_EVENT, lookup.delivery_parameters(None, an_hour_ago, 1)),
            {*key_of_an_hour_ago, BY_DELIVERY},
        ),
    }


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_each_place_is_read_by_its_index(filled: TestPostgres, mode: str) -> None:
    wrong = {
        name: found
        for name, ((statement, parameters), expected) in rows(last_event_id(filled)).items()
        if (found := indexes(filled, statement, parameters, mode)) != expected
    }
    assert wrong == {}


async def test_a_window_skips_the_partitions_outside(filled: TestPostgres) -> None:
    """Nothing is logged before its event is stored."""
    days = [name[-8:] for (name,) in filled.rows(PARTITIONS_OF_ATTEMPTS)]
    today = datetime.now(UTC)
    for since, expected in ((today, sum(day >= f"{today:%Y%m%d}" for day in days)), (merged.OLDEST, len(days))):
        statement, parameters = deliveries_step(ONE, PLACES["logged"][0], since)
        parameters["logged_from"] = since
        with psycopg.connect(filled.url) as connection:
            [(plan,)] = connection.execute(
                f"EXPLAIN (FORMAT JSON) {statement}",  # pyright: ignore[reportArgumentType]
                parameters,
            ).fetchall()
        tables = set(re.findall(r"'Relation Name': '(attempts_\d+)'[^{}]*'Alias': 'a_", str(plan)))
        assert len(tables) == expected


def test_every_status_has_a_place() -> None:
    """A status that is neither success nor pending must be in the index of endings."""
    assert set(DeliveryStatus) - {DeliveryStatus.PENDING, DeliveryStatus.SUCCEEDED} == deliveries.ENDINGS
    assert all(f"'{status.value}'" in delivery_statements.SELECT_ENDED_DELIVERIES for status in deliveries.ENDINGS)

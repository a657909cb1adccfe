"""Erasing a customer: nothing of it is left, nothing of anybody else is touched, and the log has no hole."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest

from tests.support.past import Past, noon
from tests.support.postgres import TestPostgres, dump
from tests.support.store import (
    AUDIT,
    CUSTOMER,
    new_event,
    new_webhook,
    new_worker,
    pending,
    publish,
    succeeded,
)
from webhook_grpc.domain.access import Role
from webhook_grpc.domain.cursor import Position
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.filters import DeliveryFilter
from webhook_grpc.domain.ids import INT64_MAX
from webhook_grpc.domain.model import DeliveryStatus
from webhook_grpc.domain.retention import RetentionPolicy
from webhook_grpc.domain.retry import Decision
from webhook_grpc.domain.sealing import Sealer
from webhook_grpc.domain.settlement import Settlement
from webhook_grpc.domain.tokens import TokenQuota, TokenSpec, hash_of
from webhook_grpc.engine.duties.clear_sealing import ClearSealing
from webhook_grpc.engine.duties.janitor import Janitor
from webhook_grpc.store.db import Database, LoopConnection
from webhook_grpc.store.lists.deliveries import DELIVERIES_START, list_deliveries
from webhook_grpc.store.lists.pages import PageBounds
from webhook_grpc.store.log import feed, lookup
from webhook_grpc.store.outbox.settlement import settle
from webhook_grpc.store.ownership import leases
from webhook_grpc.store.registry import tokens
from webhook_grpc.store.upkeep import erasure
from webhook_grpc.store.upkeep.erasure import Erasure, ErasureProgress

OTHER = CUSTOMER + 1
CANARY = "canary"
BEGINNING: Position = (0,) * 64
END: Position = (INT64_MAX,) * 64


class Owner:
    """A process that owns every shard."""

    def __init__(self, connection: LoopConnection) -> None:
        self._connection = connection
        self._worker = new_worker()

    async def start(self) -> Owner:
        await leases.register(self._connection, self._worker, 60)
        self._shards = await leases.take(self._connection, self._worker, 64)
        return self

    async def settle(self, *batch: Settlement) -> None:
        answer = await settle(self._connection, self._worker, self._shards, batch)
        for shard, last_seq in answer.last_seqs.items():
            self._shards[shard].last_seq = last_seq


@pytest.fixture
async def owner(connection: LoopConnection) -> Owner:
    return await Owner(connection).start()


async def finish(database: Database, running: Erasure, rounds: int = 100) -> None:
    """Advances until it is complete."""
    for _ in range(rounds):
        if (await erasure.advance(database, running)).progress is ErasureProgress.COMPLETE:
            return
    raise AssertionError("not complete")


async def canary_webhook(database: Database, customer_id: int = CUSTOMER) -> int:
    """One that has the canary wherever a customer may put something."""
    return await new_webhook(
        database,
        customer_id=customer_id,
        name=f"{CANARY} name",
        url=f"https://{CANARY}.example.com/",
        headers={"X-Canary": CANARY},
        labels={CANARY: CANARY},
        description=CANARY,
    )


async def canary_history(connection: LoopConnection, owner: Owner, customer_id: int = CUSTOMER) -> UUID:
    """A delivery that was answered."""
    event = new_event(
        customer_id=customer_id, data=f'"{CANARY}"'.encode(), attributes={CANARY: CANARY}, request_id=f"{CANARY}-1"
    )
    for delivery in pending(await publish(connection, event)):
        settled = succeeded(delivery)
        assert settled.result is not None
        object.__setattr__(settled.result, "response_body", CANARY.encode())
        object.__setattr__(settled.result, "response_headers", {"server": CANARY})
        await owner.settle(Settlement(delivery, settled.decision, settled.result, own_headers=("X-Canary",)))
    return event.event_id


async def test_afterwards_a_dump_of_the_database_holds_nothing_of_the_customer(
    database: Database, connection: LoopConnection, owner: Owner, past: Past, postgres: TestPostgres
) -> None:
    webhook_id = await canary_webhook(database)
    await canary_history(connection, owner)
    day = await past.day(20)
    past.attempt(webhook_id, past.event(day, data=f'"{CANARY}"'.encode()), day, 10**6, response_body=CANARY.encode())
    postgres.rows("INSERT INTO webhook_health (webhook_id, breaker) VALUES (%s, 'open')", [webhook_id])
    postgres.rows(
        "INSERT INTO replays (customer_id, webhook_ids, event_types, statuses, include_undelivered, start_time,"
        " end_time, position, request_id) VALUES (%s, '{}', %s, '{}', false, now(), now(), gen_random_uuid(), %s)",
        (CUSTOMER, [CANARY], CANARY),
    )
    spec = TokenSpec(Role.VIEWER, frozenset({CUSTOMER}), CANARY)
    await tokens.create(database, spec, hash_of(b"secret"), TokenQuota(10, 10), audit=AUDIT)
    assert dump(postgres.url).count(CANARY) > 15

    await finish(database, await erasure.request(database, CUSTOMER, audit=AUDIT))

    text = dump(postgres.url)
    assert CANARY not in text
    assert "X-Canary" not in text
    for table in ("webhooks", "events", "idempotency_keys", "replays", "webhook_health", "deliveries", "tokens"):
        count = postgres.rows(f"SELECT count(*) FROM {table}")  # noqa: S608 # pyright: ignore[reportArgumentType]
        assert count == [(0,)], table
    [(customer_id, completed)] = postgres.rows("SELECT customer_id, completed_at IS NOT NULL FROM erasures")
    assert (customer_id, completed) == (CUSTOMER, True), "the tombstone"


async def test_other_customers_keep_everything(
    database: Database, connection: LoopConnection, owner: Owner, postgres: TestPostgres
) -> None:
    for customer_id in (CUSTOMER, OTHER):
        await canary_webhook(database, customer_id)
        await canary_history(connection, owner, customer_id)
    theirs = f"SELECT * FROM attempts WHERE customer_id = {OTHER}"  # noqa: S608
    before = dump(postgres.url).count(CANARY), postgres.rows(theirs)  # pyright: ignore[reportArgumentType]

    await finish(database, await erasure.request(database, CUSTOMER, audit=AUDIT))

    assert dump(postgres.url).count(CANARY) == before[0] / 2
    assert postgres.rows(theirs) == before[1]  # pyright: ignore[reportArgumentType]
    assert len(before[1]) == 1


async def test_the_log_keeps_its_numbers_and_times_and_nothing_else(
    database: Database, connection: LoopConnection, owner: Owner, postgres: TestPostgres
) -> None:
    for customer_id in (CUSTOMER, OTHER):
        await canary_webhook(database, customer_id)
    for _ in range(3):
        for customer_id in (CUSTOMER, OTHER):
            await publish_and_answer(connection, owner, customer_id)
    places = "SELECT shard, seq, created_at FROM attempts ORDER BY 1, 2"
    before = postgres.rows(places)

    await finish(database, await erasure.request(database, CUSTOMER, audit=AUDIT))

    assert postgres.rows(places) == before
    erased = postgres.rows(
        "SELECT customer_id, webhook_id, event_id, event_type, event_created_at = created_at, status, attempt_count,"
        " num_nonnulls(next_due_at, outcome, trigger, started_at, latency_ms, reason, response_status, response_body,"
        " replay_id, own_headers, response_headers) FROM attempts WHERE status = 'erased'"
    )
    assert erased == [(0, 0, UUID(int=0), "", True, "erased", 0, 0)] * 3
    changes = await feed.read(database, BEGINNING, END)
    admitted = [change for change in changes if DeliveryFilter(None).admits(change.delivery)]
    assert len(changes) == len(before)
    assert [change.delivery.customer_id for change in admitted] == [OTHER] * 3
    assert feed.advanced(BEGINNING, changes) == (await feed.end_position(database))[0]
    assert postgres.rows("SELECT count(*) FROM webhook_logs") == [(3,)]
    listed = (await list_deliveries(database, DeliveryFilter(None), DELIVERIES_START, PageBounds(10, 10**6))).items
    assert {delivery.customer_id for delivery in listed} == {OTHER}


async def publish_and_answer(connection: LoopConnection, owner: Owner, customer_id: int) -> None:
    await owner.settle(*map(succeeded, pending(await publish(connection, new_event(customer_id=customer_id)))))


async def test_what_is_pending_is_waited_for_and_its_ending_is_erased_too(
    database: Database, connection: LoopConnection, owner: Owner, postgres: TestPostgres
) -> None:
    """A request that is under way, or what the owner has not cancelled yet: only the owner may end it."""
    webhook_id = await canary_webhook(database)
    in_flight, waiting = pending(await publish(connection, new_event(), new_event()))
    running = await erasure.request(database, CUSTOMER, audit=AUDIT)

    advance = await erasure.advance(database, running)
    assert (advance.progress, advance.deleted_webhook_ids) == (ErasureProgress.WAITING, [webhook_id])
    await owner.settle(Settlement(waiting, Decision(DeliveryStatus.CANCELLED), None))
    advance = await erasure.advance(database, running)
    assert (advance.progress, advance.deleted_webhook_ids) == (ErasureProgress.WAITING, [])
    assert postgres.rows("SELECT count(*) FROM events") == [(2,)], "nothing is removed before"
    await owner.settle(succeeded(in_flight))
    await finish(database, running)

    assert postgres.rows("SELECT status FROM attempts") == [("erased",)] * 2


async def test_a_late_result_for_an_erased_customer_changes_nothing(
    database: Database, connection: LoopConnection, owner: Owner, postgres: TestPostgres
) -> None:
    await canary_webhook(database)
    [delivery] = pending(await publish(connection, new_event()))
    await owner.settle(succeeded(delivery))
    await finish(database, await erasure.request(database, CUSTOMER, audit=AUDIT))
    before = dump(postgres.url)

    await owner.settle(succeeded(delivery))

    assert dump(postgres.url) == before


async def test_commands_are_withdrawn(database: Database, postgres: TestPostgres) -> None:
    webhook_id = await canary_webhook(database)
    other_id = await canary_webhook(database, OTHER)
    for customer_id, of in ((CUSTOMER, webhook_id), (OTHER, other_id)):
        postgres.rows(
            "INSERT INTO commands VALUES (%s %% 64, %s, gen_random_uuid(), 'retry', %s, NULL, now())",
            (of, of, customer_id),
        )

    await finish(database, await erasure.request(database, CUSTOMER, audit=AUDIT))

    assert postgres.rows("SELECT webhook_id FROM commands") == [(other_id,)]


async def test_what_a_statement_that_began_before_commits_is_waited_for(
    database: Database, past: Past, postgres: TestPostgres
) -> None:
    """A publication that takes long: its time, now(), is before the request."""
    await past.day(1)
    async with await psycopg.AsyncConnection.connect(postgres.url) as late:
        await late.execute("SELECT now()")
        running = await erasure.request(database, CUSTOMER, audit=AUDIT)
        assert (await erasure.advance(database, running)).progress is ErasureProgress.WAITING
        await late.execute(
            "INSERT INTO idempotency_keys VALUES (%s, %s, gen_random_uuid(), 1, now())", (CUSTOMER, CANARY)
        )
        assert (await erasure.advance(database, running)).progress is ErasureProgress.WAITING
    await finish(database, running)
    assert CANARY not in dump(postgres.url)


async def test_a_transaction_that_never_ends_is_not_waited_for_for_ever(
    database: Database, postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await psycopg.AsyncConnection.connect(postgres.url) as late:
        await late.execute("SELECT now()")
        running = await erasure.request(database, CUSTOMER, audit=AUDIT)
        assert (await erasure.advance(database, running)).progress is ErasureProgress.WAITING
        monkeypatch.setattr(erasure, "LATE_SECONDS_MAX", -1)
        assert (await erasure.advance(database, running)).progress is ErasureProgress.COMPLETE


async def test_what_comes_after_the_request_is_kept_until_it_is_asked_for_anew(
    database: Database, connection: LoopConnection, owner: Owner, postgres: TestPostgres
) -> None:
    await canary_webhook(database)
    await canary_history(connection, owner)
    running = await erasure.request(database, CUSTOMER, audit=AUDIT)
    await erasure.advance(database, running)
    new_id = await new_webhook(database)
    [delivery] = pending(await publish(connection, new_event(request_id="new")))
    await finish(database, running)

    assert postgres.rows("SELECT id, status FROM webhooks") == [(new_id, "active")]
    await owner.settle(succeeded(delivery))
    found = await lookup.get_delivery(database, CUSTOMER, delivery.event_id, new_id)
    assert found.status is DeliveryStatus.SUCCEEDED
    assert CANARY not in dump(postgres.url)

    await finish(database, await erasure.request(database, CUSTOMER, audit=AUDIT))
    assert postgres.rows("SELECT count(*) FROM webhooks") == postgres.rows("SELECT count(*) FROM events") == [(0,)]


async def test_an_erasure_that_was_asked_for_anew_is_not_completed_by_the_first(
    database: Database, postgres: TestPostgres
) -> None:
    first = await erasure.request(database, CUSTOMER, audit=AUDIT)
    second = await erasure.request(database, CUSTOMER, audit=AUDIT)
    assert (await erasure.advance(database, first)).progress is ErasureProgress.MORE
    assert await erasure.running(database) == [second]
    await finish(database, second)
    assert await erasure.running(database) == []
    assert postgres.rows("SELECT count(*) FROM erasures") == [(1,)]


async def test_two_at_once_and_many_batches_come_to_the_same_end(
    database: Database,
    connection: LoopConnection,
    owner: Owner,
    postgres: TestPostgres,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("LOG_ROWS_PER_BATCH", "EVENTS_PER_BATCH", "KEYS_PER_BATCH"):
        monkeypatch.setattr(erasure, name, 3)
    for _ in range(3):
        await canary_webhook(database)
    events = [new_event(request_id=f"{CANARY}-{number}", data=f'"{CANARY}"'.encode()) for number in range(10)]
    await owner.settle(*map(succeeded, pending(await publish(connection, *events))))
    running = await erasure.request(database, CUSTOMER, audit=AUDIT)

    await asyncio.gather(*(finish(database, running) for _ in range(2)))

    assert CANARY not in dump(postgres.url)
    assert postgres.rows("SELECT status, count(*) FROM attempts GROUP BY 1") == [("erased", 30)]


async def test_webhooks_that_were_deleted_long_before_are_erased_with_their_history(
    database: Database, past: Past, postgres: TestPostgres
) -> None:
    webhook_id = await canary_webhook(database)
    postgres.rows("UPDATE webhooks SET status = 'deleted', updated_at = now() - interval '20 days'")
    day = await past.day(20)
    past.attempt(webhook_id, past.event(day), day, 1, response_body=CANARY.encode())

    advance = await erasure.advance(database, running := await erasure.request(database, CUSTOMER, audit=AUDIT))

    assert advance.deleted_webhook_ids == []
    await finish(database, running)
    assert CANARY not in dump(postgres.url)
    assert postgres.rows("SELECT seq, created_at FROM attempts") == [(1, noon(day) + timedelta(milliseconds=1))]


async def test_what_an_open_transaction_brought_in_later_is_erased_by_the_next_call(
    database: Database, postgres: TestPostgres
) -> None:
    """As docs/sql.md says. By then the webhook is gone, and nobody finds what waits for it."""
    await new_webhook(database)
    async with await psycopg.AsyncConnection.connect(postgres.url) as application:
        await application.execute("SELECT publish_event(%s, 'job.completed', '{}')", [CUSTOMER])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(erasure, "LATE_SECONDS_MAX", 0)  # as ten minutes later
            await finish(database, await erasure.request(database, CUSTOMER, audit=AUDIT))

    await finish(database, await erasure.request(database, CUSTOMER, audit=AUDIT))

    assert postgres.rows("SELECT event_id FROM events") == []
    assert postgres.rows("SELECT event_id FROM deliveries") == []


async def test_a_customer_that_can_not_be_erased_holds_up_no_other(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await erasure.request(database, CUSTOMER, audit=AUDIT)
    await erasure.request(database, OTHER, audit=AUDIT)
    advance = erasure.advance

    async def failing(database: Database, running: Erasure) -> erasure.Advance:
        if running.customer_id == CUSTOMER:
            raise Unavailable("STORAGE_UNAVAILABLE", "too slow")
        return await advance(database, running)

    monkeypatch.setattr(erasure, "advance", failing)
    janitor = Janitor(
        database,
        RetentionPolicy(30, 30, 168, 400),
        lambda: True,
        lambda _: None,
        ClearSealing(database, Sealer([bytes(32)])),
    )
    for _ in range(4):
        with contextlib.suppress(Unavailable):
            await janitor.erase_customers()
    assert [left.customer_id for left in await erasure.running(database)] == [CUSTOMER]

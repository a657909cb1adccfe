"""Everything that can happen to the store: customers and producers beside the workers; and what holds always."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Final
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from tests.support.store import AUDIT, new_event, new_webhook, pending
from webhook_grpc.domain.filters import DeliveryFilter
from webhook_grpc.domain.model import NewEvent, Published, Webhook, WebhookSpec
from webhook_grpc.store.outbox import due as due_rows
from webhook_grpc.store.outbox import publishing
from webhook_grpc.store.outbox.due import FetchRequest
from webhook_grpc.store.outbox.publishing import PublishedBatch
from webhook_grpc.store.ownership import leases
from webhook_grpc.store.ownership.leases import OwnedShard
from webhook_grpc.store.registry import webhooks

from . import invariants
from .delivering import ACTIVE, DELETED, DISABLED, PAUSED, POLICY
from .looking import BEGINNING, CUSTOMERS, PATTERNS, TYPES, USED_SHARDS, WHICH, pick
from .model.outbox import EventTakenError
from .model.registry import NOT_DELETED
from .model.rows import SHARDS, PublishAnswer, State
from .noting import Noting
from .owning import Worker, key_of, mark_of
from .real import RealStore

CHANGES: Final = {
    "pause": (PAUSED, (ACTIVE,)),
    "resume": (ACTIVE, (PAUSED, DISABLED)),
    "disable": (DISABLED, (ACTIVE, PAUSED)),
    "delete": (DELETED, (ACTIVE, PAUSED, DISABLED)),
}
WEBHOOKS_MAX: Final = 6
SOME_PATTERNS: Final = st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=2, unique=True).map(tuple[str, ...])


@dataclass(frozen=True)
class Wish:
    """An event that a producer wants to publish."""

    event_type: str
    customer_id: int
    request_id: str | None
    content: int


WISHES: Final = st.builds(
    Wish,
    st.sampled_from(("job.completed", *TYPES)),
    st.sampled_from((CUSTOMERS[0], *CUSTOMERS)),
    st.sampled_from((None, None, "a", "b", "c")),
    st.sampled_from((1, 1, 1, 2)),
)


class StoreMachine(Noting):
    """The whole store. The list of all deliveries, which costs the most, is read after every `listed_every`-th step."""

    listed_every: ClassVar[int] = 1

    def __init__(self, store: RealStore) -> None:
        super().__init__(store)
        self.event_count = 0
        self.step_count = 0
        self.publications: list[list[NewEvent]] = []

    @initialize(
        others=st.lists(st.tuples(SOME_PATTERNS, st.sampled_from(["resume", "pause", "disable", "delete"])), max_size=2)
    )
    def begin(self, others: list[tuple[tuple[str, ...], str]]) -> None:
        """Somebody who lives long has the shards that are not used here. There is something to do from the start."""
        rest = Worker(self.rest, mark_of(self.rest))
        self._register(rest, 30 * 86_400)
        self._take(rest, SHARDS)
        used = {shard: OwnedShard(1, 0) for shard in USED_SHARDS}
        self.run(leases.release(self.store.connection, self.rest, used))
        self.model.release(self.rest, used)
        self.create_webhook(CUSTOMERS[0], ("*",))
        for number, (patterns, change) in enumerate(others, 1):
            self.create_webhook(CUSTOMERS[0], patterns)
            self.change_status(number, change, 1)
        self.start_worker()
        self.take_shards(0, 0, set(USED_SHARDS), is_heard=True)
        self.publish([Wish(event_type, CUSTOMERS[0], None, 1) for event_type in TYPES], 0)

    # --- customers -------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.model.webhooks) < WEBHOOKS_MAX)
    @rule(customer_id=st.sampled_from(CUSTOMERS), patterns=SOME_PATTERNS)
    def create_webhook(self, customer_id: int, patterns: tuple[str, ...]) -> None:
        depth, number = divmod(len(self.model.webhooks), len(USED_SHARDS))
        self.store.next_webhook_id(USED_SHARDS[number] + 64 * depth)
        webhook_id = self.run(new_webhook(self.store.database, customer_id=customer_id, events=patterns))
        self.model.create_webhook(self._created(webhook_id, customer_id, patterns))

    def _created(self, webhook_id: int, customer_id: int, patterns: tuple[str, ...]) -> Webhook:
        """As `new_webhook` makes it."""
        return Webhook(
            webhook_id, customer_id, "test", "https://example.com/", b"sealed", "hint", patterns, ACTIVE, "",
            None, None, None, None, {}, {}, "", 1, self.model.now, self.model.now,
        )  # fmt: skip

    @rule(
        which=WHICH, change=st.sampled_from(["pause", "resume", "resume", "disable", "delete"]), seen=st.integers(-1, 1)
    )
    def change_status(self, which: int, change: str, seen: int) -> None:
        """The caller may name the version that he saw: the newest, or the one before (-1)."""
        webhook_id = pick(list(self.model.webhooks), which)
        status, from_statuses = CHANGES[change]
        [current] = self.run(webhooks.by_ids(self.store.connection, [webhook_id]))
        version = None if seen > 0 or change == "resume" else current.version + seen
        expected = self.model.refusal(webhook_id, from_statuses, version)
        if change == "resume":
            call = webhooks.resume(self.store.database, current, audit=AUDIT)
            changed = self.model.reopen_webhook(webhook_id)
            changed = changed or self.model.set_webhook_status(webhook_id, status, from_statuses)
        else:
            reason = f"to {change} it"
            call = webhooks.set_status(
                self.store.database, current, status, from_statuses, audit=AUDIT, reason=reason, version=version
            )
            changed = self.model.set_webhook_status(webhook_id, status, from_statuses, reason=reason, version=version)
        assert self.error_of(call) == expected
        assert (changed is None) == (expected is not None)
        if self.model.webhooks[webhook_id].status is DELETED:
            assert self.error_of(webhooks.resume(self.store.database, current, audit=AUDIT)) == "NotFound"

    @rule(which=WHICH, patterns=SOME_PATTERNS, seen=st.integers(-1, 0))
    def change_patterns(self, which: int, patterns: tuple[str, ...], seen: int) -> None:
        webhook_id = pick(list(self.model.webhooks), which)
        [current] = self.run(webhooks.by_ids(self.store.connection, [webhook_id]))
        version = current.version + seen
        spec = WebhookSpec(current.name, f"https://example.com/{version}", patterns, max_in_flight=version)
        error = self.error_of(
            webhooks.update(self.store.database, replace(current, version=version), spec, audit=AUDIT)
        )
        assert error == self.model.refusal(webhook_id, NOT_DELETED, version)
        self.model.update_webhook(webhook_id, version, spec)

    @rule()
    def follow_the_webhooks(self) -> None:
        """As the engine does."""
        changed = self.run(webhooks.changed_lately(self.store.connection))
        assert changed == self.model.changed_lately()
        found = self.run(webhooks.by_ids(self.store.connection, changed))
        assert {webhook.webhook_id: webhook for webhook in found} == {
            webhook_id: self.model.webhooks[webhook_id] for webhook_id in changed
        }

    # --- producers -------------------------------------------------------------------------------------------------

    @rule(wishes=st.lists(WISHES, min_size=1, max_size=4), which=WHICH)
    def publish(self, wishes: list[Wish], which: int) -> None:
        """By way of a worker, who takes its own deliveries in from memory; or of a process that owns nothing."""
        worker = pick([None, *self.workers], which)
        own_shards = set(worker.shards) if worker else set[int]()
        events = [self._event(wish) for wish in wishes]
        batch = self.run(publishing.publish(self.store.connection, events, own_shards))
        self._published(events, batch, own_shards)
        self.publications.append(events)
        if worker and self.model.is_alive(worker.worker_id):
            worker.held |= dict(sorted((key_of(delivery), delivery) for delivery in pending(batch)))

    @precondition(lambda self: bool(self.publications))
    @rule(which=WHICH)
    def publish_once_more(self, which: int) -> None:
        """As a process does that did not hear the answer: nothing is stored, and it hears what it missed."""
        events = pick(self.publications[::-1], which)
        if not all(event.event_id in self.model.kept or event.request_id is not None for event in events):
            return
        batch = self.run(publishing.publish(self.store.connection, events, SHARDS))
        try:
            expected = self.model.publish(events)
        except EventTakenError:
            expected = [self.model.stored(event.event_id) or self.model.published_before(event) for event in events]
        self._answered(batch, expected)
        assert not batch.new

    @rule(wish=WISHES)
    def publish_twice_at_the_same_time(self, wish: Wish) -> None:
        """As a client does that did not wait for its first answer: one event for one request id."""
        first = self._event(replace(wish, request_id=wish.request_id or "d"))
        second = replace(first, event_id=UUID(int=first.event_id.int + 1))

        async def both() -> list[PublishedBatch]:
            connections = self.store.connection, self.store.second_connection
            return await asyncio.gather(
                *(publishing.publish(c, [e], SHARDS) for c, e in zip(connections, (first, second), strict=True))
            )

        calls = list(zip((first, second), self.run(both()), strict=True))
        for event, batch in sorted(calls, key=lambda call: not call[1].new):  # whoever won came first
            self._published([event], batch, set(SHARDS))

    def _published(self, events: Sequence[NewEvent], batch: PublishedBatch, own_shards: set[int]) -> None:
        expected = self.model.publish(events)
        self._answered(batch, expected)
        new = [event for event, right in zip(events, expected, strict=True) if right and not right.duplicate]
        assert [made.event for made in batch.new] == new
        for made in batch.new:
            matched = self.model.matched[made.event.event_id]
            assert sorted(made.own_webhook_ids) == sorted(w for w in matched if w % 64 in own_shards)
            assert sorted(made.other_shards) == sorted({w % 64 for w in matched} - own_shards)
            assert made.create_time == self.model.now

    @staticmethod
    def _answered(batch: PublishedBatch, expected: Sequence[PublishAnswer | None]) -> None:
        for answer, right in zip(batch.answers, expected, strict=True):
            if isinstance(answer, Published):
                seen = PublishAnswer(answer.event_id, answer.delivery_count, answer.duplicate, answer.create_time)
                assert seen == right
            else:
                assert (type(answer).__name__, right) == ("AlreadyExists", None)

    def _event(self, wish: Wish) -> NewEvent:
        """Ids are not in the order of publication, because those of several processes are not."""
        self.event_count += 1
        millis = int(self.model.now.timestamp() * 1000)
        scrambled = self.event_count * 0x9E3779B97F4A7C15 % 2**60
        return new_event(
            event_id=UUID(int=millis << 80 | 7 << 76 | 2 << 62 | scrambled & ~1),
            event_type=wish.event_type,
            customer_id=wish.customer_id,
            request_id=wish.request_id,
            fingerprint=wish.content,
            data=str(wish.content).encode(),
            traceparent=f"00-{self.event_count:032x}-{wish.content:016x}-01" if self.event_count % 2 else None,
        )

    @rule(which=WHICH)
    def retention_drops_an_event(self, which: int) -> None:
        """One of those that nobody is sending or holds in memory."""
        sending = {key_of(item.delivery)[1] for worker in self.workers for item in worker.results}
        holding = {event_id for worker in self.workers for _, event_id in worker.held}
        droppable = [event for event in self.model.events if event in self.model.kept - sending - holding]
        if droppable:
            event_id = pick(droppable, which)
            self.store.sql("DELETE FROM events WHERE event_id = %s", event_id)
            self.model.drop_event(event_id)

    # --- after each step -------------------------------------------------------------------------------------------

    @invariant()
    def the_tables_are_as_the_model_says(self) -> None:
        real, expected = self.store.state(), self.model.state()
        invariants.check(real, self.model.matched, POLICY.delays_seconds)
        for table in fields(State):
            assert getattr(real, table.name) == getattr(expected, table.name), table.name

    @invariant()
    def everybody_sees_every_delivery_as_it_stands(self) -> None:
        self.step_count += 1
        if self.step_count % self.listed_every:
            return
        standings = self.model.standings()
        listed = self._listed(DeliveryFilter(None), len(standings) // 2 or 1)
        assert listed == standings, (set(listed) ^ set(standings), len(listed), len(standings))

    @invariant()
    def whatever_is_due_is_found(self) -> None:
        """I11: no row is stuck, whoever had it. I5: none is found before its time."""
        found = self.run(due_rows.discover(self.store.connection, SHARDS))
        seen = [(row.webhook_id, row.customer_id, row.status, row.event_id, row.is_due) for row in found]
        assert len(seen) == len(set(seen))
        assert sorted(seen) == self.model.discover(SHARDS)
        requests = [FetchRequest(row.webhook_id % 64, row.webhook_id, 1000, BEGINNING, 0.0) for row in found]
        due = sorted(row for row in self.model.pending_rows() if row.due_at <= self.model.now)
        assert self.fetched(requests) == [row for row in due if not row.is_replay]
        replays = self.run(due_rows.replaying(self.store.connection, SHARDS))
        rooms = [(webhook_id % 64, webhook_id, 1000) for webhook_id, _ in replays]
        assert sorted(replays) == self.model.replaying(SHARDS)
        assert self.fetched_replays(rooms) == [row for row in due if row.is_replay]

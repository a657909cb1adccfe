"""Steps that change nothing: whoever looks, from wherever, sees what the model says."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from tests.support.store import CUSTOMER
from webhook_grpc.domain.cursor import Position
from webhook_grpc.domain.errors import WebhookError
from webhook_grpc.domain.filters import AttemptFilter, DeliveryFilter
from webhook_grpc.domain.ids import INT64_MAX
from webhook_grpc.domain.model import Delivery, DeliveryStatus, Trigger
from webhook_grpc.store.lists import attempts as attempt_lists
from webhook_grpc.store.lists import deliveries
from webhook_grpc.store.lists.attempts import AttemptKey
from webhook_grpc.store.lists.deliveries import DeliveryKey
from webhook_grpc.store.lists.pages import PageBounds
from webhook_grpc.store.log import feed, lookup
from webhook_grpc.store.log.rows import Change
from webhook_grpc.store.outbox import due as due_rows
from webhook_grpc.store.outbox.due import FetchRequest, FoundRow

from .model.outbox import is_match
from .model.rows import SHARDS, LogRow, OutboxRow, Standing
from .model.store import StoreModel
from .real import RealStore

T = TypeVar("T")

# The start of an example, within the partitions that there are. It moves on by days at most.
START: Final = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
BEGINNING: Final = datetime(2000, 1, 1, tzinfo=UTC)
NO_END: Final[Position] = (INT64_MAX,) * len(SHARDS)
FAR_AHEAD_SECONDS: Final = 400 * 86_400.0
USED_SHARDS: Final = (1, 2, 3)  # few, so that webhooks share one
CUSTOMERS: Final = (CUSTOMER, CUSTOMER + 1)
TYPES: Final = ("job.completed", "job.failed", "job", "jobs.completed", "job.a.b", "alert.triggered")
PATTERNS: Final = ("*", "job.*", "job.completed", "job.a.*", "alert.triggered", "nothing.*")
WHICH: Final = st.integers(0, 11)  # picks one of what there is


def pick(candidates: Sequence[T], which: int) -> T:
    """One of them, the same in every run."""
    return candidates[which % len(candidates)]


def standing_of(delivery: Delivery) -> Standing:
    """A delivery as the store shows it."""
    attempt = delivery.last_attempt
    assert attempt is None or attempt.attempt_number == delivery.attempt_count
    return Standing(
        delivery.create_time, delivery.event_id, delivery.webhook_id, delivery.customer_id, delivery.event_type,
        delivery.status, delivery.attempt_count, delivery.next_attempt_time, delivery.update_time,
        attempt.outcome.value if attempt else None, attempt.start_time if attempt else None,
    )  # fmt: skip


def log_row_of(change: Change) -> LogRow:
    """A row of the log as the feed shows it."""
    seen, attempt = standing_of(change.delivery), change.delivery.last_attempt
    return LogRow(
        change.shard, change.seq, seen.update_time, seen.customer_id, seen.webhook_id, seen.event_id, seen.event_type,
        seen.create_time, seen.status, seen.attempt_count, seen.next_due_at, seen.outcome, seen.start_time,
        attempt.reason.name.lower() if attempt else None, attempt.response_status if attempt else None,
        change.delivery.trigger.value, change.delivery.replay_id,
    )  # fmt: skip


def outbox_row_of(row: FoundRow) -> OutboxRow:
    """A row of the outbox as it was read."""
    trigger = None if row.trigger is Trigger.SCHEDULED else row.trigger.value
    return OutboxRow(
        row.webhook_id, row.due_at, row.event_id, row.attempt, row.customer_id, row.danger, trigger, row.replay_id
    )


class Looking(RuleBasedStateMachine):
    """The store, its model, and a watcher who never misses a change."""

    def __init__(self, store: RealStore) -> None:
        super().__init__()
        self.store = store
        self.model = StoreModel(START, believed_at=START)
        self.watcher: Position = (0,) * len(SHARDS)
        self.watched: list[LogRow] = []
        self.was_clock_set_back = False
        store.reset(START)

    def run(self, statement: Coroutine[Any, Any, T]) -> T:
        return self.store.run(statement)

    def error_of(self, statement: Coroutine[Any, Any, object]) -> str | None:
        """The name of the error that it raises."""
        try:
            self.run(statement)
        except WebhookError as error:
            return type(error).__name__
        return None

    # --- the log ---------------------------------------------------------------------------------------------------

    @rule()
    def watch(self) -> None:
        """I13: what a watcher gets in portions is the log, without a gap and in order."""
        while changes := self.run(feed.read(self.store.connection, self.watcher, NO_END)):
            assert len(changes) <= feed.ROWS_MAX
            assert changes[0].seq > self.watcher[changes[0].shard], "the log does not go on"
            self.watcher = feed.advanced(self.watcher, changes)
            self.watched += map(log_row_of, changes)
        assert sorted(self.watched) == self.model.state().log
        self._assert_in_order(self.watched)

    @rule(skipped=st.tuples(WHICH, WHICH, WHICH), length=st.tuples(WHICH, WHICH, WHICH))
    def read_from_anywhere(self, skipped: tuple[int, ...], length: tuple[int, ...]) -> None:
        after, until = [0] * len(SHARDS), [0] * len(SHARDS)
        for shard, skip, count in zip(USED_SHARDS, skipped, length, strict=True):
            after[shard] = min(skip, len(self.model.log[shard]))
            until[shard] = after[shard] + count
        position, read = tuple(after), list[LogRow]()
        self.run(feed.check_position(self.store.database, position))
        while changes := self.run(feed.read(self.store.connection, position, tuple(until))):
            assert changes[0].seq > position[changes[0].shard], "the log does not go on"
            position = feed.advanced(position, changes)
            read += map(log_row_of, changes)
        self._assert_in_order(read)
        assert sorted(read) == [row for shard in SHARDS for row in self.model.log[shard][after[shard] : until[shard]]]

    @rule(which=WHICH, time=WHICH, seconds=st.integers(-1, 1))
    def find_a_position(self, which: int, time: int, seconds: int) -> None:
        """The end of the log, and where a time lies in it. Beyond the end there is nothing to be found."""
        end, now = self.run(feed.end_position(self.store.connection))
        assert (end, now) == (tuple(len(self.model.log[shard]) for shard in SHARDS), self.model.now)
        shard = pick(USED_SHARDS, which)
        beyond = tuple(seq + (number == shard) for number, seq in enumerate(end))
        assert self.error_of(feed.check_position(self.store.database, beyond)) == "FailedPrecondition"

        if self.was_clock_set_back:
            return
        times = sorted({START, *(row.at for rows in self.model.log for row in rows)})
        start_time = pick(times, time) + timedelta(seconds=seconds)
        position = self.run(feed.position_at(self.store.database, start_time))
        assert position == tuple(sum(row.at < start_time for row in self.model.log[shard]) for shard in SHARDS)

    @staticmethod
    def _assert_in_order(rows: Iterable[LogRow]) -> None:
        last = dict.fromkeys(SHARDS, 0)
        for row in rows:
            assert row.seq == (last[row.shard] or row.seq - 1) + 1
            last[row.shard] = row.seq

    # --- deliveries ------------------------------------------------------------------------------------------------

    @precondition(lambda self: bool(self.model.matched))
    @rule(which=WHICH, page_size=st.integers(1, 4))
    def look_at_an_event_and_its_deliveries(self, which: int, page_size: int) -> None:
        event_id = pick(list(self.model.matched), which)
        is_kept = event_id in self.model.kept
        event = self.model.events[event_id]
        for customer_id in (None, *CUSTOMERS):
            is_found = is_kept and customer_id in {None, event.customer_id}
            error = self.error_of(lookup.get_event(self.store.database, customer_id, event_id))
            assert error == (None if is_found else "NotFound")
        for webhook_id in self.model.webhooks:
            self.look_at_delivery(webhook_id, event_id, page_size)

    def look_at_delivery(self, webhook_id: int, event_id: UUID, page_size: int) -> None:
        """Whether there is one or not. What the log knows is found also when the event is no longer kept."""
        expected = self.model.standing((webhook_id, event_id))
        look = lookup.get_delivery(self.store.database, None, event_id, webhook_id)
        if expected is None:
            assert self.error_of(look) == "NotFound"
        else:
            assert standing_of(self.run(look)) == expected
        attempts = [row for row in self.model.rows_of((webhook_id, event_id)) if row.outcome]
        assert self._attempts(event_id, webhook_id, page_size) == [
            (row.attempt_count, row.outcome, row.start_time)
            for row in sorted(attempts, key=lambda row: (row.at, row.seq), reverse=True)
        ]

    def _attempts(
        self, event_id: UUID, webhook_id: int, page_size: int
    ) -> list[tuple[int, str | None, datetime | None]]:
        wanted = AttemptFilter(None, (webhook_id,), event_id=event_id)
        before: AttemptKey | None = attempt_lists.ATTEMPTS_START
        found: list[tuple[int, str | None, datetime | None]] = []
        while before is not None:
            page = self.run(
                attempt_lists.list_attempts(self.store.database, wanted, before, PageBounds(page_size, 10**6))
            )
            assert all(key < before for key in page.keys), "the list does not go on"
            found += [(attempt.attempt_number, attempt.outcome.value, attempt.start_time) for attempt in page.items]
            before = page.next_key
        return found

    @rule(
        customer_id=st.sampled_from([None, *CUSTOMERS]),
        webhooks=st.lists(WHICH, max_size=2),
        patterns=st.lists(st.sampled_from(PATTERNS), max_size=2),
        statuses=st.lists(st.sampled_from(DeliveryStatus), max_size=2),
        which=st.none() | WHICH,
        page_size=st.integers(1, 5),
    )
    def list_deliveries(
        self,
        customer_id: int | None,
        webhooks: list[int],
        patterns: list[str],
        statuses: list[DeliveryStatus],
        which: int | None,
        page_size: int,
    ) -> None:
        webhook_ids = [pick(list(self.model.webhooks), number) for number in webhooks]
        events = list(self.model.matched)
        event_id = pick(events, which) if events and which is not None else None
        wanted = DeliveryFilter(customer_id, webhook_ids, patterns, statuses, event_id)
        assert self._listed(wanted, page_size) == [
            row
            for row in self.model.standings()
            if customer_id in {None, row.customer_id}
            and (not webhook_ids or row.webhook_id in webhook_ids)
            and (not patterns or any(is_match(row.event_type, pattern) for pattern in patterns))
            and (not statuses or row.status in statuses)
            and (event_id is None or row.event_id == event_id)
        ]

    def _listed(self, wanted: DeliveryFilter, page_size: int) -> list[Standing]:
        before: DeliveryKey | None = deliveries.DELIVERIES_START
        found: list[Standing] = []
        while before is not None:
            page = self.run(
                deliveries.list_deliveries(self.store.database, wanted, before, PageBounds(page_size, 10**6))
            )
            assert len(page.items) <= page_size
            assert not found or not page.items or standing_of(page.items[0]) < found[-1], "the list does not go on"
            found += map(standing_of, page.items)
            before = page.next_key
        return found

    # --- what is due -----------------------------------------------------------------------------------------------

    @precondition(lambda self: bool(self.model.webhooks))
    @rule(
        which=WHICH,
        room=st.integers(1, 5),
        due=WHICH,
        seconds=st.integers(-1, 1),
        ahead_seconds=st.sampled_from([0.0, 30.0, FAR_AHEAD_SECONDS]),
        is_fresh=st.booleans(),
    )
    def fetch_from_a_floor(
        self, which: int, room: int, due: int, seconds: int, ahead_seconds: float, is_fresh: bool
    ) -> None:
        webhook_id = pick(list(self.model.webhooks), which)
        due_times = sorted({START, *(row.due_at for row in self.model.pending_rows())})
        floor = pick(due_times, due) + timedelta(seconds=seconds)
        request = FetchRequest(webhook_id % 64, webhook_id, room, floor, ahead_seconds, is_fresh)
        expected = self.model.fetch(webhook_id, room, floor, ahead_seconds, is_fresh=is_fresh)
        assert self.fetched([request]) == expected
        replays = self.fetched_replays([(webhook_id % 64, webhook_id, room)])
        assert replays == self.model.fetch_replays(webhook_id, room)

    def fetched(self, requests: Sequence[FetchRequest]) -> list[OutboxRow]:
        """The rows by webhook, in the order of the store."""
        return self._by_webhook(self.run(due_rows.fetch(self.store.connection, requests)))

    def fetched_replays(self, rooms: Sequence[tuple[int, int, int]]) -> list[OutboxRow]:
        """The same of what is replayed."""
        return self._by_webhook(self.run(due_rows.fetch_replays(self.store.connection, rooms)))

    @staticmethod
    def _by_webhook(rows: Iterable[FoundRow]) -> list[OutboxRow]:
        return sorted(map(outbox_row_of, rows), key=lambda row: row.webhook_id)

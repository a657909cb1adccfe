"""Replays: create, get, list, cancel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from webhook.v1 import replay_pb2, service_pb2

from webhook_grpc.api.call import Call, refuse_if, set_fields
from webhook_grpc.api.messages import reading, times, words
from webhook_grpc.api.messages.filters import webhook_id_violations
from webhook_grpc.api.messages.paging import PageToken, fitting, page_size
from webhook_grpc.domain import replay as domain
from webhook_grpc.domain import validation
from webhook_grpc.domain.errors import FailedPrecondition, NotFound, Overloaded, Violation
from webhook_grpc.domain.ids import INT64_MAX
from webhook_grpc.domain.model import DeliveryStatus, WebhookStatus
from webhook_grpc.domain.replay import Replay, ReplaySpec, ReplayStatus
from webhook_grpc.hub.hints import Hints
from webhook_grpc.store.clock import DatabaseClock
from webhook_grpc.store.db import Database
from webhook_grpc.store.registry import webhooks
from webhook_grpc.store.replays import rows as store
from webhook_grpc.store.replays import selection

DRY_RUN_SECONDS_MAX: Final = 10.0
DRY_RUNS_MAX: Final = 3  # at once, one of each customer: each holds a connection of the pool as long as it runs

REPLAY_STATUSES: Final = {
    ReplayStatus.RUNNING: replay_pb2.REPLAY_STATUS_RUNNING,
    ReplayStatus.COMPLETED: replay_pb2.REPLAY_STATUS_COMPLETED,
    ReplayStatus.CANCELLED: replay_pb2.REPLAY_STATUS_CANCELLED,
}
_REPLAY_STATUS_OF: Final[Mapping[int, ReplayStatus]] = {number: status for status, number in REPLAY_STATUSES.items()}
_CHOSEN: Final = ("webhook_ids", "event_types", "statuses", "include_undelivered", "start_time", "end_time")


class ReplayMethods:
    """The calls that start, read and cancel replays."""

    def __init__(self, database: Database, clock: DatabaseClock, hints: Hints, replays_max: int) -> None:
        self._database = database
        self._clock = clock
        self._hints = hints
        self._replays_max = replays_max
        self._counting = set[int]()  # customers whose dry runs are in progress

    async def create(self, request: service_pb2.CreateReplayRequest, call: Call) -> replay_pb2.Replay:
        """Starts a replay; a dry run only counts the deliveries that it would send again."""
        message, violations = request.replay, list[Violation]()
        customer_id = call.customer(message.customer_id, "replay.customer_id", violations)
        request_id = reading.read_request_id(request.request_id, violations)
        spec = _read_spec(message, customer_id, self._clock.now(), violations)
        refuse_if(violations)
        if request.dry_run:
            await self._check_webhooks(spec)
            return await self._dry_run(await self._until_now(spec))
        fingerprint = _fingerprint(message, customer_id) if request_id else None
        before = await store.created_before(self._database, customer_id, request_id, fingerprint)
        if before is not None:
            return replay_message(before)
        await self._check_webhooks(spec)
        spec = await self._until_now(spec)
        audit = call.audit(fields=set_fields(message))
        replay = await store.create(self._database, spec, request_id, fingerprint, self._replays_max, audit=audit)
        return replay_message(replay)

    async def _until_now(self, spec: ReplaySpec) -> ReplaySpec:
        """Returns the spec with a window that ends now at the latest, by the database's clock, which dates events."""
        return spec.ending_by(await store.now(self._database))

    async def _check_webhooks(self, spec: ReplaySpec) -> None:
        """Raises NotFound for a webhook that the customer does not have, FailedPrecondition for a disabled one."""
        if not spec.webhook_ids:
            return
        status_of = await webhooks.statuses_of(self._database, spec.customer_id, spec.webhook_ids)
        for webhook_id in spec.webhook_ids:
            status = status_of.get(webhook_id, WebhookStatus.DELETED)
            if status is WebhookStatus.DELETED:
                raise NotFound("webhook", str(webhook_id))
            if status is WebhookStatus.DISABLED:
                raise FailedPrecondition(
                    "WEBHOOK_STATUS",
                    f"webhook {webhook_id} is disabled; nothing is delivered to it before ResumeWebhook",
                    f"webhook:{webhook_id}",
                    {"status": status.value},
                )

    async def _dry_run(self, spec: ReplaySpec) -> replay_pb2.Replay:
        if spec.customer_id in self._counting or len(self._counting) >= DRY_RUNS_MAX:
            raise Overloaded(
                "TOO_MANY_DRY_RUNS", "this server is counting for another dry run already; retry later", 5.0
            )
        self._counting.add(spec.customer_id)
        try:
            count = await selection.count(self._database, spec, DRY_RUN_SECONDS_MAX)
        finally:
            self._counting.discard(spec.customer_id)
        message = _spec_message(spec)
        message.delivery_count = count.delivery_count
        message.progress_time.CopyFrom(times.timestamp(spec.progress_time(count.position)))
        return message

    async def get(self, request: service_pb2.GetReplayRequest, call: Call) -> replay_pb2.Replay:
        """Returns one replay with its progress."""
        customer_id, replay_id = _named(request, call)
        return replay_message(await store.get(self._database, customer_id, replay_id))

    async def list(self, request: service_pb2.ListReplaysRequest, call: Call) -> service_pb2.ListReplaysResponse:
        """Lists replays, newest first."""
        violations = list[Violation]()
        customer_id = call.customer_or_all(request.customer_id, "customer_id", violations)
        size = page_size(request.page_size, violations)
        statuses = _read_statuses(request.statuses, violations)
        refuse_if(violations)
        token = PageToken(request, ">q")
        key = token.read()
        before = int(key[0]) if key else INT64_MAX
        found = await store.list_page(self._database, customer_id, statuses, before, size + 1)
        replays = await fitting(found[:size], replay_message)
        return service_pb2.ListReplaysResponse(
            replays=replays,
            next_page_token="" if len(replays) == len(found) else token.after(replays[-1].replay_id),
        )

    async def cancel(self, request: service_pb2.CancelReplayRequest, call: Call) -> replay_pb2.Replay:
        """Ends a running replay; the owners of its deliveries cancel those that are not sent yet."""
        customer_id, replay_id = _named(request, call)
        replay, shards = await store.cancel(
            self._database, customer_id, replay_id, audit=call.audit(f"replay:{replay_id}")
        )
        self._hints.commanded(shards)
        return replay_message(replay)


def _named(request: service_pb2.GetReplayRequest | service_pb2.CancelReplayRequest, call: Call) -> tuple[int, int]:
    violations = list[Violation]()
    customer_id = call.customer(request.customer_id, "customer_id", violations)
    replay_id = reading.read_id(request.replay_id, "replay_id", violations)
    refuse_if(violations)
    return customer_id, replay_id


# --- reading ---------------------------------------------------------------------------------------------------------


def _read_spec(message: replay_pb2.Replay, customer_id: int, now: datetime, violations: list[Violation]) -> ReplaySpec:
    """Returns what the caller chose, with defaults for the fields that are not set."""
    violations += webhook_id_violations(message.webhook_ids, "replay.webhook_ids")
    violations += validation.pattern_violations("replay.event_types", message.event_types)
    statuses = words.read_delivery_statuses(message.statuses, violations, "replay.statuses")
    if DeliveryStatus.PENDING in statuses:
        violations.append(Violation("replay.statuses", "must not hold PENDING: what is pending is sent anyway"))
    start_time = _read_time(message, "start_time", violations)
    end_time = _read_time(message, "end_time", violations)
    if not any(violation.field in {"replay.start_time", "replay.end_time"} for violation in violations):
        violations += domain.window_violations(start_time, end_time, now)
    return ReplaySpec(
        customer_id=customer_id,
        webhook_ids=tuple(dict.fromkeys(message.webhook_ids)),
        event_types=tuple(dict.fromkeys(message.event_types)),
        statuses=statuses or (() if message.include_undelivered else domain.DEFAULT_STATUSES),
        include_undelivered=message.include_undelivered,
        start_time=start_time or now,
        end_time=end_time or domain.NO_END,
    )


def _read_time(message: replay_pb2.Replay, field: str, violations: list[Violation]) -> datetime | None:
    if not message.HasField(field):  # pyright: ignore[reportArgumentType] - one of two names
        return None
    value: Timestamp = getattr(message, field)
    return times.read_time(value, f"replay.{field}", violations)


def _read_statuses(values: Sequence[int], violations: list[Violation]) -> list[ReplayStatus]:
    if any(value not in _REPLAY_STATUS_OF for value in values):
        violations.append(Violation("statuses", "must be values of the enum other than UNSPECIFIED"))
    return list(dict.fromkeys(_REPLAY_STATUS_OF[value] for value in values if value in _REPLAY_STATUS_OF))


def _fingerprint(message: replay_pb2.Replay, customer_id: int) -> int:
    """Returns a digest of what the caller chose. Whether the customer was named or implied makes no difference."""
    chosen = replay_pb2.Replay()
    chosen.CopyFrom(message)
    for field in message.DESCRIPTOR.fields_by_name:
        if field not in _CHOSEN:
            chosen.ClearField(field)  # pyright: ignore[reportArgumentType] - a name of the descriptor's
    chosen.customer_id = customer_id
    return reading.fingerprint(chosen.SerializeToString(deterministic=True))


# --- writing ---------------------------------------------------------------------------------------------------------


def replay_message(replay: Replay) -> replay_pb2.Replay:
    """Returns a replay as callers see it."""
    message = _spec_message(replay.spec)
    message.replay_id = replay.replay_id
    message.status = REPLAY_STATUSES[replay.status]
    message.delivery_count = replay.delivery_count
    message.pending_count = replay.pending_count
    message.succeeded_count = replay.succeeded_count
    message.failed_count = replay.failed_count
    message.cancelled_count = replay.cancelled_count
    message.skipped_count = replay.skipped_count
    message.progress_time.CopyFrom(times.timestamp(replay.progress_time))
    message.create_time.CopyFrom(times.timestamp(replay.create_time))
    if replay.finish_time is not None:
        message.finish_time.CopyFrom(times.timestamp(replay.finish_time))
    return message


def _spec_message(spec: ReplaySpec) -> replay_pb2.Replay:
    return replay_pb2.Replay(
        customer_id=spec.customer_id,
        webhook_ids=spec.webhook_ids,
        event_types=spec.event_types,
        statuses=[words.DELIVERY_STATUSES[status] for status in spec.statuses],
        include_undelivered=spec.include_undelivered,
        start_time=times.timestamp(spec.start_time),
        end_time=times.timestamp(spec.end_time),
    )

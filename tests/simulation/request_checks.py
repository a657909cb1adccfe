"""What a request may never be, as only its process and the tables know: not ours, settled, beyond a limit, late."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from webhook_grpc.domain.command import Kind
from webhook_grpc.domain.ids import shard_of
from webhook_grpc.domain.model import Trigger

from .course import Course
from .process import Sent
from .profiles import PROBE_SECONDS_MIN

_EPSILON: Final = 1e-6


class RequestChecks:
    """Checked at the instant at which the request leaves, before it is recorded."""

    def __init__(self, course: Course) -> None:
        self._course = course
        self._profile = course.profile
        self._settings = course.settings
        self._loop = course.loop
        self._stored = course.stored

    def check(self, sent: Sent) -> None:
        """What is wrong becomes a violation. A process that was frozen since it decided may be late to know things."""
        webhook_id, event_id = sent.webhook.webhook_id, sent.delivery.event_id
        name = f"{sent.process.name} sends {webhook_id} {event_id} attempt {sent.attempt}"
        process, stored, model = sent.process, self._stored, self._stored.model
        was_frozen = process.thawed_at >= sent.dispatched_at
        number = shard_of(webhook_id)
        worker = model.workers.get(process.engine.shards.worker)
        is_owner = model.shards[number].owner == process.engine.shards.worker
        is_ours = is_owner and stored.tenures[number] == sent.tenure
        sent.is_stale = not is_ours
        if not was_frozen:
            if worker is None or worker.lease_until < stored.now() or not is_ours:
                self._course.violated(f"{name}, whose shard is not its own")
            elif not process.engine.shards.may_send:
                self._course.violated(f"{name} after its fence")
        row = model.row((webhook_id, event_id))
        before = self._course.sent[webhook_id, event_id]
        same = [s for s in before if s.attempt == sent.attempt and s.tenure != sent.tenure]
        was_sent_before = any(s.process is not process for s in same)  # this one would remember
        if any(s.process is process and s.ended_at is None for s in same):
            self._course.violated(f"{name}, which it is sending already")
        if sent.trigger is Trigger.TEST:
            is_known = (webhook_id, event_id, Kind.TEST) in model.commands
            if is_ours and not was_frozen and not was_sent_before and not is_known:
                self._course.violated(f"{name}, a test that was carried out")
            return
        if is_ours and not was_sent_before and (row is None or row.attempt != sent.attempt - 1):
            self._course.violated(f"{name}, which is settled: {row}")
        self._check_limits(name, sent)
        behaviour = self._course.receivers[webhook_id].behaviour
        is_urgent = self._profile.prompt and sent.trigger is not Trigger.REPLAY
        if is_urgent and row is not None and behaviour in {"well", "flaky"}:
            self._check_lateness(name, sent, (stored.now() - row.due_at).total_seconds())

    def _check_limits(self, name: str, sent: Sent) -> None:
        process, now, webhook_id = sent.process, self._loop.now, sent.webhook.webhook_id
        active = [s for s in process.active if s.trigger is not Trigger.TEST]
        beside = [s for s in active if s.webhook.webhook_id == webhook_id]
        changes = self._course.history[webhook_id]
        lately = [
            w
            for i, (_, w) in enumerate(changes)
            if i + 1 == len(changes) or changes[i + 1][0] > sent.dispatched_at - 30
        ]
        most = max(w.max_in_flight or self._settings.webhook_in_flight_max for w in lately)
        if len(beside) >= most:
            self._course.violated(f"{name} beside {len(beside)} others, of at most {most}")
        replays = [s for s in beside if s.trigger is Trigger.REPLAY]
        if sent.trigger is Trigger.REPLAY and len(replays) >= max(1, most // 4):
            self._course.violated(f"{name} beside {len(replays)} other replays, of {most} slots")
        self._check_host(name, sent, [s for s in active if s.host == sent.host])
        if (
            sum(s.webhook.customer_id == sent.webhook.customer_id for s in active)
            >= self._settings.customer_in_flight_max
        ):
            self._course.violated(f"{name} beyond the cap of its customer")
        if len(active) >= self._settings.process_in_flight_max:
            self._course.violated(f"{name} beyond the cap of its process")
        outage = process.outages[webhook_id, sent.tenure]
        if outage.open_at is not None and sent.dispatched_at > outage.open_at + _EPSILON:
            if sent.dispatched_at < outage.open_at + 0.8 * PROBE_SECONDS_MIN - _EPSILON:
                self._course.violated(f"{name} while its breaker is open since {outage.open_at:.4f}")
            if beside:
                self._course.violated(f"{name} as a second probe")
        if (
            sent.dispatched_at < outage.held_until - _EPSILON
            and sent.dispatched_at > now - 1
            and not self._answered_now(sent)
        ):
            self._course.violated(f"{name} although asked to wait until {outage.held_until:.4f}")

    def _check_host(self, name: str, sent: Sent, beside: Sequence[Sent]) -> None:
        slots = self._settings.host_in_flight_max
        if len(beside) >= slots:
            self._course.violated(f"{name} beyond the cap of its host")
        of_customer = sum(s.webhook.customer_id == sent.webhook.customer_id for s in beside)
        if of_customer >= max(1, math.floor(slots * self._settings.host_share_per_customer)):
            self._course.violated(f"{name} beyond its customer's share of its host")

    def _answered_now(self, sent: Sent) -> bool:
        """Whether an answer came at the instant, or after it, at which this was decided."""
        return any(
            earlier.ended_at is not None and earlier.ended_at >= sent.dispatched_at
            for (webhook_id, _), all_of in self._course.sent.items()
            if webhook_id == sent.webhook.webhook_id
            for earlier in all_of
            if earlier.trigger is not Trigger.TEST
        )

    def _check_lateness(self, name: str, sent: Sent, seconds: float) -> None:
        full_at = max(sent.process.full_at[sent.webhook.webhook_id], 1_004.0)  # the ramp is over by then
        waited = min(seconds, self._loop.now - full_at)
        self._course.lateness_max = max(self._course.lateness_max, waited)
        if waited > self._settings.poll_seconds + 0.5:
            self._course.violated(f"{name} {waited:.3f} s late")

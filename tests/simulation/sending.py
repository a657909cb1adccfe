"""Requests on their way: what stands for `Sender.send`, and what is recorded of it."""

from __future__ import annotations

import asyncio
from typing import Final

from webhook_grpc.domain.egress import host_of
from webhook_grpc.domain.ids import parse_delivery_id, shard_of
from webhook_grpc.domain.model import AttemptResult, Outcome, PendingDelivery, Trigger, Webhook
from webhook_grpc.engine.http.faults import SenderFault
from webhook_grpc.engine.http.sender import Request
from webhook_grpc.engine.queue.lane import Turn

from .course import Course
from .database.stored import EPOCH
from .process import Outage, Sent
from .receivers import SILENCE, result_of
from .request_checks import RequestChecks

_DOWN: Final = frozenset({Outcome.TIMEOUT, Outcome.CONNECTION_ERROR, Outcome.TLS_ERROR, Outcome.PROTOCOL_ERROR})


class _LocalFault(SenderFault):
    is_local = True


class Sending:
    """Checks each request before it is on its way; a poison event kills the process that sends it."""

    def __init__(self, course: Course) -> None:
        self._course = course
        self._checks = RequestChecks(course)
        self._settings = course.settings
        self._loop = course.loop
        self._random = course.random
        self._stored = course.stored

    def dispatched(self, turn: Turn) -> None:
        """The engine has decided to send this now."""
        process, now, delivery = self._course.here(), self._loop.now, turn.delivery
        key = (delivery.webhook_id, delivery.event_id, delivery.attempt)
        process.dispatched[key] = (now, self._stored.tenures[turn.lane.shard], delivery.trigger)

    async def send(self, request: Request) -> AttemptResult:
        """Stands for `Sender.send`: the request, its way, and what its receiver does."""
        process, now = self._course.here(), self._loop.now
        named = parse_delivery_id(request.headers["X-Webhook-Delivery"])
        assert named is not None
        event_id, webhook_id = named
        attempt = int(request.headers["X-Webhook-Attempt"])
        if self._course.faults_until > now and self._random.random() < self._course.profile.sender_faults:
            raise _LocalFault if self._random.random() < 0.5 else SenderFault
        webhook = self._as_sent(webhook_id, request)
        if event_id in self._course.tests:  # goes past the lanes
            dispatched_at, tenure, trigger = now, self._stored.tenures[shard_of(webhook_id)], Trigger.TEST
        else:
            dispatched_at, tenure, trigger = process.dispatched[webhook_id, event_id, attempt - 1]
        delivery = PendingDelivery(webhook_id, event_id, EPOCH, webhook.customer_id, attempt - 1, "", EPOCH, b"")
        sent = Sent(process, delivery, webhook, attempt, tenure, dispatched_at, now, host_of(request.url), trigger)
        self._course.request_count += 1
        self._stored.note("sent", process.name, webhook_id, event_id, attempt, f"{dispatched_at:.6f}")
        self._checks.check(sent)
        self._course.sent[webhook_id, event_id].append(sent)
        process.active.append(sent)
        self._note_full(sent)
        if event_id in self._course.poison:
            self._course.crash_count += 1
            process.crash()
            self._course.later(self._random.uniform(0.1, 5.0), self._course.start_another)
            await self._loop.create_future()
        try:
            result = await self._answer(sent, request)
        finally:
            self._note_full(sent)
            if sent in process.active:
                process.active.remove(sent)
            sent.ended_at = self._loop.now
        sent.outcome, sent.status = result.outcome, result.response_status
        sent.retry_after = None if result.retry_after is None else float(result.retry_after)
        if trigger is not Trigger.TEST:
            self._learn(sent)
        return result

    def _note_full(self, sent: Sent) -> None:
        beside = sum(
            s.webhook.webhook_id == sent.webhook.webhook_id and s.trigger is not Trigger.TEST
            for s in sent.process.active
        )
        if beside >= (sent.webhook.max_in_flight or self._settings.webhook_in_flight_max):
            sent.process.full_at[sent.webhook.webhook_id] = self._loop.now

    def _as_sent(self, webhook_id: int, request: Request) -> Webhook:
        return next(w for _, w in reversed(self._course.history[webhook_id]) if w.url == request.url)

    async def _answer(self, sent: Sent, request: Request) -> AttemptResult:
        receiver = self._course.receivers[sent.webhook.webhook_id]
        seconds, status, retry_after = receiver.behave(self._loop.now, self._course.faults_until, self._random)
        started = self._stored.now()
        if seconds >= request.timeout_seconds:
            await asyncio.sleep(request.timeout_seconds)
            status = SILENCE
        else:
            await asyncio.sleep(seconds)
        latency_ms = int((self._stored.now() - started).total_seconds() * 1000)
        return result_of(status, retry_after, started, latency_ms)

    def _learn(self, sent: Sent) -> None:
        """What the owner should know now of this receiver."""
        assert sent.ended_at is not None
        outage, now = sent.process.outages[sent.webhook.webhook_id, sent.tenure], sent.ended_at
        if sent.outcome in _DOWN or (sent.status or 0) >= 500:
            outage.failures += 1
            is_probe = outage.open_at is not None and sent.dispatched_at > outage.open_at
            if is_probe or (outage.open_at is None and outage.failures >= self._settings.breaker_failures):
                outage.open_at = now
        else:
            outage.failures, outage.open_at = 0, None
        if sent.retry_after is not None and sent.status in {429, 503}:
            outage.held_until = max(outage.held_until, now + sent.retry_after)

    def webhook_changed(self, webhook: Webhook) -> None:
        """Whoever turns a webhook on again begins with nothing known of its receiver."""
        changes = self._course.history[webhook.webhook_id]
        changes.append((self._loop.now, webhook))
        if len(changes) > 1 and changes[-2][1].status.has_ended:
            for process in self._course.processes:
                for key in process.outages:
                    if key[0] == webhook.webhook_id:
                        process.outages[key] = Outage()  # holds too, as REOPEN says

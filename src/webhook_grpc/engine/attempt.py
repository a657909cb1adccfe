"""A delivery's way through the engine: cancelled? expired? poisoned? Then sign, send, decide, learn, disable."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random
from typing import Final

import structlog

from webhook_grpc.domain.ids import delivery_id_text
from webhook_grpc.domain.model import (
    AttemptResult,
    DeliveryStatus,
    DisableReason,
    FailureReason,
    Outcome,
    PendingDelivery,
    Trigger,
    Webhook,
)
from webhook_grpc.domain.progress import PAUSED, Cause, Progress, Service
from webhook_grpc.domain.retry import Decision, RetryPolicy, again, decide
from webhook_grpc.domain.settlement import Settlement
from webhook_grpc.engine.http.faults import LeaseUnsure, SenderFault
from webhook_grpc.engine.http.sender import Request, Sender
from webhook_grpc.engine.queue.lane import Turn
from webhook_grpc.engine.receivers.keys import SecretKeyMissing
from webhook_grpc.engine.receivers.receiver import Receiver
from webhook_grpc.engine.receivers.receivers import Receivers
from webhook_grpc.store.clock import DatabaseClock

from .attempt_traces import AttemptTraces
from .poison import Admission, PoisonGuard
from .request_signer import RequestSigner

log = structlog.get_logger(__name__)

ALONE_SECONDS_MAX: Final = 1.0  # after that the next suspect may be sent beside one that has no answer yet
_FAULT_PAUSE_SECONDS: Final = (1.0, 5.0)
_ONCE: Final = RetryPolicy(delays_seconds=())  # for replays and tests, which somebody has started by hand


class AttemptPipeline:
    """Brings a turn from its start to the settlement of its delivery. Knows no slots and no tasks."""

    def __init__(
        self,
        attempter: Attempter,
        poison: PoisonGuard,
        receivers: Receivers,
        disable: Callable[[Webhook, DisableReason], Awaitable[bool]],
        progress: Progress,
        random: Random,
    ) -> None:
        """`disable` returns False if the webhook has changed since the attempt, so that its reason no longer holds."""
        self._sending = progress.work("send requests", Service.DELIVERY, words=PAUSED)
        self._attempter = attempter
        self._poison = poison
        self._receivers = receivers
        self._disable = disable
        self._random = random
        self._disabling: set[int] = set()
        self.paused_until = 0.0
        """Until when nothing is sent, in monotonic seconds. Only the pipeline writes it; the dispatcher reads it."""

    async def run(self, turn: Turn, end_isolation: Callable[[Turn], None]) -> Settlement | None:
        """Returns what becomes of the delivery. None: nothing is known, and its row is as it was.

        `end_isolation` is called when the next suspect may begin although this one has no answer.
        """
        try:
            settlement = await self._settlement(turn, end_isolation)
        except LeaseUnsure:  # nothing is sent until it is renewed, and then at once
            return None
        except SenderFault as fault:
            self._pause(turn, fault)
            return None
        except Exception:  # a bug must not stop the lane: the delivery backs off, and fails alone in the end
            log.exception("attempt failed", delivery_id=_delivery_id(turn))
            return self._attempter.failed(turn.delivery)
        if settlement is not None and settlement.result is not None:
            self._sending.succeed()
        return settlement

    async def _settlement(self, turn: Turn, end_isolation: Callable[[Turn], None]) -> Settlement | None:
        delivery, receiver = turn.delivery, turn.lane.receiver
        assert receiver is not None  # a lane without one is never ready
        webhook = receiver.webhook
        if webhook.status.has_ended:
            return cancelled(delivery)
        if not delivery.body:
            return expired(delivery)
        match await self._poison.admit(turn):
            case Admission.LATER:
                return None
            case Admission.HAS_KILLED:
                log.error("a process died during this attempt", delivery_id=_delivery_id(turn))
                return self._attempter.interrupted(delivery, webhook)
            case Admission.ALONE:
                # A receiver that hangs must not hold up the suspects of all others; what kills mostly does so at once.
                asyncio.get_running_loop().call_later(ALONE_SECONDS_MAX, end_isolation, turn)
            case Admission.FREE:
                pass
        started_at = time.monotonic()
        settlement = await self._attempter.attempt(delivery, webhook)  # sign, send, decide
        reason = self._learn(receiver, settlement, started_at)
        if settlement.decision.disables_webhook:
            is_disabled = await self._disable(webhook, DisableReason.GONE)
            return settlement if is_disabled else self._attempter.again(settlement, webhook)
        if reason is not None and webhook.webhook_id not in self._disabling:
            await self._disable_failing(webhook, reason)
        return settlement

    def _learn(self, receiver: Receiver, settlement: Settlement, started_at: float) -> DisableReason | None:
        assert settlement.result is not None  # there was an attempt
        return self._receivers.learn(receiver, settlement.result, started_at)

    async def _disable_failing(self, webhook: Webhook, reason: DisableReason) -> None:
        """Disables the webhook once, although many attempts may find the same at a time."""
        self._disabling.add(webhook.webhook_id)
        try:
            await self._disable(webhook, reason)
        finally:
            self._disabling.discard(webhook.webhook_id)

    def _pause(self, turn: Turn, fault: SenderFault) -> None:
        """Sends nothing for a moment after a fault of this process: of one lane, or of all if all are affected."""
        seconds, now = self._random.uniform(*_FAULT_PAUSE_SECONDS), time.monotonic()
        if fault.is_local and turn.lane.receiver is not None:
            turn.lane.receiver.pace.pause(seconds, now)
        else:
            self.paused_until = now + seconds
        if not isinstance(fault, SecretKeyMissing):  # it concerns this webhook only, and KeyWatch reports it in the log
            self._sending.fail(Cause(str(fault)))


class Attempter:
    """Makes attempts: sign, send, decide. Knows no queue and no table."""

    def __init__(
        self,
        signer: RequestSigner,
        sender: Sender,
        retry_policy: RetryPolicy,
        clock: DatabaseClock,
        random: Random,
        traces: AttemptTraces | None,
    ) -> None:
        """`traces` None: attempts are not traced."""
        self._signer = signer
        self._sender = sender
        self._retry_policy = retry_policy
        self._clock = clock
        self._random = random
        self._traces = traces

    async def attempt(self, delivery: PendingDelivery, webhook: Webhook) -> Settlement:
        """Makes the next attempt of a delivery. Raises SenderFault if this process could not make one."""
        result = await (self._send(delivery, webhook) if self._traces is None else self._traced(delivery, webhook))
        settlement = self._decided(delivery, self._policy_of(webhook), result)
        return replace(settlement, own_headers=tuple(webhook.headers)) if webhook.headers else settlement

    async def _traced(self, delivery: PendingDelivery, webhook: Webhook) -> AttemptResult:
        assert self._traces is not None
        with self._traces.attempt(delivery) as span:
            result = await self._send(delivery, webhook, span.traceparent)
            span.note(result)
        return result

    async def _send(self, delivery: PendingDelivery, webhook: Webhook, traceparent: str | None = None) -> AttemptResult:
        signed = self._signer.sign(delivery, webhook, traceparent)
        return await self._sender.send(signed) if isinstance(signed, Request) else signed

    def _decided(self, delivery: PendingDelivery, policy: RetryPolicy, result: AttemptResult) -> Settlement:
        if delivery.trigger is not Trigger.SCHEDULED:
            policy = _ONCE
        decision = decide(result, delivery.attempt + 1, policy, now=self._clock.now(), jitter=self._random.random())
        return Settlement(delivery, decision, result)

    def again(self, settlement: Settlement, webhook: Webhook) -> Settlement:
        """Returns the settlement of an attempt whose answer was meant for a webhook that has changed since."""
        policy = self._policy_of(webhook) if settlement.delivery.trigger is Trigger.SCHEDULED else _ONCE
        return replace(settlement, decision=again(settlement.delivery.attempt + 1, policy))

    def failed(self, delivery: PendingDelivery) -> Settlement:
        """Returns the settlement of a delivery whose attempt ended by a bug.

        The next attempt is due by the service's schedule: the webhook's own schedule may have caused the error.
        """
        return self._decided(delivery, self._retry_policy, self._not_sent(FailureReason.NOT_SENDABLE))

    def interrupted(self, delivery: PendingDelivery, webhook: Webhook) -> Settlement:
        """Returns what becomes of a delivery during whose last attempt a process died, perhaps because of it."""
        return self._decided(delivery, self._policy_of(webhook), self._not_sent(FailureReason.INTERRUPTED))

    def _policy_of(self, webhook: Webhook) -> RetryPolicy:
        if webhook.retry_delays_seconds is None:
            return self._retry_policy
        return replace(self._retry_policy, delays_seconds=webhook.retry_delays_seconds)

    def _not_sent(self, reason: FailureReason) -> AttemptResult:
        return AttemptResult(Outcome.INTERNAL_ERROR, self._clock.now(), 0, reason)


def cancelled(delivery: PendingDelivery) -> Settlement:
    """Returns what becomes of a delivery whose webhook is deleted or disabled: it ends without an attempt."""
    return Settlement(delivery, Decision(DeliveryStatus.CANCELLED), None)


def expired(delivery: PendingDelivery) -> Settlement:
    """Returns what becomes of a delivery whose event is deleted already: there is nothing to send."""
    return Settlement(delivery, Decision(DeliveryStatus.EXPIRED), None)


def _delivery_id(turn: Turn) -> str:
    return delivery_id_text(turn.delivery.event_id, turn.delivery.webhook_id)

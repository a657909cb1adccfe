"""One attempt, from the row of the outbox to what becomes of it: sign, send, decide."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final

from webhook_grpc.domain import validation
from webhook_grpc.domain.egress import BlockReason, EgressPolicy, why_url_blocked
from webhook_grpc.domain.headers import Envelope, request_headers
from webhook_grpc.domain.model import (
    AttemptResult,
    DeliveryStatus,
    FailureReason,
    Outcome,
    PendingDelivery,
    Trigger,
    Webhook,
)
from webhook_grpc.domain.retry import Decision, RetryPolicy, again, decide
from webhook_grpc.domain.sealing import KeyMissing, Sealer, UnsealError
from webhook_grpc.domain.settlement import Settlement
from webhook_grpc.engine.http.sender import Request, Sender
from webhook_grpc.engine.receivers.keys import SecretKeyMissing
from webhook_grpc.store.clock import DatabaseClock

_ONCE: Final = RetryPolicy(delays_seconds=())  # of what somebody asked for by hand
_URLS_MAX: Final = 10_000  # verdicts that are remembered; a URL's verdict never changes, its address's may


class Deliverer:
    """Makes attempts. Knows no queue and no table."""

    def __init__(
        self,
        sender: Sender,
        sealer: Sealer,
        clock: DatabaseClock,
        egress_policy: EgressPolicy,
        retry_policy: RetryPolicy,
        timeout_seconds: float,
    ) -> None:
        self._sender = sender
        self._sealer = sealer
        self._clock = clock
        self._why_url_blocked = _remembering_verdicts(egress_policy)
        self._retry_policy = retry_policy
        self._timeout_seconds = timeout_seconds
        self._random = random.Random()

    async def attempt(self, delivery: PendingDelivery, webhook: Webhook) -> Settlement:
        """Makes the next attempt of a delivery. Raises SenderFault if this process could not make one."""
        settled = self._decided(delivery, self._policy_of(webhook), await self._send(delivery, webhook))
        return replace(settled, own_headers=tuple(webhook.headers)) if webhook.headers else settled

    def again(self, settled: Settlement, webhook: Webhook) -> Settlement:
        """The same attempt, if what was said does not concern the webhook as it is now."""
        policy = self._policy_of(webhook) if settled.delivery.trigger is Trigger.SCHEDULED else _ONCE
        return replace(settled, decision=again(settled.delivery.attempt + 1, policy))

    def failed(self, delivery: PendingDelivery) -> Settlement:
        """What becomes of a delivery whose attempt ended in a way that nobody thought of.

        By the service's schedule: the webhook's own may be what is wrong.
        """
        result = self._not_sent(Outcome.INTERNAL_ERROR, FailureReason.NOT_SENDABLE)
        return self._decided(delivery, self._retry_policy, result)

    def interrupted(self, delivery: PendingDelivery, webhook: Webhook) -> Settlement:
        """What becomes of a delivery during whose last attempt a process died, perhaps of it."""
        result = self._not_sent(Outcome.INTERNAL_ERROR, FailureReason.INTERRUPTED)
        return self._decided(delivery, self._policy_of(webhook), result)

    def _decided(self, delivery: PendingDelivery, policy: RetryPolicy, result: AttemptResult) -> Settlement:
        if delivery.trigger is not Trigger.SCHEDULED:
            policy = _ONCE
        settlement = decide(result, delivery.attempt + 1, policy, now=self._clock.now(), jitter=self._random.random())
        return Settlement(delivery, settlement, result)

    async def _send(self, delivery: PendingDelivery, webhook: Webhook) -> AttemptResult:
        if self._why_url_blocked(webhook.url) is not None:
            return self._not_sent(Outcome.BLOCKED, FailureReason.BLOCKED_DESTINATION)
        now = self._clock.now()
        try:
            secrets = self._secrets_of(webhook, now)
        except KeyMissing as error:  # no attempt: nothing is known of the receiver, and another process may have it
            raise SecretKeyMissing(str(error)) from None
        except UnsealError:
            return self._not_sent(Outcome.INTERNAL_ERROR, FailureReason.SECRET_UNREADABLE)
        envelope = Envelope(delivery.event_id, delivery.webhook_id, delivery.event_type, delivery.attempt + 1)
        headers = request_headers(envelope, webhook.headers, secrets, int(now.timestamp()), delivery.body)
        timeout_seconds = self._timeout_of(webhook)
        request = Request(webhook.url, headers, delivery.body, timeout_seconds, now, webhook.webhook_id)
        return await self._sender.send(request)

    def _secrets_of(self, webhook: Webhook, now: datetime) -> list[str]:
        """The secrets that sign, the newest first. Raises UnsealError."""
        sealed = [webhook.sealed_secret]
        if webhook.sealed_previous_secret and webhook.previous_secret_until and now < webhook.previous_secret_until:
            sealed.append(webhook.sealed_previous_secret)
        return [self._sealer.open(secret, webhook.customer_id, webhook.webhook_id) for secret in sealed]

    def _timeout_of(self, webhook: Webhook) -> float:
        """What is out of bounds is not used: a timer that is not a number would confuse those of everybody."""
        seconds = webhook.timeout_seconds
        if seconds is not None and 0 < seconds <= validation.TIMEOUT_SECONDS_MAX:
            return seconds
        return self._timeout_seconds

    def _policy_of(self, webhook: Webhook) -> RetryPolicy:
        if webhook.retry_delays_seconds is None:
            return self._retry_policy
        return replace(self._retry_policy, delays_seconds=webhook.retry_delays_seconds)

    def _not_sent(self, outcome: Outcome, reason: FailureReason) -> AttemptResult:
        return AttemptResult(outcome, self._clock.now(), 0, reason)


def cancelled(delivery: PendingDelivery) -> Settlement:
    """What becomes of a delivery whose webhook is deleted or disabled: it ends without an attempt."""
    return Settlement(delivery, Decision(DeliveryStatus.CANCELLED), None)


def expired(delivery: PendingDelivery) -> Settlement:
    """What becomes of a delivery whose event is not kept any more: there is nothing to send."""
    return Settlement(delivery, Decision(DeliveryStatus.EXPIRED), None)


def _remembering_verdicts(policy: EgressPolicy) -> Callable[[str], BlockReason | None]:
    @functools.lru_cache(_URLS_MAX)
    def verdict(url: str) -> BlockReason | None:
        return why_url_blocked(url, policy)

    return verdict

"""Makes the signed request of an attempt, or the result of an attempt for which no request can be made."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import datetime
from typing import Final

from webhook_grpc.domain import own_headers, signing_keys, url_queries, validation
from webhook_grpc.domain.echoes import forms_of
from webhook_grpc.domain.egress import BlockReason, EgressPolicy, why_url_blocked
from webhook_grpc.domain.model import AttemptResult, FailureReason, Outcome, PendingDelivery, Webhook
from webhook_grpc.domain.request_headers import Envelope, request_headers
from webhook_grpc.domain.sealing import KeyMissing, Sealer, UnsealError
from webhook_grpc.domain.signing import SigningKey
from webhook_grpc.domain.signing_keys import PrivateSigningKey
from webhook_grpc.engine.http.sender import Request
from webhook_grpc.engine.receivers.keys import SecretKeyMissing
from webhook_grpc.store.clock import DatabaseClock

_KEYS_MAX: Final = 10_000  # opened secrets that are remembered: what a sealed secret holds never changes
_URLS_MAX: Final = 10_000  # verdicts on URLs that are remembered; addresses are judged at each connection


class RequestSigner:
    """Signs with the webhook's secrets, and with the customer's signing keys if the webhook wants that.

    `timeout_seconds` is for webhooks that have no timeout of their own.
    """

    def __init__(
        self,
        sealer: Sealer,
        egress_policy: EgressPolicy,
        timeout_seconds: float,
        clock: DatabaseClock,
        may_begin: Callable[[int], Callable[[], bool]],
    ) -> None:
        """`may_begin` returns what says, just before the first byte, whether a request for a shard may begin."""
        self._sealer = sealer
        self._key = _remembering_keys(sealer)
        self._private_key = _remembering_private_keys(sealer)
        self._why_url_blocked = _remembering_verdicts(egress_policy)
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._may_begin = may_begin

    def sign(
        self, delivery: PendingDelivery, webhook: Webhook, traceparent: str | None = None
    ) -> Request | AttemptResult:
        """Returns the request of the next attempt, or a result: the URL is blocked, or no secret can be read.

        Raises SecretKeyMissing: then there is no attempt, because another process may have the key.
        """
        now = self._clock.now()
        try:
            url = url_queries.opened(self._sealer, webhook)
            if self._why_url_blocked(url) is not None:
                return AttemptResult(Outcome.BLOCKED, now, 0, FailureReason.BLOCKED_DESTINATION)
            keys = self._keys_of(webhook, now)
            private_keys = None if webhook.signing_keys is None else self._private_keys_of(webhook, now)
            own = own_headers.opened(self._sealer, webhook) if webhook.headers else webhook.headers
        except KeyMissing as error:
            raise SecretKeyMissing(str(error)) from None
        except UnsealError:
            return AttemptResult(Outcome.INTERNAL_ERROR, self._clock.now(), 0, FailureReason.SECRET_UNREADABLE)
        envelope = Envelope(
            delivery.event_id, delivery.webhook_id, delivery.event_type, delivery.attempt + 1, traceparent
        )
        headers = request_headers(envelope, own, keys, int(now.timestamp()), delivery.body, private_keys)
        unshown = forms_of((*own.values(), *url_queries.values_of(url))) if own or "?" in url else ()
        timeout_seconds = self._timeout_of(webhook)
        may_begin = self._may_begin(delivery.shard)
        return Request(url, headers, delivery.body, timeout_seconds, now, webhook.webhook_id, unshown, may_begin)

    def _keys_of(self, webhook: Webhook, now: datetime) -> list[SigningKey]:
        """Returns the keys that sign, the newest first. Raises UnsealError."""
        sealed = [webhook.sealed_secret]
        if webhook.sealed_previous_secret and webhook.previous_secret_until and now < webhook.previous_secret_until:
            sealed.append(webhook.sealed_previous_secret)
        return [self._key(secret, webhook.customer_id, webhook.webhook_id) for secret in sealed]

    def _private_keys_of(self, webhook: Webhook, now: datetime) -> list[PrivateSigningKey]:
        """Returns the customer's keys that sign, the newest first. Raises UnsealError, also if there is none."""
        signing = [key for key in webhook.signing_keys or () if key.retire_at is None or now < key.retire_at]
        if not signing:
            raise UnsealError("the customer has no signing key")
        return [self._private_key(key.sealed, webhook.customer_id, key.key_id) for key in signing]

    def _timeout_of(self, webhook: Webhook) -> float:
        """Returns the timeout in seconds. One that is out of bounds is not used: NaN would confuse all timers."""
        seconds = webhook.timeout_seconds
        if seconds is not None and 0 < seconds <= validation.TIMEOUT_SECONDS_MAX:
            return seconds
        return self._timeout_seconds


def _remembering_keys(sealer: Sealer) -> Callable[[bytes, int, int], SigningKey]:
    """Returns what opens a sealed secret and prepares its key, which costs twice as much as the signatures."""

    @functools.lru_cache(_KEYS_MAX)
    def key(sealed: bytes, customer_id: int, webhook_id: int) -> SigningKey:
        return SigningKey(sealer.open(sealed, customer_id, webhook_id))

    return key


def _remembering_private_keys(sealer: Sealer) -> Callable[[bytes, int, int], PrivateSigningKey]:
    """Returns what opens a sealed signing key and loads it, which costs more than to sign."""
    return functools.lru_cache(_KEYS_MAX)(functools.partial(signing_keys.opened, sealer))


def _remembering_verdicts(policy: EgressPolicy) -> Callable[[str], BlockReason | None]:
    @functools.lru_cache(_URLS_MAX)
    def verdict(url: str) -> BlockReason | None:
        return why_url_blocked(url, policy)

    return verdict

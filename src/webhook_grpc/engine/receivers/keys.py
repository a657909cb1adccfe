"""Whether this process has the keys that the secrets of its webhooks are sealed with, at the start and later.

While keys are changed, processes with different keys run side by side: a webhook may get a secret that the owner of its
deliveries cannot open. Its deliveries wait then, and no attempt is counted, until the owner is one that has the key.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Final

import structlog

from webhook_grpc.domain import url_queries
from webhook_grpc.domain.model import Webhook
from webhook_grpc.domain.own_headers import is_sealed
from webhook_grpc.domain.sealing import HEAD_BYTES, Purpose, Sealer, UnsealError, key_id_text, sealed_with
from webhook_grpc.engine.http.faults import SenderFault
from webhook_grpc.store.clock import DatabaseClock
from webhook_grpc.store.db import Database
from webhook_grpc.store.registry import secret_keys as store

log = structlog.get_logger(__name__)

_KEYS_SHOWN_MAX: Final = 3


class KeysMissing(Exception):
    """The process cannot open secrets of webhooks that it would have to sign for; the message says what to do."""


class SecretKeyMissing(SenderFault):
    """The webhook's secret is sealed with a key that this process lacks."""

    is_local = True


class KeyWatch:
    """Knows for which webhooks this process lacks a key, and reports in the log when deliveries wait for one."""

    def __init__(self, sealer: Sealer, clock: DatabaseClock) -> None:
        self._key_ids = frozenset(sealer.key_ids)
        self._clock = clock
        self._waiting: dict[int, set[int]] = {}  # the webhooks that wait, by the id of the key

    def wait_seconds(self, webhook: Webhook) -> float:
        """Returns for how long nothing can be signed for the webhook as it is now: 0 if it can, infinite if never."""
        missing = {} if webhook.status.has_ended else self._missing(webhook)
        for key_id in missing.keys() - self._waiting.keys():
            log.error(
                "deliveries wait: their secret is sealed with a key that is not in WEBHOOK_SECRET_KEYS",
                key_id=key_id_text(key_id),
                webhook_id=webhook.webhook_id,
            )
        for key_id in missing:
            self._waiting.setdefault(key_id, set()).add(webhook.webhook_id)
        for key_id in self._ended_for(webhook.webhook_id, missing.keys()):
            log.info("no delivery waits for this secret key any more", key_id=key_id_text(key_id))
        return max(missing.values(), default=0.0)

    def forget(self, webhook_id: int) -> None:
        """Forgets a webhook that another process works for now."""
        self._ended_for(webhook_id, ())

    def _missing(self, webhook: Webhook) -> dict[int, float]:
        """Returns the keys that are lacked, each with the seconds for which its secret signs: the old one's are few."""
        missing: dict[int, float] = {}
        if webhook.sealed_previous_secret and webhook.previous_secret_until:
            seconds = (webhook.previous_secret_until - self._clock.now()).total_seconds()
            key_id = sealed_with(webhook.sealed_previous_secret)
            if key_id is not None and seconds > 0:
                missing[key_id] = seconds
        headers = webhook.sealed_headers if is_sealed(webhook.headers) else None
        query = webhook.sealed_query if url_queries.is_sealed(webhook.url) else None
        for sealed in (webhook.sealed_secret, headers, query):
            key_id = None if sealed is None else sealed_with(sealed)
            if key_id is not None:
                missing[key_id] = math.inf
        for key in webhook.signing_keys or ():
            key_id = sealed_with(key.sealed)
            seconds = math.inf if key.retire_at is None else (key.retire_at - self._clock.now()).total_seconds()
            if key_id is not None and seconds > 0:
                missing[key_id] = max(seconds, missing.get(key_id, 0.0))
        return {key_id: seconds for key_id, seconds in missing.items() if key_id not in self._key_ids}

    def _ended_for(self, webhook_id: int, still_missing: Collection[int]) -> list[int]:
        """Takes the webhook from those that wait for other keys; returns the keys that nobody waits for any more."""
        ended: list[int] = []
        for key_id, webhook_ids in list(self._waiting.items()):
            if key_id not in still_missing:
                webhook_ids.discard(webhook_id)
            if not webhook_ids:
                del self._waiting[key_id]
                ended.append(key_id)
        return ended


async def check_keys(database: Database, sealer: Sealer, lost: Collection[str]) -> None:
    """Opens one sealed secret of each key in use. `lost`: ids of keys that the operator knows to be lost.

    A secret that was changed in the database does not open with the right key either; the log names its webhook, and
    only its own attempts fail. Raises KeysMissing, Unavailable.
    """
    missing: dict[int, int] = {}
    for secret in await store.in_use(database):
        key_id = sealed_with(secret.sealed)
        if key_id is not None and key_id not in sealer.key_ids:
            missing[key_id] = await store.count(database, secret.sealed[:HEAD_BYTES])
            continue
        if why_not := _why_not_opened(sealer, secret):
            of_customer = secret.purpose is Purpose.SIGNING_KEY
            whose = {"customer_id": secret.customer_id} if of_customer else {"webhook_id": secret.bound_id}
            log.error("a secret in the database cannot be opened", **whose, purpose=secret.purpose.name, error=why_not)
    for key_id in [key_id for key_id in missing if key_id_text(key_id) in lost]:
        log.warning("a lost secret key: deliveries wait", key_id=key_id_text(key_id), webhook_count=missing.pop(key_id))
    if missing:
        raise KeysMissing(_sentence(missing, sealer))


def _why_not_opened(sealer: Sealer, secret: store.SealedSecret) -> str | None:
    try:
        sealer.open(secret.sealed, secret.customer_id, secret.bound_id, secret.purpose)
    except UnsealError as error:
        return str(error)
    return None


def _sentence(missing: dict[int, int], sealer: Sealer) -> str:
    named = [
        f"{key_id_text(key_id)} (the secrets of {_webhooks(count)} are sealed with it)"
        for key_id, count in list(missing.items())[:_KEYS_SHOWN_MAX]
    ]
    more = f" and {len(missing) - _KEYS_SHOWN_MAX} more" if len(missing) > _KEYS_SHOWN_MAX else ""
    given = ", ".join(key_id_text(key_id) for key_id in sealer.key_ids)
    return (
        f"WEBHOOK_SECRET_KEYS lacks the key {', '.join(named)}{more}: it has {given}; add the missing key behind the "
        "first, or, if it is lost, put its id into WEBHOOK_SECRET_KEYS_LOST and give those webhooks new secrets"
    )


def _webhooks(count: int) -> str:
    if count == 1:
        return "1 webhook"
    return f"{count} webhooks" if count < store.COUNTED_MAX else f"{count} or more webhooks"

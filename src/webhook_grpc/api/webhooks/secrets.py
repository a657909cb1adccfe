"""Secrets of webhooks: replace the secret of one, and how secrets are made and opened."""

from __future__ import annotations

import hmac
import os
from typing import Final

from webhook.v1 import service_pb2, webhook_pb2

from webhook_grpc.api.call import Call, refuse_if
from webhook_grpc.api.messages import reading, times, writing
from webhook_grpc.domain import signing, validation
from webhook_grpc.domain.errors import Unavailable, Violation
from webhook_grpc.domain.model import Webhook
from webhook_grpc.domain.sealing import ENTROPY_BYTES, KeyMissing, Sealer
from webhook_grpc.hub.hints import Hints
from webhook_grpc.store.db import Database
from webhook_grpc.store.outbox.publishing import request_id_reused
from webhook_grpc.store.registry import secrets as store
from webhook_grpc.store.schema.versions import refuse_beside_older

from . import url_queries

KEY_BYTES: Final = 32


class SecretMethods:
    """The call that rotates secrets."""

    def __init__(self, database: Database, sealer: Sealer, hints: Hints) -> None:
        self._database = database
        self._sealer = sealer
        self._hints = hints

    async def rotate(self, request: service_pb2.RotateWebhookSecretRequest, call: Call) -> webhook_pb2.Webhook:
        """Replaces the secret; until the overlap ends, requests are signed with the old secret too."""
        violations = list[Violation]()
        customer_id = call.customer(request.customer_id, "customer_id", violations)
        webhook_id = reading.read_id(request.webhook_id, "webhook_id", violations)
        if violation := validation.secret_violation(request.secret, "secret"):
            violations.append(violation)
        overlap_seconds = read_overlap(request, violations)
        request_id = reading.read_request_id(request.request_id, violations)
        refuse_if(violations)
        if overlap_seconds:  # an older process would sign with the new secret only
            await refuse_beside_older(self._database, "a rotation with an overlap")

        secret = request.secret or new_secret()
        rotation = store.Rotation(
            customer_id=customer_id,
            webhook_id=webhook_id,
            sealed_secret=self._sealer.seal(secret, customer_id, webhook_id, os.urandom(ENTROPY_BYTES)),
            secret_hint=signing.hint_of(secret),
            secret_generated=not request.secret,
            overlap_seconds=overlap_seconds,
            request_id=request_id,
            fingerprint=reading.fingerprint(b"%d %r" % (not request.secret, overlap_seconds)),
        )
        rotated = await store.rotate(
            self._database, rotation, audit=call.audit(f"webhook:{webhook_id}", fields=("secret",))
        )
        if rotated.repeated:
            secret = self._secret_before(rotated, request)
        else:
            self._hints.webhook_changed(webhook_id)
        webhook = url_queries.shown(self._sealer, rotated.webhook)
        return writing.webhook_message(webhook, secret if rotated.secret_generated else "")

    def _secret_before(self, rotated: store.Rotated, request: service_pb2.RotateWebhookSecretRequest) -> str:
        """Returns the secret that the first call set. Raises AlreadyExists if this call brings another one.

        The opened secret is compared, so that no digest of a secret has to be stored.
        """
        webhook = rotated.webhook
        secret = opened(self._sealer, webhook)
        if request.secret and not hmac.compare_digest(secret.encode("utf-8"), request.secret.encode("utf-8")):
            raise request_id_reused(request.request_id)
        return secret


def opened(sealer: Sealer, webhook: Webhook) -> str:
    """Returns a webhook's secret. Raises Unavailable if this process lacks its key: another one may have it."""
    try:
        return sealer.open(webhook.sealed_secret, webhook.customer_id, webhook.webhook_id)
    except KeyMissing as error:
        raise sealing_key_missing(webhook.webhook_id, "the secret", error) from None


def sealing_key_missing(webhook_id: int, what: str, error: KeyMissing) -> Unavailable:
    """Returns the error of a call that needs what this process cannot open: another one may have the key."""
    return Unavailable(
        "SECRET_KEY_MISSING",
        f"{what} of webhook {webhook_id}: {error} in this process; repeat the call, or let the operator add the key",
    )


def new_secret() -> str:
    """Returns a random secret in the form of Standard Webhooks."""
    return signing.secret_from_key(os.urandom(KEY_BYTES))


def read_overlap(
    request: service_pb2.RotateWebhookSecretRequest | service_pb2.RotateSigningKeyRequest, violations: list[Violation]
) -> float:
    """Returns for how many seconds the old secret or key signs too."""
    if not request.HasField("overlap"):
        return validation.SECRET_OVERLAP_SECONDS
    seconds = times.seconds_of(request.overlap)
    if not 0 <= seconds <= validation.SECRET_OVERLAP_SECONDS_MAX:
        violations.append(Violation("overlap", "must be 0 s to 7 days, or unset for 24 h"))
    return seconds

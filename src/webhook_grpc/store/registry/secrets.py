"""Rotates the secret of a webhook. One earlier secret is kept while requests are signed with both."""

from __future__ import annotations

from typing import Final

from webhook_grpc.domain.audit import AuditEntry
from webhook_grpc.domain.errors import FailedPrecondition
from webhook_grpc.domain.model import Webhook
from webhook_grpc.domain.record import record
from webhook_grpc.store.audit import entry_parameters, leaves_entry
from webhook_grpc.store.clock import BELIEVED_NOW
from webhook_grpc.store.db import Database
from webhook_grpc.store.outbox.publishing import request_id_reused

from .webhooks import CHANGED_COLUMNS, COLUMNS, get, webhook_of

# Returns no row: the webhook is deleted, a call with this request id did it before, or an earlier rotation overlaps.
ROTATE_SECRET: Final = f"""
WITH input AS MATERIALIZED (
    SELECT now() AS at, now() + nullif(%(overlap_seconds)s::double precision, 0) * interval '1 second' AS overlap_until,
        true AS singleton
), changed AS (
    UPDATE webhooks SET
        previous_secret = CASE WHEN input.overlap_until IS NOT NULL THEN secret END,
        previous_secret_until = input.overlap_until,
        secret = %(secret)b, secret_hint = %(secret_hint)s, secret_generated = %(secret_generated)s,
        rotation_request_id = %(request_id)s, rotation_fingerprint = %(fingerprint)s::bigint,
        version = version + 1, updated_at = input.at
    FROM input
    WHERE id = %(id)s AND customer_id = %(customer_id)s AND status <> 'deleted'
        AND (%(request_id)s::text IS NULL OR rotation_request_id IS DISTINCT FROM %(request_id)s)
        AND (input.overlap_until IS NULL OR previous_secret_until IS NULL OR previous_secret_until <= input.at)
    RETURNING webhooks.*, input.at
), audited AS ({leaves_entry("changed")})
SELECT {CHANGED_COLUMNS} FROM changed
"""

# The last rotation, if a call with this request id made it.
SELECT_ROTATED_BEFORE: Final = f"""
SELECT secret_generated, rotation_fingerprint, {COLUMNS} FROM webhooks
WHERE id = %(id)s AND customer_id = %(customer_id)s AND status <> 'deleted' AND rotation_request_id = %(request_id)s
"""

# Secrets that sign nothing any more. `version` and `updated_at` stay: callers and engines see no change.
FORGET_PREVIOUS_SECRETS: Final = f"""
UPDATE webhooks SET previous_secret = NULL, previous_secret_until = NULL
WHERE previous_secret_until <= {BELIEVED_NOW}
"""


@record
class Rotation:
    """A new secret for a webhook, sealed for it. `fingerprint`: of the request, without the secret."""

    customer_id: int
    webhook_id: int
    sealed_secret: bytes
    secret_hint: str
    secret_generated: bool
    overlap_seconds: float
    request_id: str | None
    fingerprint: int


@record
class Rotated:
    """A webhook with its new secret, from this call or from an earlier one with the same request id."""

    webhook: Webhook
    secret_generated: bool
    repeated: bool


async def rotate(database: Database, rotation: Rotation, *, audit: AuditEntry) -> Rotated:
    """Replaces the secret. On a repetition returns what was stored: the caller compares a secret that it chose.

    Raises NotFound, AlreadyExists (the request id was used for something else), FailedPrecondition (an earlier rotation
    still overlaps), Unavailable.
    """
    before = await _rotated_before(database, rotation)
    if before is not None:
        return before
    parameters = {
        "id": rotation.webhook_id,
        "customer_id": rotation.customer_id,
        "secret": rotation.sealed_secret,
        "secret_hint": rotation.secret_hint,
        "secret_generated": rotation.secret_generated,
        "overlap_seconds": rotation.overlap_seconds,
        "request_id": rotation.request_id,
        "fingerprint": rotation.fingerprint,
        **entry_parameters(audit),
    }
    rows = await database.rows(ROTATE_SECRET, parameters)
    if rows:
        return Rotated(webhook_of(rows[0]), rotation.secret_generated, repeated=False)
    before = await _rotated_before(database, rotation)  # a call at the same time did it
    if before is not None:
        return before
    raise _overlapping(await get(database, rotation.customer_id, rotation.webhook_id))


async def forget_previous(database: Database) -> None:
    """Deletes the secrets whose overlap has ended. Raises Unavailable."""
    await database.rows(FORGET_PREVIOUS_SECRETS)


async def _rotated_before(database: Database, rotation: Rotation) -> Rotated | None:
    if rotation.request_id is None:
        return None
    key = {"id": rotation.webhook_id, "customer_id": rotation.customer_id, "request_id": rotation.request_id}
    rows = await database.rows(SELECT_ROTATED_BEFORE, key)
    if not rows:
        return None
    secret_generated, fingerprint, *columns = rows[0]
    if fingerprint != rotation.fingerprint:
        raise request_id_reused(rotation.request_id)
    return Rotated(webhook_of(columns), secret_generated, repeated=True)


def _overlapping(webhook: Webhook) -> FailedPrecondition:
    """Returns the error: with two old secrets, one would be deleted while receivers may still check it."""
    until = webhook.previous_secret_until
    end_time = until.isoformat(timespec="milliseconds") if until else "a moment ago"
    return FailedPrecondition(
        "SECRET_OVERLAP",
        f"requests to webhook {webhook.webhook_id} are signed with the secret before as well, until {end_time}; rotate "
        "after that, or with an overlap of 0 s, which ends both old secrets at once",
        f"webhook:{webhook.webhook_id}",
    )

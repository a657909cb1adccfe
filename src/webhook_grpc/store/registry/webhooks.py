"""Stores webhooks. A deleted one keeps its row, for its history and until what was pending is cancelled."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from webhook_grpc.domain.audit import AuditEntry
from webhook_grpc.domain.errors import Conflict, FailedPrecondition, NotFound, QuotaExceeded
from webhook_grpc.domain.ids import INT64_MAX
from webhook_grpc.domain.model import SealedSigningKey, SignatureType, Webhook, WebhookSpec, WebhookStatus
from webhook_grpc.domain.record import record
from webhook_grpc.store import literals
from webhook_grpc.store.audit import entry_parameters, leaves_entry
from webhook_grpc.store.db import Database, Queries, Row, run
from webhook_grpc.store.outbox.publishing import request_id_reused

from .signing_keys import NewSigningKey, insert_first

_STORED: Final = """
    id, customer_id, name, url, secret, secret_hint, events, status, status_reason, retry_delays_seconds,
    timeout_seconds, max_in_flight, rate_limit_per_second, headers, labels, description, version, created_at,
    updated_at, CASE WHEN status = 'disabled' THEN disabled_at END AS disabled_at, sealed_headers,
    signature_type, sealed_query
"""

# The columns of a webhook, in the order of `webhook_of`. A secret that no longer signs counts as deleted.
COLUMNS: Final = f"""{_STORED},
    CASE WHEN previous_secret_until > now() THEN previous_secret END AS previous_secret,
    CASE WHEN previous_secret_until > now() THEN previous_secret_until END AS previous_secret_until
"""

# The same of a row that the statement itself has changed, at the time `at`.
CHANGED_COLUMNS: Final = f"""{_STORED},
    CASE WHEN previous_secret_until > at THEN previous_secret END AS previous_secret,
    CASE WHEN previous_secret_until > at THEN previous_secret_until END AS previous_secret_until
"""

SELECT_NEXT_ID: Final = "SELECT nextval(pg_get_serial_sequence('webhooks', 'id'))"

LOCK_CUSTOMER: Final = f"""
SELECT pg_advisory_xact_lock(hashtextextended('webhooks of ' || %(customer_id)s::bigint, {literals.SCHEMA_SEED}))
"""

# Returns no row: the request id is taken, or the customer has as many webhooks as it may have.
INSERT_WEBHOOK: Final = f"""
WITH input AS MATERIALIZED (
    SELECT %(id)s::bigint AS id, %(customer_id)s::bigint AS customer_id, %(name)s::text AS name, %(url)s::text AS url,
        %(secret)b::bytea AS secret, %(secret_hint)s::text AS secret_hint,
        %(secret_generated)s::boolean AS secret_generated, %(events)s::text[] AS events,
        %(retry_delays_seconds)s::double precision[] AS retry_delays_seconds,
        %(timeout_seconds)s::double precision AS timeout_seconds, %(max_in_flight)s::integer AS max_in_flight,
        %(rate_limit_per_second)s::integer AS rate_limit_per_second, %(headers)s::jsonb AS headers,
        %(sealed_headers)b::bytea AS sealed_headers, %(sealed_query)b::bytea AS sealed_query,
        %(labels)s::jsonb AS labels, %(description)s::text AS description, %(signature_type)s::text AS signature_type,
        %(request_id)s::text AS request_id,
        %(request_fingerprint)s::bigint AS request_fingerprint, now() AS at, true AS singleton,
        (
            SELECT count(*) FROM webhooks WHERE customer_id = %(customer_id)s::bigint AND status <> 'deleted'
        ) AS webhook_count
), created AS (
    INSERT INTO webhooks (
        id, customer_id, name, url, secret, secret_hint, secret_generated, events, retry_delays_seconds,
        timeout_seconds, max_in_flight, rate_limit_per_second, headers, sealed_headers, sealed_query, labels,
        description, signature_type, request_id, request_fingerprint, created_at, updated_at
    )
    SELECT id, customer_id, name, url, secret, secret_hint, secret_generated, events, retry_delays_seconds,
        timeout_seconds, max_in_flight, rate_limit_per_second, headers, sealed_headers, sealed_query, labels,
        description, signature_type, request_id, request_fingerprint, at, at
    FROM input JOIN meta USING (singleton)
    WHERE webhook_count < %(webhooks_max)s::integer
    ON CONFLICT (customer_id, request_id) WHERE request_id IS NOT NULL DO NOTHING
    RETURNING *
), audited AS ({leaves_entry("created")})
SELECT {CHANGED_COLUMNS} FROM (SELECT *, updated_at AS at FROM created) changed
"""

# A secret that was rotated since is not the secret that the call generated.
SELECT_CREATED_WEBHOOK: Final = f"""
SELECT secret_generated AND rotation_fingerprint IS NULL, request_fingerprint, {COLUMNS}
FROM webhooks WHERE customer_id = %(customer_id)s AND request_id = %(request_id)s
"""

SELECT_WEBHOOK: Final = f"""
SELECT {COLUMNS} FROM webhooks
WHERE id = %(id)s AND (%(customer_id)s::bigint IS NULL OR customer_id = %(customer_id)s) AND status <> 'deleted'
"""

SELECT_WEBHOOKS: Final = f"""
SELECT {COLUMNS} FROM webhooks
WHERE (%(customer_id)s::bigint IS NULL OR customer_id = %(customer_id)s)
    AND id < %(before)s
    AND status <> 'deleted'
    AND (%(statuses)s::text[] IS NULL OR status = ANY(%(statuses)s::text[]))
ORDER BY id DESC
LIMIT %(limit)s
"""

# Returns no row: it is deleted, or somebody else has changed it first.
UPDATE_WEBHOOK: Final = f"""
WITH input AS MATERIALIZED (
    SELECT now() AS at, true AS singleton
), changed AS (
    UPDATE webhooks SET name = %(name)s, url = %(url)s, events = %(events)s,
        retry_delays_seconds = %(retry_delays_seconds)s::double precision[],
        timeout_seconds = %(timeout_seconds)s::double precision, max_in_flight = %(max_in_flight)s::integer,
        rate_limit_per_second = %(rate_limit_per_second)s::integer,
        headers = %(headers)s::jsonb, labels = %(labels)s::jsonb, description = %(description)s,
        signature_type = %(signature_type)s,
        sealed_headers = CASE WHEN %(keeps_sealed_headers)s THEN sealed_headers ELSE %(sealed_headers)b::bytea END,
        sealed_query = CASE WHEN %(keeps_sealed_query)s THEN sealed_query ELSE %(sealed_query)b::bytea END,
        version = version + 1, updated_at = input.at
    FROM input
    WHERE id = %(id)s AND version = %(version)s AND status <> 'deleted'
    RETURNING webhooks.*, input.at
), audited AS ({leaves_entry("changed")})
SELECT {CHANGED_COLUMNS} FROM changed
"""

_STATUS_CHANGED: Final = """
WITH input AS MATERIALIZED (
    SELECT now() AS at, true AS singleton
), changed AS (
    UPDATE webhooks SET status = %(status)s, status_reason = %(reason)s, version = version + 1, updated_at = input.at,
        disabled_at = CASE WHEN %(status)s = 'disabled' THEN input.at END
    FROM input
    WHERE id = %(id)s AND status = ANY(%(from_statuses)s::text[])
        AND (%(version)s::integer IS NULL OR version = %(version)s)
    RETURNING webhooks.*, input.at
)
"""

# Returns no row: it is deleted, of another version, or in none of the statuses from which the change is possible.
SET_WEBHOOK_STATUS: Final = f"""
{_STATUS_CHANGED}
SELECT {CHANGED_COLUMNS} FROM changed
"""
SET_WEBHOOK_STATUS_FOR_CALL: Final = f"""
{_STATUS_CHANGED}, audited AS ({leaves_entry("changed")})
SELECT {CHANGED_COLUMNS} FROM changed
"""

# Makes a disabled webhook active again, with a half-open breaker and no other health.
REOPEN_WEBHOOK: Final = f"""
WITH input AS MATERIALIZED (
    SELECT now() AS at, true AS singleton
), reopened AS (
    UPDATE webhooks SET status = 'active', status_reason = '', version = version + 1, updated_at = input.at,
        disabled_at = NULL
    FROM input
    WHERE id = %(id)s AND status = 'disabled'
    RETURNING webhooks.*, input.at, input.singleton
), half_open AS (
    INSERT INTO webhook_health (webhook_id, breaker, updated_at)
    SELECT id, 'half_open', at FROM reopened JOIN meta USING (singleton)
    ON CONFLICT (webhook_id) DO UPDATE SET breaker = 'half_open', probe_at = NULL, probe_count = 0,
        failing_since = NULL, failure_count = 0, blocked_count = 0, blocked_at = NULL, hold_until = NULL,
        throttled_until = NULL, throttle_rate = NULL, throttle_ceiling = NULL, updated_at = excluded.updated_at
), audited AS ({leaves_entry("reopened")})
SELECT {CHANGED_COLUMNS} FROM reopened
"""

# With the keys that sign, the newest first, for the few webhooks that need them.
SELECT_WEBHOOKS_BY_ID: Final = f"""
SELECT {COLUMNS}, keys.* FROM webhooks LEFT JOIN LATERAL (
    SELECT array_agg(k.id ORDER BY k.id DESC) AS key_ids, array_agg(k.private_key ORDER BY k.id DESC) AS private_keys,
        array_agg(k.retire_at ORDER BY k.id DESC) AS retire_times
    FROM signing_keys k
    WHERE webhooks.signature_type = 'ed25519' AND k.customer_id = webhooks.customer_id
        AND (k.retire_at IS NULL OR k.retire_at > now())
) keys ON true
WHERE webhooks.id = ANY(%(ids)b::bigint[])
"""

# Those of other customers are not even read: they take as long as those that do not exist.
SELECT_WEBHOOK_STATUSES: Final = """
SELECT id, status FROM webhooks WHERE id = ANY(%(ids)b::bigint[]) AND customer_id = %(customer_id)s
"""

# Two calls of `changed_lately` so many seconds apart miss no change; after a longer pause, read all webhooks `by_ids`.
LOOK_BACK_SECONDS: Final = 10.0
SELECT_CHANGED_VERSIONS: Final = f"""
SELECT id, version FROM webhooks WHERE updated_at > now() - {literals.CHANGED_LATELY}
"""


@record
class NewWebhook:
    """A webhook to create. Its id is from `next_id`, because the secret is sealed for it.

    `signing_key`: for ED25519, a key for the customer if it has none.
    `fingerprints` are of the request, if it has an id: the first is stored, and a repetition may have any of them.
    """

    webhook_id: int
    customer_id: int
    spec: WebhookSpec
    sealed_secret: bytes
    secret_hint: str
    secret_generated: bool
    request_id: str | None
    fingerprints: Sequence[int]
    signing_key: NewSigningKey | None = None


@record
class Created:
    """A webhook that this call created, or an earlier call with the same request id."""

    webhook: Webhook
    secret_generated: bool


async def next_id(database: Database) -> int:
    """Returns an id that no webhook has had. Raises Unavailable."""
    [(webhook_id,)] = await database.rows(SELECT_NEXT_ID)
    return webhook_id


async def create(database: Database, new: NewWebhook, webhooks_max: int, *, audit: AuditEntry) -> Created:
    """Creates a webhook. Raises QuotaExceeded, AlreadyExists (of the request id), StoreRefusal, Unavailable."""
    parameters = {
        **_spec_parameters(new.spec),
        "id": new.webhook_id,
        "customer_id": new.customer_id,
        "secret": new.sealed_secret,
        "secret_hint": new.secret_hint,
        "secret_generated": new.secret_generated,
        "request_id": new.request_id,
        "request_fingerprint": new.fingerprints[0] if new.fingerprints else None,
        "webhooks_max": webhooks_max,
        **entry_parameters(audit),
    }
    rows = await _create_in_turn(database, parameters, new.signing_key)
    if rows:
        return Created(webhook_of(rows[0]), new.secret_generated)
    before = await created_before(database, new)
    if before is not None:
        return before
    raise QuotaExceeded(
        "WEBHOOK_QUOTA",
        f"a customer may have at most {webhooks_max} webhooks; delete one first",
        f"customer:{new.customer_id}",
    )


async def _create_in_turn(
    database: Database, parameters: Mapping[str, object], signing_key: NewSigningKey | None
) -> list[Row]:
    """Inserts while no other call inserts for the same customer, so that calls can't exceed the quota together.

    The lock is a statement of its own, because a statement does not see what was committed while it waited. This is no
    hot path; besides event types, signing keys and partitions it is the only transaction that spans a round trip.
    """
    async with database.connection() as connection, connection.transaction():
        await run(connection, LOCK_CUSTOMER, parameters)
        if signing_key is not None:
            await insert_first(connection, signing_key)
        return await run(connection, INSERT_WEBHOOK, parameters)


async def created_before(database: Database, new: NewWebhook) -> Created | None:
    """Returns what an earlier call with the same request id created, None if there was no call.

    Raises AlreadyExists (the call was another one), NotFound (the webhook was deleted since), Unavailable.
    """
    if new.request_id is None:
        return None
    rows = await database.rows(SELECT_CREATED_WEBHOOK, {"customer_id": new.customer_id, "request_id": new.request_id})
    if not rows:
        return None
    secret_generated, fingerprint, *columns = rows[0]
    if fingerprint is not None and fingerprint not in new.fingerprints:  # None: an operator has deleted it
        raise request_id_reused(new.request_id)
    webhook = webhook_of(columns)
    if webhook.status is WebhookStatus.DELETED:
        raise NotFound("webhook", str(webhook.webhook_id))
    return Created(webhook, secret_generated)


async def get(database: Database, customer_id: int | None, webhook_id: int) -> Webhook:
    """Returns a webhook of a customer, or of anybody if that is None. Raises NotFound, Unavailable."""
    rows = await database.rows(SELECT_WEBHOOK, {"id": webhook_id, "customer_id": customer_id})
    if not rows:
        raise NotFound("webhook", str(webhook_id))
    return webhook_of(rows[0])


async def list_page(
    database: Database, customer_id: int | None, statuses: Sequence[WebhookStatus], before: int, limit: int
) -> list[Webhook]:
    """Returns the next webhooks with ids below `before`, newest first. Raises Unavailable."""
    parameters = {
        "customer_id": customer_id,
        "statuses": [status.value for status in statuses] or None,
        "before": min(before, INT64_MAX),
        "limit": limit,
    }
    return [webhook_of(row) for row in await database.rows(SELECT_WEBHOOKS, parameters)]


async def update(
    database: Database,
    current: Webhook,
    spec: WebhookSpec,
    *,
    audit: AuditEntry,
    signing_key: NewSigningKey | None = None,
) -> Webhook:
    """Replaces the spec of a webhook that is still as `current`. Raises Conflict, NotFound, Unavailable.

    `signing_key`: for ED25519, a key for the customer if it has none.
    """
    keeps_sealed_headers = spec.sealed_headers is not None and spec.sealed_headers == current.sealed_headers
    keeps_sealed_query = spec.sealed_query is not None and spec.sealed_query == current.sealed_query
    parameters = {
        **_spec_parameters(spec),
        "id": current.webhook_id,
        "version": current.version,
        **entry_parameters(audit),
        "keeps_sealed_headers": keeps_sealed_headers,  # `keys rotate` may have sealed them again since `current`
        "keeps_sealed_query": keeps_sealed_query,
    }
    if signing_key is None:
        rows = await database.rows(UPDATE_WEBHOOK, parameters)
    else:
        async with database.connection() as connection, connection.transaction():
            await insert_first(connection, signing_key)
            rows = await run(connection, UPDATE_WEBHOOK, parameters)
    if not rows:
        raise etag_mismatch(await get(database, current.customer_id, current.webhook_id))
    return webhook_of(rows[0])


async def set_status(
    database: Database,
    current: Webhook,
    status: WebhookStatus,
    from_statuses: Collection[WebhookStatus],
    *,
    audit: AuditEntry | None,
    reason: str = "",
    version: int | None = None,
) -> Webhook:
    """Changes the status, only from the given statuses and, if `version` is given, only at that version.

    `audit` None: no caller wants it, but the service itself.
    Raises FailedPrecondition, Conflict, NotFound, Unavailable.
    """
    parameters = {
        "id": current.webhook_id,
        "status": status.value,
        "reason": reason,
        "from_statuses": [from_status.value for from_status in from_statuses],
        "version": version,
    }
    if audit is None:
        rows = await database.rows(SET_WEBHOOK_STATUS, parameters)
    else:
        rows = await database.rows(SET_WEBHOOK_STATUS_FOR_CALL, {**parameters, **entry_parameters(audit)})
    if rows:
        return webhook_of(rows[0])
    raise await _why_not_changed(database, current, from_statuses, version)


async def resume(database: Database, current: Webhook, *, audit: AuditEntry) -> Webhook:
    """Makes a paused or disabled webhook active; a disabled one starts with a half-open breaker.

    Raises FailedPrecondition, NotFound, Unavailable.
    """
    reopened = await database.rows(REOPEN_WEBHOOK, {"id": current.webhook_id, **entry_parameters(audit)})
    if reopened:
        return webhook_of(reopened[0])
    from_statuses = (WebhookStatus.PAUSED, WebhookStatus.DISABLED)
    return await set_status(database, current, WebhookStatus.ACTIVE, from_statuses, audit=audit)


async def _why_not_changed(
    database: Database, current: Webhook, from_statuses: Collection[WebhookStatus], version: int | None
) -> Conflict | FailedPrecondition:
    now = await get(database, current.customer_id, current.webhook_id)
    if version is not None and now.version != version and now.status in from_statuses:
        return etag_mismatch(now)
    return FailedPrecondition(
        "WEBHOOK_STATUS",
        f"webhook {now.webhook_id} is {now.status.value}; this is possible only when it is "
        + " or ".join(from_status.value for from_status in from_statuses),
        f"webhook:{now.webhook_id}",
        {"status": now.status.value},
    )


def etag_mismatch(now: Webhook) -> Conflict:
    """Returns the error for a webhook that has changed since the caller read it."""
    return Conflict(
        "ETAG_MISMATCH",
        f"webhook {now.webhook_id} was changed since you read it; read it again and repeat the change",
        {"current_etag": str(now.version)},
    )


async def by_ids(database: Queries, webhook_ids: Collection[int]) -> list[Webhook]:
    """Returns webhooks for the engine, deleted ones too, with their signing keys. Raises Unavailable."""
    return [_with_keys(row) for row in await database.rows(SELECT_WEBHOOKS_BY_ID, {"ids": list(webhook_ids)})]


async def statuses_of(database: Queries, customer_id: int, webhook_ids: Collection[int]) -> dict[int, WebhookStatus]:
    """Returns the status of each of these webhooks that the customer has, or had. Raises Unavailable."""
    parameters = {"ids": list(webhook_ids), "customer_id": customer_id}
    rows = await database.rows(SELECT_WEBHOOK_STATUSES, parameters)
    return {webhook_id: WebhookStatus(status) for webhook_id, status in rows}


async def find(database: Queries, webhook_id: int) -> Webhook | None:
    """Returns a webhook, also a deleted one, of whichever customer; None if there is none. Raises Unavailable."""
    found = await by_ids(database, [webhook_id])
    return found[0] if found else None


async def changed_lately(database: Queries) -> dict[int, int]:
    """Returns the version of every webhook that was changed lately, deleted ones too. Raises Unavailable."""
    return dict(await database.rows(SELECT_CHANGED_VERSIONS))


def _spec_parameters(spec: WebhookSpec) -> dict[str, object]:
    return {
        "name": spec.name,
        "url": spec.url,
        "events": list(spec.events),
        "retry_delays_seconds": None if spec.retry_delays_seconds is None else list(spec.retry_delays_seconds),
        "timeout_seconds": spec.timeout_seconds,
        "max_in_flight": spec.max_in_flight,
        "rate_limit_per_second": spec.rate_limit_per_second,
        "headers": orjson.dumps(dict(spec.headers)).decode("utf-8"),
        "sealed_headers": spec.sealed_headers,
        "sealed_query": spec.sealed_query,
        "labels": orjson.dumps(dict(spec.labels)).decode("utf-8"),
        "description": spec.description,
        "signature_type": spec.signature_type.value,
    }


def _with_keys(row: Row) -> Webhook:
    *columns, key_ids, private_keys, retire_times = row
    webhook = webhook_of(columns)
    if webhook.signature_type is SignatureType.HMAC:
        return webhook
    found = zip(key_ids or (), private_keys or (), retire_times or (), strict=True)
    return replace(
        webhook, signing_keys=tuple(SealedSigningKey(key_id, bytes(sealed), until) for key_id, sealed, until in found)
    )


def webhook_of(row: Sequence[Any]) -> Webhook:
    """Returns the webhook of a row of COLUMNS."""
    (
        webhook_id, customer_id, name, url, secret, secret_hint, events, status, status_reason, retry_delays,
        timeout_seconds, max_in_flight, rate_limit_per_second, headers, labels, description, version, created_at,
        updated_at, disabled_at, sealed_headers, signature_type, sealed_query, previous_secret, previous_secret_until,
    ) = row  # fmt: skip
    return Webhook(
        webhook_id=webhook_id,
        customer_id=customer_id,
        name=name,
        url=url,
        sealed_secret=bytes(secret),
        secret_hint=secret_hint,
        events=tuple(events),
        status=WebhookStatus(status),
        status_reason=status_reason,
        retry_delays_seconds=None if retry_delays is None else tuple(retry_delays),
        timeout_seconds=timeout_seconds,
        max_in_flight=max_in_flight,
        rate_limit_per_second=rate_limit_per_second,
        headers=headers,
        labels=labels,
        description=description,
        version=version,
        create_time=created_at,
        update_time=updated_at,
        disable_time=disabled_at,
        sealed_headers=None if sealed_headers is None else bytes(sealed_headers),
        sealed_query=None if sealed_query is None else bytes(sealed_query),
        sealed_previous_secret=None if previous_secret is None else bytes(previous_secret),
        previous_secret_until=previous_secret_until,
        signature_type=SignatureType(signature_type),
    )

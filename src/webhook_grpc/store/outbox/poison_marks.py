"""Marks deliveries that may end the process which sends them, in their rows of the outbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from webhook_grpc.domain.model import Danger, PendingDelivery
from webhook_grpc.store.db import LoopConnection
from webhook_grpc.store.ownership.fence import shards_still_owned
from webhook_grpc.store.ownership.leases import OwnedShard

# Only while the shard is ours at our epoch. Without a lock: a mark that comes too late costs one attempt, no delivery.
# Rows are looked up by their keys and marked by their places, as in SETTLE.
SET_DANGER: Final = f"""
WITH own AS MATERIALIZED ({shards_still_owned("shard", "epoch")}
), found AS MATERIALIZED (
    SELECT d.place
    FROM unnest(
        %(shard)b::smallint[], %(webhook_id)b::bigint[], %(due_at)b::timestamptz[], %(event_id)b::uuid[],
        %(attempt)b::smallint[]
    ) AS k(shard, webhook_id, due_at, event_id, attempt)
    CROSS JOIN LATERAL (
        SELECT ctid AS place FROM deliveries
        WHERE shard = k.shard AND webhook_id = k.webhook_id AND due_at = k.due_at AND event_id = k.event_id
            AND attempt = k.attempt
        LIMIT 1
    ) d
    WHERE k.shard = ANY(ARRAY(SELECT shard FROM own))
)
UPDATE deliveries SET danger = %(danger)b::smallint
WHERE ctid = ANY(ARRAY(SELECT place FROM found))
RETURNING webhook_id, event_id
"""


async def set_danger(
    connection: LoopConnection,
    worker: UUID,
    owned: Mapping[int, OwnedShard],
    deliveries: Sequence[PendingDelivery],
    danger: Danger,
) -> set[tuple[int, UUID]]:
    """Writes the danger of deliveries; returns those that were still ours to send. Raises Unavailable."""
    ours = [delivery for delivery in deliveries if delivery.shard in owned]
    parameters = {
        "danger": danger,
        "worker": worker,
        "shard": [delivery.shard for delivery in ours],
        "epoch": [owned[delivery.shard].epoch for delivery in ours],
        "webhook_id": [delivery.webhook_id for delivery in ours],
        "due_at": [delivery.due_at for delivery in ours],
        "event_id": [delivery.event_id for delivery in ours],
        "attempt": [delivery.attempt for delivery in ours],
    }
    return {(webhook_id, event_id) for webhook_id, event_id in await connection.rows(SET_DANGER, parameters)}

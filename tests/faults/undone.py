"""What a round leaves undone, and what each delivery and command waits for: for a round that has not drained."""

from __future__ import annotations

from typing import LiteralString
from uuid import UUID

from tests.support.postgres import query
from webhook_grpc.domain.ids import event_id_text

_SHOWN_MAX = 5

DELIVERIES: LiteralString = """
SELECT d.shard, d.event_id, d.webhook_id, d.attempt, extract(epoch FROM d.due_at - now())::float8,
    coalesce(w.status, 'not stored'), coalesce(h.breaker, 'closed')
FROM deliveries d
LEFT JOIN webhooks w ON w.id = d.webhook_id
LEFT JOIN webhook_health h ON h.webhook_id = d.webhook_id
ORDER BY d.due_at
"""
COMMANDS: LiteralString = """
SELECT shard, event_id, webhook_id, command, extract(epoch FROM now() - created_at)::float8
FROM commands ORDER BY created_at
"""
OWNERS: LiteralString = """
SELECT s.shard, CASE WHEN s.owner IS NULL THEN 'without an owner' ELSE 'of ' || s.owner
    || CASE WHEN w.lease_until > now() THEN '' ELSE ', without a lease' END END
FROM shards s LEFT JOIN workers w ON w.worker_id = s.owner
"""


def undone(url: str) -> tuple[str, ...]:
    """Returns how much is pending, and a sentence for each of the oldest deliveries and commands."""
    deliveries, commands, owners = query(url, DELIVERIES), query(url, COMMANDS), dict(query(url, OWNERS))
    return (
        f"{len(deliveries)} deliveries and {len(commands)} commands are pending",
        *(f"{_delivery(*rest)}; shard {shard} {owners[shard]}" for shard, *rest in deliveries[:_SHOWN_MAX]),
        *(f"{_command(*rest)}; shard {shard} {owners[shard]}" for shard, *rest in commands[:_SHOWN_MAX]),
    )


def _delivery(event_id: UUID, webhook_id: int, attempts: int, due_in: float, status: str, breaker: str) -> str:
    due = f"due in {due_in:.1f} s" if due_in > 0 else f"due since {-due_in:.1f} s"
    return f"{_name(event_id, webhook_id)}, {attempts} attempts made, {due}; webhook {status}, breaker {breaker}"


def _command(event_id: UUID, webhook_id: int, command: str, age_seconds: float) -> str:
    return f"{command} of {_name(event_id, webhook_id)}, {age_seconds:.1f} s old"


def _name(event_id: UUID, webhook_id: int) -> str:
    return f"{event_id_text(event_id)} to webhook {webhook_id}"

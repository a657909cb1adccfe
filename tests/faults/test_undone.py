"""What a round that has not drained reports of its database."""

from __future__ import annotations

from typing import LiteralString
from uuid import UUID

from tests.support.postgres import query
from webhook_grpc.domain.ids import event_id_text

from .undone import undone

EVENT, WORKER = UUID(int=1), UUID(int=2)
DELIVERY: LiteralString = """
INSERT INTO deliveries (shard, webhook_id, due_at, event_id, customer_id, attempt)
VALUES (7, 7, now() + interval '1 hour', %(event)s, 1, 2)
"""
COMMAND: LiteralString = """
INSERT INTO commands (shard, webhook_id, event_id, command, customer_id, created_at)
VALUES (8, 8, %(event)s, 'retry', 1, now())
"""
OPEN: LiteralString = "INSERT INTO webhook_health (webhook_id, breaker) VALUES (7, 'open')"
OWNED: LiteralString = "UPDATE shards SET owner = %(worker)s WHERE shard = 7"


def test_what_is_pending_is_named_with_what_it_waits_for(database_url: str) -> None:
    for statement in (DELIVERY, COMMAND):
        query(database_url, statement, {"event": EVENT})
    query(database_url, OPEN)
    query(database_url, OWNED, {"worker": WORKER})
    count, delivery, command = undone(database_url)
    assert count == "1 deliveries and 1 commands are pending"
    assert delivery.startswith(f"{event_id_text(EVENT)} to webhook 7, 2 attempts made, due in 3")
    assert delivery.endswith(f"; webhook not stored, breaker open; shard 7 of {WORKER}, without a lease")
    assert command.startswith(f"retry of {event_id_text(EVENT)} to webhook 8, ")
    assert command.endswith("; shard 8 without an owner")

"""An application that shares the database: plain SQL in transactions of its own, as psql or any driver would."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg

from tests.support.store import CUSTOMER
from webhook_grpc.domain.ids import parse_event_id

PUBLISH = "SELECT publish_event(%(customer_id)s, %(event_type)s, %(data)s::json, %(request_id)s)"

Connection = psycopg.Connection[tuple[Any, ...]]


@contextmanager
def application(url: str) -> Generator[Connection]:
    """A connection; the first statement opens a transaction. What is open at the end is rolled back."""
    connection = psycopg.connect(url)
    try:
        yield connection
    finally:
        connection.close()


def publish_event(connection: Connection, **arguments: Any) -> str:
    """Publishes in the connection's transaction; returns the event's id."""
    values: dict[str, Any] = {
        "customer_id": CUSTOMER,
        "event_type": "job.completed",
        "data": '{"job_id":"job-abc123"}',
        "request_id": None,
        **arguments,
    }
    [[event_id]] = connection.execute(PUBLISH, values).fetchall()
    return event_id


def stored_id(event_id: str) -> UUID:
    """An event's id as tables hold it."""
    parsed = parse_event_id(event_id)
    assert parsed is not None, event_id
    return parsed

"""One event and one delivery, as they stand, also when the event is no longer kept."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.store.scene import is_logged, set_scene
from tests.support.postgres import TestPostgres
from tests.support.store import CUSTOMER, new_event, new_event_id, new_webhook, publish
from webhook_grpc.domain.errors import NotFound
from webhook_grpc.domain.model import Delivery
from webhook_grpc.store.db import Database, LoopConnection
from webhook_grpc.store.log import lookup

pytestmark = pytest.mark.xdist_group("scene")  # which one process makes


@pytest.fixture
async def deliveries(database: Database, connection: LoopConnection) -> list[Delivery]:
    return await set_scene(database, connection)


async def test_a_delivery_alone_is_as_it_stands_in_the_list(database: Database, deliveries: list[Delivery]) -> None:
    for listed in deliveries:
        alone = await lookup.get_delivery(database, listed.customer_id, listed.event_id, listed.webhook_id)
        assert alone == listed
        with pytest.raises(NotFound):
            await lookup.get_delivery(database, 999, listed.event_id, listed.webhook_id)


async def test_what_the_log_knows_of_a_delivery_outlives_its_event(
    database: Database, deliveries: list[Delivery], postgres: TestPostgres
) -> None:
    """Attempts are kept at least as long as events."""
    postgres.rows("DELETE FROM events")

    for listed in deliveries:
        look = lookup.get_delivery(database, listed.customer_id, listed.event_id, listed.webhook_id)
        if not is_logged(listed):
            with pytest.raises(NotFound):
                await look
            continue
        found = await look
        assert found == without_request_bytes(listed)
        if found.last_attempt:
            assert found.last_attempt.request_bytes is None, "not known any more"
        with pytest.raises(NotFound):
            await lookup.get_delivery(database, 999, listed.event_id, listed.webhook_id)


async def test_an_attempt_tells_how_large_its_request_was(database: Database, deliveries: list[Delivery]) -> None:
    tried = [delivery for delivery in deliveries if delivery.last_attempt]
    assert tried
    for delivery in tried:
        event = await lookup.get_event(database, delivery.customer_id, delivery.event_id)
        assert delivery.last_attempt
        assert delivery.last_attempt.request_bytes == len(event.body)


async def test_an_event_without_deliveries_has_none(database: Database, connection: LoopConnection) -> None:
    webhook_id = await new_webhook(database, events=("nothing.here",))
    event = new_event()
    await publish(connection, event)

    for event_id in (event.event_id, new_event_id()):
        with pytest.raises(NotFound):
            await lookup.get_delivery(database, CUSTOMER, event_id, webhook_id)


def without_request_bytes(delivery: Delivery) -> Delivery:
    """The delivery as it is when the size of its latest request is not known any more."""
    attempt = delivery.last_attempt
    return replace(delivery, last_attempt=attempt and replace(attempt, request_bytes=None))

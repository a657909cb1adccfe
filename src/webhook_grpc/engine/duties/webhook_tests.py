"""Makes the one attempt of a TestWebhook call: to one webhook at a time, and for a customer only some at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import structlog

from webhook_grpc.domain.command import Command
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.model import Danger, DeliveryStatus, PendingDelivery, Trigger, WebhookStatus
from webhook_grpc.engine.attempt import Attempter
from webhook_grpc.engine.http.faults import SenderFault
from webhook_grpc.engine.shards import Shards
from webhook_grpc.store.connection.failures import cause_of
from webhook_grpc.store.db import LoopConnection
from webhook_grpc.store.outbox import due
from webhook_grpc.store.outbox.due import FoundRow
from webhook_grpc.store.registry import webhooks

log = structlog.get_logger(__name__)

TEST_TIMEOUT_SECONDS_MAX: Final = 20.0  # so that the caller, who waits for the test, gets its result in time
TEST_AGE_SECONDS_MAX: Final = 60.0  # nobody waits for one that is older
_TESTS_MAX: Final = 50  # at once
_TESTS_PER_CUSTOMER_MAX: Final = 10  # of these: a receiver may take 20 s, and others test theirs too
_FAULT_PAUSE_SECONDS: Final = 1.0
_LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)


class WebhookTests:
    """Makes tests. Every test that `admit` lets in is made by one call of `make`."""

    def __init__(self, connection: LoopConnection, shards: Shards, attempter: Attempter) -> None:
        self._connection = connection
        self._shards = shards
        self._attempter = attempter
        self._running: set[int] = set()  # webhooks
        self._counts = Counter[int]()  # of running tests, by customer

    def admit(self, command: Command) -> bool:
        """Returns whether the test may be made now; else its row waits for its turn in the table."""
        if command.webhook_id in self._running or len(self._running) >= _TESTS_MAX:
            return False
        if self._counts[command.customer_id] >= _TESTS_PER_CUSTOMER_MAX:
            return False
        self._running.add(command.webhook_id)
        self._counts[command.customer_id] += 1
        return True

    async def make(self, command: Command) -> Command | None:
        """Returns the command with the result of the test; None if the test is not possible here and now.

        Then its row stays for another look.
        """
        try:
            return await self._made(command)
        except (SenderFault, Unavailable) as error:
            log.warning("test not made", webhook_id=command.webhook_id, text=cause_of(error).text)
            await asyncio.sleep(_FAULT_PAUSE_SECONDS)  # else it is tried as fast as the database answers
            return None
        except Exception:  # a bug must not leave the caller without an answer, nor try for ever
            log.exception("test failed", webhook_id=command.webhook_id)
            return replace(command, status=DeliveryStatus.FAILED)
        finally:
            self._end(command)

    def _end(self, command: Command) -> None:
        self._running.discard(command.webhook_id)
        self._counts[command.customer_id] -= 1
        if not self._counts[command.customer_id]:
            del self._counts[command.customer_id]

    async def _made(self, command: Command) -> Command | None:
        """Returns the command with the result, None if its shard is lost. Raises SenderFault, Unavailable."""
        epochs = self._shards.epochs()
        [webhook] = await webhooks.by_ids(self._connection, [command.webhook_id]) or [None]
        if webhook is None or webhook.status is WebhookStatus.DELETED:
            return replace(command, status=DeliveryStatus.CANCELLED)
        delivery = await self._delivery(command)
        if command.age_seconds > TEST_AGE_SECONDS_MAX or not delivery.body:
            return replace(command, status=DeliveryStatus.EXPIRED)
        if not self._shards.is_sendable_since(command.shard, epochs):
            return None  # lost while this was read
        timeout_seconds = min(webhook.timeout_seconds or TEST_TIMEOUT_SECONDS_MAX, TEST_TIMEOUT_SECONDS_MAX)
        settlement = await self._attempter.attempt(delivery, replace(webhook, timeout_seconds=timeout_seconds))
        has_succeeded = settlement.decision.status is DeliveryStatus.SUCCEEDED
        status = DeliveryStatus.SUCCEEDED if has_succeeded else DeliveryStatus.FAILED  # also after 410: it is a test
        return replace(command, status=status, result=settlement.result, own_headers=settlement.own_headers)

    async def _delivery(self, command: Command) -> PendingDelivery:
        row = FoundRow(
            request=0,
            webhook_id=command.webhook_id,
            event_id=command.event_id,
            due_at=_LONG_AGO,
            customer_id=command.customer_id,
            attempt=0,
            danger=Danger.NONE,
            is_fresh=False,
            trigger=Trigger.TEST,
            replay_id=None,
        )
        [delivery] = await due.with_bodies(self._connection, [row])
        return delivery

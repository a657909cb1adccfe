"""Leaving a command for the owner of a delivery's shard, and following the log until the command has its effect."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Final
from uuid import UUID

from webhook_grpc.api.call import server_stopping
from webhook_grpc.domain.errors import NotFound
from webhook_grpc.domain.ids import delivery_id_text, shard_of
from webhook_grpc.domain.model import Delivery
from webhook_grpc.domain.record import record
from webhook_grpc.hub.hints import Hints
from webhook_grpc.hub.log.tail import Subscription, Tail
from webhook_grpc.store.db import Database
from webhook_grpc.store.log import lookup

_TAKE_SECONDS: Final = 1.0


@record
class DeliveryName:
    """Which delivery a call is about."""

    customer_id: int
    event_id: UUID
    webhook_id: int

    @property
    def text(self) -> str:
        """The delivery's id."""
        return delivery_id_text(self.event_id, self.webhook_id)

    def is_of(self, delivery: Delivery) -> bool:
        """Whether it names this delivery."""
        return delivery.event_id == self.event_id and delivery.webhook_id == self.webhook_id


class Follower:
    """Waits for the effects of commands."""

    def __init__(self, database: Database, tail: Tail, hints: Hints) -> None:
        self._database = database
        self._tail = tail
        self._hints = hints

    async def carried_out(
        self,
        name: DeliveryName,
        leave: Callable[[], Awaitable[None]],
        is_done: Callable[[Delivery], bool],
        seconds: float,
    ) -> Delivery | None:
        """Leaves a command, and returns the delivery when it is done, or as it is after so many seconds.

        None: there is no such delivery then. Raises Unavailable, and what `leave` raises.
        """
        try:
            async with asyncio.timeout(seconds):
                return await self._leave_and_follow(name, leave, is_done)
        except TimeoutError:
            return await self.current(name)

    async def current(self, name: DeliveryName) -> Delivery | None:
        """Returns the delivery as it is now, None if there is none, as of a test not made yet. Raises Unavailable."""
        try:
            return await lookup.get_delivery(self._database, name.customer_id, name.event_id, name.webhook_id)
        except NotFound:
            return None

    async def _leave_and_follow(
        self, name: DeliveryName, leave: Callable[[], Awaitable[None]], is_done: Callable[[Delivery], bool]
    ) -> Delivery:
        async with self._tail.subscribe(name.customer_id) as subscription:
            await leave()  # only now, so that no effect is missed
            self._hints.commanded({shard_of(name.webhook_id)})
            done = await self._done(name, is_done, subscription)
        while done is None:
            async with self._tail.subscribe(name.customer_id) as subscription:
                done = await self._done(name, is_done, subscription)
        return done

    async def _done(
        self, name: DeliveryName, is_done: Callable[[Delivery], bool], subscription: Subscription
    ) -> Delivery | None:
        """Returns the delivery when it is done, None if the subscription lost changes before."""
        delivery = await self.current(name)
        if delivery is not None and is_done(delivery):
            return delivery
        while not subscription.overrun:
            batches = await subscription.take(_TAKE_SECONDS)
            for change in itertools.chain.from_iterable(batch.changes for batch in batches):
                if name.is_of(change.delivery) and is_done(change.delivery):
                    return await self.current(name) or change.delivery
            if subscription.closed:
                raise server_stopping()
        return None

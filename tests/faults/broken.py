"""Engines that are wrong on purpose, each in one way: a checker that does not find it proves nothing of the real one.

They are patched into the process by `faulty.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from webhook_grpc.api.deliveries.watch import WatchMethods
from webhook_grpc.domain.model import AttemptResult, Outcome, Published, Webhook
from webhook_grpc.engine.attempt import Attempter
from webhook_grpc.engine.http.resolver import GuardedResolver
from webhook_grpc.engine.ownership import Ownership
from webhook_grpc.engine.poison import Admission, PoisonGuard
from webhook_grpc.engine.queue.stale_rows import StaleRows
from webhook_grpc.engine.receivers.webhooks import WebhookCache
from webhook_grpc.engine.settler import Settler
from webhook_grpc.hub.publisher import Publisher
from webhook_grpc.store.outbox import due, settlement
from webhook_grpc.store.ownership.leases import OwnedShard

from .patching import reword, rewrap

_background = set[asyncio.Task[Any]]()  # the loop itself holds tasks only weakly


def no_fence() -> None:
    """Settles whatever it has a result for, whoever owns the shard by now (I10)."""
    fence = "AND s.owner = %(worker)b::uuid\n        AND s.epoch ="
    reword(settlement, "SETTLE", fence, "AND %(worker)b::uuid IS NOT NULL AND 0 <=")
    remembered: dict[int, OwnedShard] = {}

    def lose_but_remember(lose: Any) -> Any:
        def losing(self: Any, shards: set[int]) -> None:
            owned = self.shards.owned
            remembered.update({shard: owned[shard] for shard in shards & owned.keys()})
            lose(self, shards)

        return losing

    def settle_anyway(settle: Any) -> Any:
        async def settling(connection: Any, worker: Any, shards: Any, batch: Any) -> Any:
            for shard, owned in remembered.items():
                shards.setdefault(shard, owned)  # in place: the caller looks there for what is answered
            return await settle(connection, worker, shards, batch)

        return settling

    rewrap(Ownership, "_lose", lose_but_remember)
    rewrap(settlement, "settle", settle_anyway)
    rewrap(Settler, "_lost", lambda _: _nothing)  # also when it has noticed before the results came
    rewrap(Settler, "_still_ours", lambda _: _whole_batch)


def settle_before_send() -> None:
    """Records a delivery as succeeded, and sends it after that (I2)."""

    def attempt_too_late(_: Any) -> Any:
        async def attempt(self: Any, delivery: Any, webhook: Any) -> Any:
            _later(self._send(delivery, webhook))
            result = AttemptResult(Outcome.SUCCEEDED, datetime.now(UTC), 0, response_status=200)
            return self._decided(delivery, self._policy_of(webhook), result)

        return attempt

    rewrap(Attempter, "attempt", attempt_too_late)


def acknowledge_before_commit() -> None:
    """Answers PublishEvent from memory, and stores the event when it gets around to it (I1)."""

    def from_memory(publish: Any) -> Any:
        async def store(self: Any, events: Any) -> None:
            await asyncio.sleep(0.3)
            await publish(self, events)

        async def acknowledge(self: Any, events: Any) -> Any:
            _later(store(self, events))
            now, fan_out_of = datetime.now(UTC), self._fan_outs.of
            return [Published(event.event_id, fan_out_of(event.customer_id), False, now) for event in events]

        return acknowledge

    rewrap(Publisher, "publish", from_memory)


def no_stale_rows() -> None:
    """Does not remember what was settled while its row was being read (I3, without any fault)."""
    rewrap(StaleRows, "settled_since", lambda _: _never)


def skip_catch_up() -> None:
    """A watcher that resumes is put at the live end, whatever its cursor says (I13)."""

    def at_the_end(_: Any) -> Any:
        async def catch_up(_: Any, watcher: Any, position: Any, subscription: Any) -> Any:
            return subscription.joined_at

        return catch_up

    rewrap(WatchMethods, "_catch_up", at_the_end)


def impatient() -> None:
    """Takes rows a second before they are due (I5)."""
    reword(due, "SELECT_DUE_ROWS", "now() + k.ahead *", "now() + (k.ahead + 1) *")


def no_limit() -> None:
    """Does not heed what the customer set as the limit of requests at once (I6)."""

    def unlimited(init: Any) -> Any:
        def initialise(self: Any, *args: Any, **kwargs: Any) -> None:
            init(self, *args, **kwargs)
            object.__setattr__(self, "max_in_flight", 100)

        return initialise

    rewrap(Webhook, "__init__", unlimited)


def no_rate() -> None:
    """Does not heed what the customer set as the limit of requests a second (I6)."""

    def unlimited(init: Any) -> Any:
        def initialise(self: Any, *args: Any, **kwargs: Any) -> None:
            init(self, *args, **kwargs)
            object.__setattr__(self, "rate_limit_per_second", None)

        return initialise

    rewrap(Webhook, "__init__", unlimited)


def deaf() -> None:
    """Goes on sending to a webhook as it was when it was first needed (I8)."""

    def only_new(take_in: Any) -> Any:
        def taking_in(self: Any, webhooks: Any, *, new: bool = False) -> list[Webhook]:
            return take_in(self, webhooks, new=True) if new else []

        return taking_in

    rewrap(WebhookCache, "_take_in", only_new)


def careless() -> None:
    """Does not mark what a process may have died of (I4)."""
    rewrap(PoisonGuard, "admit", lambda _: _always_free)


def reformats() -> None:
    """Writes the event's JSON anew before it signs and sends it (I9)."""

    def of_reformatted(send: Any) -> Any:
        async def sending(self: Any, delivery: Any, webhook: Any) -> Any:
            return await send(self, replace(delivery, body=delivery.body.replace(b":", b": ")), webhook)

        return sending

    rewrap(Attempter, "_send", of_reformatted)


def blames_receivers() -> None:
    """Counts an attempt as failed when it is the resolver that answers nobody (I18)."""
    rewrap(GuardedResolver, "knows_nobody", lambda _: _never_later)


def waits_for_ever() -> None:
    """Does not give up a request that timed out: its slot is never free again, so nothing drains (I12)."""

    def without_end(send: Any) -> Any:
        async def sending(self: Any, delivery: Any, webhook: Any) -> Any:
            result = await send(self, delivery, webhook)
            if result.outcome is Outcome.TIMEOUT:
                await asyncio.Event().wait()
            return result

        return sending

    rewrap(Attempter, "_send", without_end)


ENGINES = {
    engine.__name__: engine
    for engine in (
        no_fence,
        settle_before_send,
        acknowledge_before_commit,
        no_stale_rows,
        skip_catch_up,
        impatient,
        no_limit,
        no_rate,
        deaf,
        careless,
        reformats,
        blames_receivers,
        waits_for_ever,
    )
}


def _whole_batch(_: Settler, batch: list[Any], __: object) -> list[Any]:
    return batch


def _nothing(_: Settler, __: object) -> list[Any]:
    return []


def _never(*_: object) -> bool:
    return False


async def _never_later(*_: object) -> bool:
    return False


async def _always_free(*_: object) -> Admission:
    return Admission.FREE


def _later(work: Coroutine[Any, Any, Any]) -> None:
    task = asyncio.create_task(work)
    _background.add(task)
    task.add_done_callback(_background.discard)

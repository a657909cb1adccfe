"""Events that are published together: each keeps its place and its own fate."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast
from uuid import UUID

import pytest

from webhook_grpc.api.events.batch import (
    Accepted,
    Answered,
    Batch,
    PublishRates,
    Refused,
)
from webhook_grpc.api.events.offloading import LargeWork
from webhook_grpc.domain.access import Caller
from webhook_grpc.domain.access_tokens import AccessClaims
from webhook_grpc.domain.errors import Conflict, FailedPrecondition, Overloaded, WebhookError
from webhook_grpc.domain.fair_shares import RateLimits
from webhook_grpc.domain.model import NewEvent, Published
from webhook_grpc.hub.turns import LoopTurns
from webhook_grpc.hub.type_rules import TypeRules

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CALLER = Caller("shop", None, frozenset(), has_token=False)
NO_DATABASE = cast("Any", None)  # for events without a request id: nobody can have published them before


def event(number: int, event_type: str = "job.completed", customer_id: int = 42) -> Accepted:
    """An event that nothing speaks against yet."""
    body = b'{"data":{}}'
    new = NewEvent(UUID(int=number), customer_id, event_type, NOW, body, 8, {}, None, number)
    return Accepted(new, "data_json")


def rule(event_type: str, *, archived: bool = False) -> TypeRules:
    """What holds for a type without a schema."""
    return TypeRules((event_type, archived, 1, NOW, None))


class Types:
    """Plays EventTypes."""

    def __init__(self, *rules: TypeRules) -> None:
        self._rules = {rule.event_type: rule for rule in rules}

    async def rules(self, event_types: Collection[str]) -> Mapping[str, TypeRules]:
        return {name: rule for name, rule in self._rules.items() if name in event_types}


class Publisher:
    """Plays the hub's publisher: stores everything but the events with these numbers."""

    def __init__(self, refusals: Mapping[int, Exception] | None = None) -> None:
        self.refusals = refusals or {}
        self.published: list[int] = []

    async def publish(self, events: Sequence[NewEvent]) -> list[Published | Exception]:
        self.published += [new.event_id.int for new in events]
        return [self.refusals.get(new.event_id.int) or Published(new.event_id, 1, False, NOW) for new in events]


def said(fate: Answered | Refused) -> int | str:
    """The number of a published event, the reason of a refused one."""
    match fate:
        case Answered(published):
            return published.event_id.int
        case Refused(WebhookError() as error):
            return error.reason
        case Refused(error):
            return str(error)


async def test_what_is_refused_on_the_way_holds_back_no_other_event_and_keeps_its_place() -> None:
    unread = Refused(Conflict("UNREADABLE", "not read"))
    batch = Batch([event(0), unread, event(2, "job.gone"), event(3, "job.old"), event(4, customer_id=7), event(5)])
    publisher = Publisher({5: FailedPrecondition("STORED_NOT", "no", "x"), 0: RuntimeError("a bug")})
    rates = PublishRates(RateLimits(0, 0.001))  # one at once, the next after a quarter of an hour
    rates.take(CALLER, 7)

    types = Types(rule("job.completed"), rule("job.old", archived=True))
    await batch.judge(cast("Any", types), NO_DATABASE, LargeWork(), partial(LoopTurns().wait, 1))
    batch.rate(rates, CALLER)
    fates = await batch.publish(cast("Any", publisher))

    assert [said(fate) for fate in fates] == [
        *("a bug", "UNREADABLE", "EVENT_TYPE_UNKNOWN", "EVENT_TYPE_ARCHIVED", "RATE_LIMITED", "RATE_LIMITED"),
    ]
    assert publisher.published == [0]


async def test_where_nothing_is_left_to_publish_nothing_is_published() -> None:
    publisher = Publisher()
    fates = await Batch([Refused(Conflict("UNREADABLE", "not read"))]).publish(cast("Any", publisher))
    assert [said(fate) for fate in fates] == ["UNREADABLE"]
    assert publisher.published == []


async def test_all_that_is_published_is_answered_in_the_order_of_the_call() -> None:
    publisher = Publisher()
    fates = await Batch([event(number) for number in (3, 1, 2)]).publish(cast("Any", publisher))
    assert [said(fate) for fate in fates] == [3, 1, 2]


def test_a_customer_may_publish_at_its_rate_and_another_one_is_not_held_back() -> None:
    rates = PublishRates(RateLimits(0, 0.001))
    rates.take(CALLER, 1)
    with pytest.raises(Overloaded) as raised:
        rates.take(CALLER, 1)
    assert 0 < raised.value.retry_seconds <= 1000
    rates.take(CALLER, 2)


def test_a_token_may_publish_at_its_rate_for_whichever_customers_and_another_one_is_not_held_back() -> None:
    rates, one = PublishRates(RateLimits(0.001, 0)), Caller("one", None, frozenset())
    rates.take(one, 1)
    with pytest.raises(Overloaded) as raised:
        rates.take(one, 2)
    assert 0 < raised.value.retry_seconds <= 1000
    with pytest.raises(Overloaded):
        rates.take(AccessClaims("one", 3, frozenset(), datetime.now(UTC)).caller(), 3)
    rates.take(Caller("two", None, frozenset()), 1)
    for _ in range(10):
        rates.take(CALLER, 1)  # who has no token has no share of one


def test_what_a_customers_rate_refuses_does_not_count_for_the_token() -> None:
    rates, one = PublishRates(RateLimits(2, 0.001)), Caller("one", None, frozenset())
    rates.take(one, 1)
    for _ in range(10):
        with pytest.raises(Overloaded):
            rates.take(one, 1)
    rates.take(one, 2)


def test_a_rate_of_zero_is_no_limit() -> None:
    rates = PublishRates(RateLimits(0, 0))
    for _ in range(1000):
        rates.take(CALLER, 1)

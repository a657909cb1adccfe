"""The events of one call: what becomes of each, so that one that is refused holds back no other."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final

from webhook.v1 import service_pb2

from webhook_grpc.domain.access import Caller
from webhook_grpc.domain.errors import InvalidArgument, Overloaded, WebhookError
from webhook_grpc.domain.fair_shares import RateLimits
from webhook_grpc.domain.model import NewEvent, Published
from webhook_grpc.domain.record import record
from webhook_grpc.domain.token_buckets import Buckets
from webhook_grpc.hub.publisher import Publisher
from webhook_grpc.hub.type_rules import EventTypes, TypeRules
from webhook_grpc.store.db import Database
from webhook_grpc.store.outbox import publishing
from webhook_grpc.store.registry.event_types import event_type_archived, event_type_unknown

from .offloading import LARGE_BYTES, LargeWork

EVENTS_AT_ONCE: Final = 20  # that are read or checked before other calls get a turn


@record
class Accepted:
    """An event that nothing speaks against yet. `content`: the field of the request that its data came in."""

    event: NewEvent
    content: str


@record
class Answered:
    """An event that is published, now or by an earlier call with its request id."""

    published: Published


@record
class Refused:
    """An event that is not published, and why. An error that is no WebhookError is a bug."""

    error: Exception


def customer_named(request: service_pb2.BatchPublishEventsRequest) -> int:
    """Returns the customer that the batch names, else the one that all its events name; 0 if there is none."""
    if request.customer_id or not request.requests:
        return request.customer_id
    first = request.requests[0].event.customer_id
    return first if first and all(item.event.customer_id == first for item in request.requests) else 0


class Batch:
    """The events of one call, in their order. Each is Accepted at first, and Answered or Refused in the end."""

    def __init__(self, fates: Iterable[Accepted | Refused]) -> None:
        # By the index in the call; each event is in one of the two.
        self._accepted: dict[int, Accepted] = {}
        self._ended: dict[int, Answered | Refused] = {}
        for index, fate in enumerate(fates):
            if isinstance(fate, Accepted):
                self._accepted[index] = fate
            else:
                self._ended[index] = fate

    async def judge(
        self, event_types: EventTypes, database: Database, large: LargeWork, turn: Callable[[], Awaitable[None]]
    ) -> None:
        """Refuses events that their event types do not allow, unless published before. `turn` waits for a turn.

        What was acknowledged once stays so, even if its type was archived or has become stricter since. Raises
        Unavailable.
        """
        rules = await event_types.rules({one.event.event_type for one in self._accepted.values()})
        are_checked = any(of_type.has_schema for of_type in rules.values())  # else this takes no time worth a turn
        repeatable: dict[int, NewEvent] = {}
        for index, one in list(self._accepted.items()):
            if _takes_long(one, rules):
                error = await large.run(one.event.customer_id, _why_refused, one, rules)
            else:
                error = _why_refused(one, rules)
            if error is not None:
                self._end(index, Refused(error))
                if one.event.request_id is not None:
                    repeatable[index] = one.event
            if are_checked and not (index + 1) % EVENTS_AT_ONCE:
                await turn()
        if repeatable:
            answers = await publishing.published_before(database, list(repeatable.values()))
            for index, answer in zip(repeatable, answers, strict=True):
                if answer is not None:
                    self._end(index, _fate(answer))

    def rate(self, rates: PublishRates, caller: Caller) -> None:
        """Refuses the events of customers that publish too fast, and those beyond the rate of the caller's token."""
        for index, one in list(self._accepted.items()):
            try:
                rates.take(caller, one.event.customer_id)
            except Overloaded as error:
                self._end(index, Refused(error))

    async def publish(self, publisher: Publisher) -> Sequence[Answered | Refused]:
        """Publishes the events that are still accepted; returns what became of each when they are committed.

        Raises Overloaded if too many wait.
        """
        if self._accepted:
            answers = await publisher.publish([one.event for one in self._accepted.values()])
            self._ended |= zip(self._accepted, map(_fate, answers), strict=True)
        return [self._ended[index] for index in range(len(self._ended))]

    def _end(self, index: int, fate: Answered | Refused) -> None:
        self._accepted.pop(index, None)
        self._ended[index] = fate


class PublishRates:
    """Bounds how many events a second are published with each token and for each customer, with a burst of a second."""

    def __init__(self, limits: RateLimits) -> None:
        self._of_tokens = Buckets(limits.token_per_second)
        self._of_customers = Buckets(limits.customer_per_second)

    def take(self, caller: Caller, customer_id: int) -> None:
        """Counts one event, or none. Raises Overloaded. Who has no token has only the rate of its customer.

        The access tokens that a token has made share its rate: they are not a way to a second one.
        """
        now, token = time.monotonic(), caller.parent or caller.name
        if caller.has_token and (wait_seconds := self._of_tokens.take(token, now)):
            raise _too_many("this token", self._of_tokens, wait_seconds)
        if wait_seconds := self._of_customers.take(customer_id, now):
            if caller.has_token:  # a token for several customers goes on for the others
                self._of_tokens.give_back(token)
            raise _too_many(f"customer {customer_id}", self._of_customers, wait_seconds)


def _too_many(whose: str, buckets: Buckets, wait_seconds: float) -> Overloaded:
    text = f"{whose} publishes more than {buckets.rate_per_second:g} events a second; retry later"
    return Overloaded("RATE_LIMITED", text, wait_seconds)


def _fate(answer: Published | Exception) -> Answered | Refused:
    return Answered(answer) if isinstance(answer, Published) else Refused(answer)


def _takes_long(one: Accepted, rules: Mapping[str, TypeRules]) -> bool:
    """Returns whether the event is checked against a schema, and the event is large or the schema not compiled yet."""
    of_type = rules.get(one.event.event_type)
    if of_type is None or not of_type.has_schema:
        return False
    return len(one.event.body) > LARGE_BYTES or not of_type.is_compiled


def _why_refused(one: Accepted, rules: Mapping[str, TypeRules]) -> WebhookError | None:
    """Returns why the type of an event refuses it, None if the type does not."""
    event_type = one.event.event_type
    of_type = rules.get(event_type)
    if of_type is None:
        return event_type_unknown(event_type)
    if of_type.archived:
        return event_type_archived(event_type)
    try:
        schema = of_type.schema
    except WebhookError as error:
        return error
    violations = schema.violations(one.event.data_json, f"event.{one.content}") if schema is not None else []
    if not violations:
        return None
    return InvalidArgument(violations, "DATA_SCHEMA_MISMATCH", {"event_type": event_type})

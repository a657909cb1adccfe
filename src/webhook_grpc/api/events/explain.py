"""ExplainEvent: which webhooks an event goes to, and why not to the others."""

from __future__ import annotations

from typing import Final

from webhook.v1 import service_pb2, webhook_pb2

from webhook_grpc.api.call import Call, refuse_if
from webhook_grpc.api.messages import reading, times, words, writing
from webhook_grpc.domain.errors import Violation
from webhook_grpc.domain.explain import Standing, Verdict, explain
from webhook_grpc.domain.model import Event
from webhook_grpc.store.db import Database
from webhook_grpc.store.log import explain as store
from webhook_grpc.store.log import lookup

_VERDICTS: Final = {
    Verdict.MATCHED: service_pb2.MATCH_VERDICT_MATCHED,
    Verdict.TYPE_NOT_SUBSCRIBED: service_pb2.MATCH_VERDICT_TYPE_NOT_SUBSCRIBED,
    Verdict.CREATED_LATER: service_pb2.MATCH_VERDICT_CREATED_LATER,
    Verdict.DISABLED: service_pb2.MATCH_VERDICT_DISABLED,
    Verdict.CHANGED_LATER: service_pb2.MATCH_VERDICT_CHANGED_LATER,
    Verdict.TEST_OF_ANOTHER: service_pb2.MATCH_VERDICT_TEST_OF_ANOTHER,
}
_STANDINGS: Final = {
    Standing.NONE: service_pb2.DELIVERY_STANDING_UNSPECIFIED,
    Standing.ENDED: service_pb2.DELIVERY_STANDING_ENDED,
    Standing.SCHEDULED: service_pb2.DELIVERY_STANDING_SCHEDULED,
    Standing.PAUSED: service_pb2.DELIVERY_STANDING_PAUSED,
    Standing.BREAKER_OPEN: service_pb2.DELIVERY_STANDING_BREAKER_OPEN,
    Standing.HELD: service_pb2.DELIVERY_STANDING_HELD,
    Standing.RATE_LIMITED: service_pb2.DELIVERY_STANDING_RATE_LIMITED,
    Standing.WAITING_FOR_SLOT: service_pb2.DELIVERY_STANDING_WAITING_FOR_SLOT,
    Standing.ENDING: service_pb2.DELIVERY_STANDING_ENDING,
    Standing.WAITING_FOR_KEY: service_pb2.DELIVERY_STANDING_WAITING_FOR_KEY,
}


class ExplainMethods:
    """The call that explains."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def explain(self, request: service_pb2.ExplainEventRequest, call: Call) -> service_pb2.ExplainEventResponse:
        """Returns for each webhook of the customer whether an event goes to it, and the state of its delivery."""
        violations = list[Violation]()
        customer_id = call.customer(request.customer_id, "customer_id", violations)
        event_id = reading.read_event_id(request.event_id, "event_id", violations)
        refuse_if(violations)
        event = await lookup.get_event(self._database, customer_id, event_id)
        known = await store.read(self._database, event)
        message = writing.event_message(event, with_publisher=call.caller.may_see_callers)
        message.ClearField("data_json")
        return service_pb2.ExplainEventResponse(
            event=message, webhooks=[_explanation_message(one, event) for one in known]
        )


def _explanation_message(known: store.Known, event: Event) -> service_pb2.WebhookExplanation:
    webhook, delivery = known.webhook, known.delivery
    explained = explain(webhook, event, delivery, known.health, known.read_time)
    message = service_pb2.WebhookExplanation(
        webhook_id=webhook.webhook_id,
        name=webhook.name,
        status=words.WEBHOOK_STATUSES.get(webhook.status, webhook_pb2.WEBHOOK_STATUS_UNSPECIFIED),
        verdict=_VERDICTS[explained.verdict],
        standing=_STANDINGS[explained.standing],
        until_time=times.timestamp(explained.until_time) if explained.until_time else None,
        explanation=explained.text,
    )
    if delivery is not None:
        message.delivery.CopyFrom(writing.delivery_message(delivery, with_text=False))
        if delivery.last_attempt is not None:
            message.delivery.last_attempt.ClearField("request_headers")
    return message

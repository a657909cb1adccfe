"""Writing messages from domain values. This can't fail."""

from __future__ import annotations

from typing import Any, Final

from webhook.v1 import delivery_pb2, event_pb2, event_type_pb2, signing_key_pb2, webhook_pb2

from webhook_grpc.domain.ids import delivery_id_text, event_id_text
from webhook_grpc.domain.model import (
    Attempt,
    Delivery,
    Event,
    EventType,
    Webhook,
)
from webhook_grpc.domain.own_headers import names_only
from webhook_grpc.domain.request_headers import Envelope, shown_headers
from webhook_grpc.domain.signing_keys import PublicSigningKey

from .times import duration, duration_fields, time_fields, timestamp
from .words import DELIVERY_STATUSES, OUTCOMES, SIGNATURE_TYPES, TRIGGERS, WEBHOOK_STATUSES

_CONTROL: Final = (*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0))  # all but tab and line feed
# Ten times as fast as a regular expression where there is nothing else: a page may hold a megabyte of it.
_SHOWN: Final = {code: f"\\x{code:02x}" for code in _CONTROL}


def webhook_message(webhook: Webhook, secret: str = "") -> webhook_pb2.Webhook:
    """Returns a webhook as callers see it; `secret` is shown only where a call has made it."""
    message = webhook_pb2.Webhook(
        webhook_id=webhook.webhook_id,
        customer_id=webhook.customer_id,
        name=webhook.name,
        url=webhook.url,
        events=webhook.events,
        status=WEBHOOK_STATUSES[webhook.status],
        status_reason=webhook.status_reason,
        secret=secret,
        secret_hint=webhook.secret_hint,
        max_in_flight=webhook.max_in_flight or 0,
        rate_limit_per_second=webhook.rate_limit_per_second or 0,
        headers=names_only(webhook.headers),
        labels=webhook.labels,
        description=webhook.description,
        create_time=timestamp(webhook.create_time),
        update_time=timestamp(webhook.update_time),
        etag=str(webhook.version),
        signature_type=SIGNATURE_TYPES[webhook.signature_type],
    )
    if webhook.disable_time is not None:
        message.disable_time.CopyFrom(timestamp(webhook.disable_time))
    if webhook.previous_secret_until is not None:
        message.secret_overlap_end_time.CopyFrom(timestamp(webhook.previous_secret_until))
    if webhook.retry_delays_seconds is not None:
        message.retry_policy.delays.extend(map(duration, webhook.retry_delays_seconds))
    if webhook.timeout_seconds is not None:
        message.timeout.CopyFrom(duration(webhook.timeout_seconds))
    return message


def signing_key_message(key: PublicSigningKey) -> signing_key_pb2.SigningKey:
    """Returns a signing key as callers see it."""
    return signing_key_pb2.SigningKey(
        key_id=key.thumbprint,
        public_key=key.text,
        create_time=timestamp(key.create_time),
        retire_time=timestamp(key.retire_time) if key.retire_time else None,
    )


def event_type_message(event_type: EventType) -> event_type_pb2.EventType:
    """Returns an event type as callers see it."""
    return event_type_pb2.EventType(
        event_type=event_type.event_type,
        description=event_type.spec.description,
        json_schema=event_type.spec.json_schema or "",
        archived=event_type.spec.archived,
        built_in=event_type.built_in,
        create_time=timestamp(event_type.create_time),
        update_time=timestamp(event_type.update_time),
        etag=str(event_type.version),
    )


def event_message(event: Event, *, with_publisher: bool) -> event_pb2.Event:
    """Returns an event as callers see it; `with_publisher`: for callers who may see who published it."""
    return event_pb2.Event(
        event_id=event_id_text(event.event_id),
        customer_id=event.customer_id,
        event_type=event.event_type,
        occur_time=timestamp(event.occur_time),
        create_time=timestamp(event.create_time),
        attributes=event.attributes,
        data_json=event.data_json.decode("utf-8"),
        test_webhook_id=event.test_webhook_id or 0,
        publisher=(event.publisher or "") if with_publisher else "",
    )


def delivery_message(delivery: Delivery, *, with_text: bool = True) -> delivery_pb2.Delivery:
    """Returns a delivery as callers see it; `with_text`: the receiver's response also as text."""
    attempt = delivery.last_attempt
    return delivery_pb2.Delivery(
        delivery_id=delivery_id_text(delivery.event_id, delivery.webhook_id),
        customer_id=delivery.customer_id,
        webhook_id=delivery.webhook_id,
        event_id=event_id_text(delivery.event_id),
        event_type=delivery.event_type,
        status=DELIVERY_STATUSES[delivery.status],
        attempt_count=delivery.attempt_count,
        last_attempt=_attempt_fields(attempt, with_text=with_text) if attempt else None,
        next_attempt_time=time_fields(delivery.next_attempt_time) if delivery.next_attempt_time else None,
        create_time=time_fields(delivery.create_time),
        update_time=time_fields(delivery.update_time),
        trigger=TRIGGERS[delivery.trigger],
        replay_id=delivery.replay_id or 0,
    )


def attempt_message(attempt: Attempt, *, with_text: bool = True) -> delivery_pb2.DeliveryAttempt:
    """Returns an attempt as callers see it; `with_text`: the receiver's response also as text."""
    return delivery_pb2.DeliveryAttempt(**_attempt_fields(attempt, with_text=with_text))


def _attempt_fields(attempt: Attempt, *, with_text: bool) -> Any:
    """Returns the fields of an attempt's message: given as a message to one that holds it, they would be copied."""
    envelope = Envelope(attempt.event_id, attempt.webhook_id, attempt.event_type, attempt.attempt_number)
    return {
        "attempt_number": attempt.attempt_number,
        "start_time": time_fields(attempt.start_time),
        "latency": duration_fields(attempt.latency_ms / 1000),
        "outcome": OUTCOMES[attempt.outcome],
        "response_status": attempt.response_status or 0,
        "response_body": attempt.response_body,
        "error_message": attempt.reason.value,
        "trigger": TRIGGERS[attempt.trigger],
        "request_headers": shown_headers(envelope, attempt.own_headers, int(attempt.start_time.timestamp())),
        "request_bytes": attempt.request_bytes or 0,
        "response_headers": attempt.response_headers,
        "response_text": bytes_as_text(attempt.response_body) if with_text else "",
        "delivery_id": delivery_id_text(attempt.event_id, attempt.webhook_id),
        "customer_id": attempt.customer_id,
        "webhook_id": attempt.webhook_id,
        "event_id": event_id_text(attempt.event_id),
        "event_type": attempt.event_type,
        "delivery_status": DELIVERY_STATUSES[attempt.delivery_status],
        "next_attempt_time": time_fields(attempt.next_attempt_time) if attempt.next_attempt_time else None,
    }


def bytes_as_text(received: bytes) -> str:
    r"""Returns a receiver's response as text that is safe to show: control characters and bad UTF-8 as `\xNN`."""
    return received.decode("utf-8", "backslashreplace").translate(_SHOWN)

"""Between messages and domain values. Reading a message collects every violation; writing one can't fail."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar, cast
from uuid import UUID

import orjson
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp
from webhook.v1 import delivery_pb2, event_pb2, event_type_pb2, webhook_pb2

from ..domain import envelope, matching, validation
from ..domain.egress import EgressPolicy
from ..domain.errors import InvalidArgument, Violation, field_invalid
from ..domain.headers import Envelope, shown_headers
from ..domain.ids import INT64_MAX, delivery_id_text, event_id_text, parse_delivery_id, parse_event_id
from ..domain.model import (
    Attempt,
    Delivery,
    DeliveryStatus,
    Event,
    EventType,
    NewEvent,
    Outcome,
    Trigger,
    Webhook,
    WebhookSpec,
    WebhookStatus,
)

_Word = TypeVar("_Word", WebhookStatus, DeliveryStatus, Outcome)

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and line feed
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# The last second of 9998: in another time zone it is not yet the year 10000, which Python's datetime lacks.
_UNIX_SECONDS_MAX: Final = 253_370_764_799

WEBHOOK_STATUSES: Final = {
    WebhookStatus.ACTIVE: webhook_pb2.WEBHOOK_STATUS_ACTIVE,
    WebhookStatus.PAUSED: webhook_pb2.WEBHOOK_STATUS_PAUSED,
    WebhookStatus.DISABLED: webhook_pb2.WEBHOOK_STATUS_DISABLED,
}
DELIVERY_STATUSES: Final = {
    DeliveryStatus.PENDING: delivery_pb2.DELIVERY_STATUS_PENDING,
    DeliveryStatus.SUCCEEDED: delivery_pb2.DELIVERY_STATUS_SUCCEEDED,
    DeliveryStatus.FAILED: delivery_pb2.DELIVERY_STATUS_FAILED,
    DeliveryStatus.CANCELLED: delivery_pb2.DELIVERY_STATUS_CANCELLED,
    DeliveryStatus.EXPIRED: delivery_pb2.DELIVERY_STATUS_EXPIRED,
}
OUTCOMES: Final = {
    Outcome.SUCCEEDED: delivery_pb2.ATTEMPT_OUTCOME_SUCCEEDED,
    Outcome.HTTP_ERROR: delivery_pb2.ATTEMPT_OUTCOME_HTTP_ERROR,
    Outcome.TIMEOUT: delivery_pb2.ATTEMPT_OUTCOME_TIMEOUT,
    Outcome.CONNECTION_ERROR: delivery_pb2.ATTEMPT_OUTCOME_CONNECTION_ERROR,
    Outcome.TLS_ERROR: delivery_pb2.ATTEMPT_OUTCOME_TLS_ERROR,
    Outcome.PROTOCOL_ERROR: delivery_pb2.ATTEMPT_OUTCOME_PROTOCOL_ERROR,
    Outcome.BLOCKED: delivery_pb2.ATTEMPT_OUTCOME_BLOCKED,
    Outcome.INTERNAL_ERROR: delivery_pb2.ATTEMPT_OUTCOME_INTERNAL_ERROR,
}
TRIGGERS: Final = {
    Trigger.SCHEDULED: delivery_pb2.ATTEMPT_TRIGGER_SCHEDULED,
    Trigger.MANUAL: delivery_pb2.ATTEMPT_TRIGGER_MANUAL,
    Trigger.REPLAY: delivery_pb2.ATTEMPT_TRIGGER_REPLAY,
    Trigger.TEST: delivery_pb2.ATTEMPT_TRIGGER_TEST,
}

_WEBHOOK_STATUS_OF: Final[Mapping[int, WebhookStatus]] = {number: status for status, number in WEBHOOK_STATUSES.items()}
_DELIVERY_STATUS_OF: Final[Mapping[int, DeliveryStatus]] = {
    number: status for status, number in DELIVERY_STATUSES.items()
}
_OUTCOME_OF: Final[Mapping[int, Outcome]] = {number: outcome for outcome, number in OUTCOMES.items()}


# --- reading ---------------------------------------------------------------------------------------------------------


def webhook_spec(message: webhook_pb2.Webhook, violations: list[Violation]) -> WebhookSpec:
    """What the caller chose, judged in every respect but the URL's."""
    has_policy = message.HasField("retry_policy")
    spec = WebhookSpec(
        name=message.name,
        url=message.url,
        events=tuple(message.events),
        retry_delays_seconds=tuple(map(seconds_of, message.retry_policy.delays)) if has_policy else None,
        timeout_seconds=seconds_of(message.timeout) if message.HasField("timeout") else None,
        max_in_flight=message.max_in_flight or None,
        rate_limit_per_second=message.rate_limit_per_second or None,
        headers=dict(message.headers),
        labels=dict(message.labels),
        description=message.description,
    )
    violations += validation.webhook_violations(spec)
    return spec


def read_url(url: str, policy: EgressPolicy, violations: list[Violation]) -> None:
    """Judges a URL. A refused destination has a reason of its own when it is all that is wrong."""
    violation = validation.url_violation(url, policy)
    if violation is None:
        return
    if not violations:
        raise InvalidArgument([violation], "URL_NOT_ALLOWED" if url else "FIELD_INVALID")
    violations.append(violation)


def read_id(value: int, field: str, violations: list[Violation]) -> int:
    """A webhook id."""
    if not 0 < value <= INT64_MAX:
        violations.append(Violation(field, "must be positive"))
    return value


def read_event_id(text: str, field: str, violations: list[Violation]) -> UUID:
    """An event id."""
    event_id = parse_event_id(text)
    if event_id is None:
        violations.append(Violation(field, "must be an event id: `evt_` and 26 characters"))
        return UUID(int=0)
    return event_id


def read_delivery_id(text: str, field: str, violations: list[Violation]) -> tuple[UUID, int]:
    """A delivery id."""
    parsed = parse_delivery_id(text)
    if parsed is None:
        violations.append(Violation(field, "must be a delivery id: `dlv_`, 26 characters, `_` and a webhook id"))
        return UUID(int=0), 0
    return parsed


def read_request_id(request_id: str, violations: list[Violation], field: str = "request_id") -> str | None:
    """A request id, None if there is none."""
    problem = validation.request_id_problem(request_id) if request_id else None
    if problem:
        violations.append(Violation(field, problem))
    return request_id or None


def read_webhook_statuses(values: Iterable[int], violations: list[Violation]) -> list[WebhookStatus]:
    """A filter by the status of webhooks."""
    return _read_words("statuses", list(values), _WEBHOOK_STATUS_OF, violations)


def read_delivery_statuses(
    values: Iterable[int], violations: list[Violation], field: str = "statuses"
) -> list[DeliveryStatus]:
    """A filter by the status of deliveries."""
    return _read_words(field, list(values), _DELIVERY_STATUS_OF, violations)


def read_outcomes(values: Iterable[int], violations: list[Violation]) -> list[Outcome]:
    """A filter by the outcome of attempts."""
    return _read_words("outcomes", list(values), _OUTCOME_OF, violations)


def _read_words(
    field: str, values: Sequence[int], known: Mapping[int, _Word], violations: list[Violation]
) -> list[_Word]:
    if any(value not in known for value in values):
        violations.append(Violation(field, "must be values of the enum other than UNSPECIFIED"))
    return list(dict.fromkeys(known[value] for value in values if value in known))


def seconds_of(duration: Duration) -> float:
    """A Duration in seconds; NaN, which no range contains, if it is malformed."""
    same_sign = duration.seconds * duration.nanos >= 0
    if abs(duration.seconds) > 315_576_000_000 or abs(duration.nanos) > 999_999_999 or not same_sign:
        return math.nan
    return duration.seconds + duration.nanos / 1e9


def read_time(timestamp: Timestamp, field: str, violations: list[Violation]) -> datetime:
    """A time between 1970 and 9998."""
    if not 0 <= timestamp.seconds <= _UNIX_SECONDS_MAX or not 0 <= timestamp.nanos <= 999_999_999:
        violations.append(Violation(field, "must be a valid time from 1970-01-01 to 9998-12-31"))
        return _EPOCH
    return _EPOCH + timedelta(seconds=timestamp.seconds, microseconds=timestamp.nanos // 1000)


def read_event(
    message: event_pb2.Event,
    customer_id: int,
    request_id: str | None,
    event_id: UUID,
    now: datetime,
    violations: list[Violation],
) -> NewEvent:
    """An event to publish. The fingerprint covers what the caller said, so that a repetition can be told apart."""
    if not matching.is_event_type(message.event_type):
        violations.append(Violation("event.event_type", "must be an event type like `job.completed`"))
    has_time = message.HasField("occur_time")
    occur_time = read_time(message.occur_time, "event.occur_time", violations) if has_time else now
    violations += validation.label_violations("event.attributes", message.attributes)
    data_json = _read_data(message, violations)
    event_type = message.event_type if not violations else "invalid"
    body, data_start = envelope.render_body(event_type, (occur_time - _EPOCH) // timedelta(seconds=1), data_json)
    attributes = dict(message.attributes)
    return NewEvent(
        event_id=event_id,
        customer_id=customer_id,
        event_type=message.event_type,
        occur_time=occur_time,
        body=body,
        data_start=data_start,
        attributes=attributes,
        request_id=request_id,
        fingerprint=_fingerprint(message.event_type, occur_time if has_time else None, data_json, attributes),
    )


def _read_data(message: event_pb2.Event, violations: list[Violation]) -> bytes:
    """The data as bytes. What is not JSON, or too much of it, has a reason of its own when it is all that is wrong."""
    match message.WhichOneof("content"):
        case "data_json":
            data_json, field = message.data_json.encode("utf-8"), "event.data_json"
        case "data":
            field = "event.data"
            try:
                plain = _plain(MessageToDict(message.data))
                data_json = orjson.dumps(
                    plain, option=orjson.OPT_SORT_KEYS
                )  # a map has no order; a repetition needs one
            except _InexactNumber as error:
                return _refuse_data(field, str(error), "DATA_NUMBER_INEXACT", violations)
            except (ValueError, RecursionError):  # NaN or Infinity, or a Value with nothing in it
                return _refuse_data(field, "has a value that JSON lacks", "DATA_NOT_JSON", violations)
        case _:
            violations.append(Violation("event.data_json", "either data_json or data must be set"))
            return b""
    return _judged_data(data_json, field, violations)


def read_data_json(text: str, field: str, violations: list[Violation]) -> bytes:
    """Data as JSON text. What is wrong with it has a reason of its own when it is all that is wrong."""
    return _judged_data(text.encode("utf-8"), field, violations)


def _judged_data(data_json: bytes, field: str, violations: list[Violation]) -> bytes:
    if len(data_json) > envelope.DATA_BYTES_MAX:
        description = f"must have at most {envelope.DATA_BYTES_MAX} bytes, has {len(data_json)}"
        return _refuse_data(field, description, "DATA_TOO_LARGE", violations, limit=str(envelope.DATA_BYTES_MAX))
    problem = envelope.why_not_json(data_json)
    return _refuse_data(field, problem, "DATA_NOT_JSON", violations) if problem else data_json


def _refuse_data(field: str, description: str, reason: str, violations: list[Violation], **metadata: str) -> bytes:
    if not violations:
        raise field_invalid(field, description, reason, **metadata)
    violations.append(Violation(field, description))
    return b""


class _InexactNumber(Exception):
    """A whole number is too large for a Struct, whose numbers are doubles: its last digits may have changed."""

    def __init__(self) -> None:
        super().__init__("has a whole number of 2^53 or more, which `data` cannot carry exactly; use data_json")


def _plain(value: Any) -> Any:
    """Whole numbers of a Struct as integers, as their author wrote them: `1`, not `1.0`. Raises _InexactNumber."""
    match value:
        case float() if value.is_integer():
            if abs(value) >= 2**53:
                raise _InexactNumber
            return int(value)
        case dict():
            return {key: _plain(item) for key, item in cast("dict[str, Any]", value).items()}
        case list():
            return [_plain(item) for item in cast("list[Any]", value)]
        case _:
            return value


def _fingerprint(event_type: str, occur_time: datetime | None, data_json: bytes, attributes: Mapping[str, str]) -> int:
    parts = [event_type, occur_time.isoformat() if occur_time else "", sorted(attributes.items())]
    return fingerprint(orjson.dumps(parts) + data_json)


def fingerprint(content: bytes) -> int:
    """A signed 64-bit digest, for telling a repeated request from another one with the same id."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big", signed=True)


# --- writing ---------------------------------------------------------------------------------------------------------


def webhook_message(webhook: Webhook, secret: str = "") -> webhook_pb2.Webhook:
    """A webhook as callers see it."""
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
        headers=webhook.headers,
        labels=webhook.labels,
        description=webhook.description,
        create_time=timestamp(webhook.create_time),
        update_time=timestamp(webhook.update_time),
        etag=str(webhook.version),
    )
    if webhook.previous_secret_until is not None:
        message.secret_overlap_end_time.CopyFrom(timestamp(webhook.previous_secret_until))
    if webhook.retry_delays_seconds is not None:
        message.retry_policy.delays.extend(map(duration, webhook.retry_delays_seconds))
    if webhook.timeout_seconds is not None:
        message.timeout.CopyFrom(duration(webhook.timeout_seconds))
    return message


def event_type_message(event_type: EventType) -> event_type_pb2.EventType:
    """An event type as callers see it."""
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


def event_message(event: Event) -> event_pb2.Event:
    """An event as callers see it."""
    return event_pb2.Event(
        event_id=event_id_text(event.event_id),
        customer_id=event.customer_id,
        event_type=event.event_type,
        occur_time=timestamp(event.occur_time),
        create_time=timestamp(event.create_time),
        attributes=event.attributes,
        data_json=event.data_json.decode("utf-8"),
        test_webhook_id=event.test_webhook_id or 0,
    )


def delivery_message(delivery: Delivery, *, with_text: bool = True) -> delivery_pb2.Delivery:
    """A delivery as callers see it; `with_text`: with the response as text too."""
    return delivery_pb2.Delivery(
        delivery_id=delivery_id_text(delivery.event_id, delivery.webhook_id),
        customer_id=delivery.customer_id,
        webhook_id=delivery.webhook_id,
        event_id=event_id_text(delivery.event_id),
        event_type=delivery.event_type,
        status=DELIVERY_STATUSES[delivery.status],
        attempt_count=delivery.attempt_count,
        last_attempt=attempt_message(delivery.last_attempt, with_text=with_text) if delivery.last_attempt else None,
        next_attempt_time=timestamp(delivery.next_attempt_time) if delivery.next_attempt_time else None,
        create_time=timestamp(delivery.create_time),
        update_time=timestamp(delivery.update_time),
        trigger=TRIGGERS[delivery.trigger],
        replay_id=delivery.replay_id or 0,
    )


def attempt_message(attempt: Attempt, *, with_text: bool = True) -> delivery_pb2.DeliveryAttempt:
    """An attempt as callers see it."""
    envelope = Envelope(attempt.event_id, attempt.webhook_id, attempt.event_type, attempt.attempt_number)
    return delivery_pb2.DeliveryAttempt(
        attempt_number=attempt.attempt_number,
        start_time=timestamp(attempt.start_time),
        latency=duration(attempt.latency_ms / 1000),
        outcome=OUTCOMES[attempt.outcome],
        response_status=attempt.response_status or 0,
        response_body=attempt.response_body,
        error_message=attempt.reason.value,
        trigger=TRIGGERS[attempt.trigger],
        request_headers=shown_headers(envelope, attempt.own_headers, int(attempt.start_time.timestamp())),
        request_bytes=attempt.request_bytes or 0,
        response_headers=attempt.response_headers,
        response_text=bytes_as_text(attempt.response_body) if with_text else "",
        delivery_id=delivery_id_text(attempt.event_id, attempt.webhook_id),
        customer_id=attempt.customer_id,
        webhook_id=attempt.webhook_id,
        event_id=event_id_text(attempt.event_id),
        event_type=attempt.event_type,
        delivery_status=DELIVERY_STATUSES[attempt.delivery_status],
        next_attempt_time=timestamp(attempt.next_attempt_time) if attempt.next_attempt_time else None,
    )


def bytes_as_text(received: bytes) -> str:
    r"""What a receiver answered, as text that is safe to show: what is not UTF-8, and control characters, as `\xNN`."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", received.decode("utf-8", "backslashreplace"))


def timestamp(moment: datetime) -> Timestamp:
    """A time as a message, to the microsecond."""
    since = moment - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1000)


def duration(seconds: float) -> Duration:
    """A span as a message, to the microsecond."""
    whole, micros = divmod(round(seconds * 1e6), 1_000_000)
    return Duration(seconds=whole, nanos=micros * 1000)

"""Reading messages into domain values. Functions add every violation that they find to a list of the caller's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, cast
from uuid import UUID

import orjson
from google.protobuf import struct_pb2
from google.protobuf.json_format import MessageToDict
from webhook.v1 import event_pb2, webhook_pb2

from webhook_grpc.domain import envelope, matching, validation
from webhook_grpc.domain.egress import EgressPolicy
from webhook_grpc.domain.errors import InvalidArgument, Violation, field_invalid
from webhook_grpc.domain.ids import INT64_MAX, parse_delivery_id, parse_event_id
from webhook_grpc.domain.model import (
    NewEvent,
    WebhookSpec,
)

from .times import EPOCH, read_time, seconds_of
from .words import read_signature_type

_VALUE_BYTES: Final = 16  # a value of a Struct takes as long to read as so many bytes of text
_SECOND: Final = timedelta(seconds=1)


def webhook_spec(message: webhook_pb2.Webhook, violations: list[Violation]) -> WebhookSpec:
    """Returns what the caller chose. All of it is judged but the URL: see read_url."""
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
        signature_type=read_signature_type(message.signature_type, violations),
    )
    violations += validation.webhook_violations(spec)
    return spec


def read_url(url: str, policy: EgressPolicy, violations: list[Violation]) -> None:
    """Judges a URL.

    Raises InvalidArgument (URL_NOT_ALLOWED) if the destination is refused and there is no other violation: only then an
    error can have a reason of its own.
    """
    violation = validation.url_violation(url, policy)
    if violation is None:
        return
    if not violations:
        raise InvalidArgument([violation], "URL_NOT_ALLOWED" if url else "FIELD_INVALID")
    violations.append(violation)


def read_id(value: int, field: str, violations: list[Violation]) -> int:
    """Returns the id of a webhook, a replay or a token."""
    if not 0 < value <= INT64_MAX:
        violations.append(Violation(field, "must be positive"))
    return value


def read_event_id(text: str, field: str, violations: list[Violation]) -> UUID:
    """Returns an event id."""
    event_id = parse_event_id(text)
    if event_id is None:
        violations.append(Violation(field, "must be an event id: `evt_` and 26 characters"))
        return UUID(int=0)
    return event_id


def read_delivery_id(text: str, field: str, violations: list[Violation]) -> tuple[UUID, int]:
    """Returns the event id and the webhook id in a delivery id."""
    parsed = parse_delivery_id(text)
    if parsed is None:
        violations.append(Violation(field, "must be a delivery id: `dlv_`, 26 characters, `_` and a webhook id"))
        return UUID(int=0), 0
    return parsed


def read_request_id(request_id: str, violations: list[Violation], field: str = "request_id") -> str | None:
    """Returns a request id, None if there is none."""
    problem = validation.request_id_problem(request_id) if request_id else None
    if problem:
        violations.append(Violation(field, problem))
    return request_id or None


def is_large_event(message: event_pb2.Event, bytes_large: int) -> bool:
    """Returns whether the data of an event may have more bytes. Looks at a bounded part of the data."""
    if message.WhichOneof("content") != "data":
        return len(message.data_json) > bytes_large
    return not _is_small(message.data.fields.values(), bytes_large)


def _is_small(values: Iterable[struct_pb2.Value], bytes_max: int) -> bool:
    """Returns whether the values have few parts and texts, all together."""
    room, pending = bytes_max // _VALUE_BYTES, [iter(values)]
    while pending:
        value = next(pending[-1], None)
        if value is None:
            pending.pop()
            continue
        room -= 1 + len(value.string_value) // _VALUE_BYTES
        if room < 0:
            return False
        match value.WhichOneof("kind"):
            case "struct_value":
                pending.append(iter(value.struct_value.fields.values()))
            case "list_value":
                pending.append(iter(value.list_value.values))
            case _:
                pass
    return True


def read_event(
    message: event_pb2.Event,
    customer_id: int,
    request_id: str | None,
    event_id: UUID,
    now: datetime,
    violations: list[Violation],
    traceparent: str | None = None,
    publisher: str | None = None,
) -> NewEvent:
    """Returns an event to publish. Its fingerprint covers what the caller chose: a repeated call has the same one.

    Without a request id no call is repeated, and the fingerprint is 0. `traceparent` and `publisher` are those of the
    call, and no part of the fingerprint: a repeated call may have others. Raises InvalidArgument for too many
    attributes, and if nothing but the data is wrong; see read_data_json.
    """
    if not matching.is_event_type(message.event_type):
        violations.append(Violation("event.event_type", "must be an event type like `job.completed`"))
    if len(message.attributes) > validation.LABELS_MAX:  # before anything walks them
        raise InvalidArgument([*violations, validation.too_many_labels("event.attributes", len(message.attributes))])
    has_time = message.HasField("occur_time")
    occur_time = read_time(message.occur_time, "event.occur_time", violations) if has_time else now
    attributes = dict(message.attributes) if message.attributes else {}  # to copy an empty map takes a microsecond
    violations += validation.label_violations("event.attributes", attributes)
    data_json = _read_data(message, violations)
    event_type = message.event_type if not violations else "invalid"
    body, data_start = envelope.render_body(event_type, (occur_time - EPOCH) // _SECOND, data_json)
    return NewEvent(
        event_id=event_id,
        customer_id=customer_id,
        event_type=message.event_type,
        occur_time=occur_time,
        body=body,
        data_start=data_start,
        attributes=attributes,
        request_id=request_id,
        fingerprint=_fingerprint(message, occur_time if has_time else None, data_json, attributes) if request_id else 0,
        traceparent=traceparent,
        publisher=publisher,
    )


def _read_data(message: event_pb2.Event, violations: list[Violation]) -> bytes:
    """Returns the data as JSON text, in bytes. Raises InvalidArgument; see read_data_json."""
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
            except (ValueError, RecursionError):  # NaN or Infinity, or a Value without any kind
                return _refuse_data(field, "has a value that JSON lacks", "DATA_NOT_JSON", violations)
        case _:
            violations.append(Violation("event.data_json", "either data_json or data must be set"))
            return b""
    return _judged_data(data_json, field, violations)


def read_data_json(text: str, field: str, violations: list[Violation]) -> bytes:
    """Returns data given as JSON text, in bytes.

    Raises InvalidArgument (DATA_TOO_LARGE, DATA_NOT_JSON) if there is no other violation: only then an error can have a
    reason of its own.
    """
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
    """Returns a Struct's value with whole numbers as integers, as their author wrote them. Raises _InexactNumber."""
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


def _fingerprint(
    message: event_pb2.Event, occur_time: datetime | None, data_json: bytes, attributes: Mapping[str, str]
) -> int:
    parts = [message.event_type, occur_time.isoformat() if occur_time else "", sorted(attributes.items())]
    return fingerprint(orjson.dumps(parts) + data_json)


def fingerprint(content: bytes) -> int:
    """Returns a signed 64-bit digest, which shows whether a request with the same id is the same request."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big", signed=True)

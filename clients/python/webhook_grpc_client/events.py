"""Events as callers write them, made into requests."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, TypedDict

from webhook.v1 import event_pb2, service_pb2


class EventFields(TypedDict, total=False):
    """What an event may have besides its type and data.

    `customer_id` may be left out with a token of one customer. `request_id` makes the event safe to publish again: a
    natural key is best, one is made if there is none. `occur_time` has a time zone.
    """

    customer_id: int
    request_id: str
    occur_time: datetime
    attributes: Mapping[str, str]


BYTES_MAX: Final = 4_000_000  # of a batch, and so of an event: the service takes no more than 5 MiB in a call


def data_json(data: Any) -> str:
    """Returns data as JSON text. `str` and `bytes` are such a text already; the rest is written compactly.

    Raises TypeError or ValueError for what JSON has no form for, such as NaN.
    """
    if isinstance(data, bytes):
        return data.decode()
    if isinstance(data, str):
        return data
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def publish_request(event_type: str, data: Any, fields: EventFields) -> service_pb2.PublishEventRequest:
    """Returns the request for one event, always with a `request_id`. Raises TypeError or ValueError.

    One that is larger than a call may be is refused here: gRPC would refuse it without a word of which event it was.
    """
    event = event_pb2.Event(customer_id=fields.get("customer_id", 0), event_type=event_type, data_json=data_json(data))
    if attributes := fields.get("attributes"):
        event.attributes.update(attributes)
    if occur_time := fields.get("occur_time"):
        if occur_time.tzinfo is None:
            raise ValueError("occur_time has no time zone")
        event.occur_time.FromDatetime(occur_time)
    request = service_pb2.PublishEventRequest(event=event, request_id=fields.get("request_id") or secrets.token_hex(16))
    if (size_bytes := request.ByteSize()) > BYTES_MAX:
        raise ValueError(f"the event has {size_bytes} bytes; a call takes {BYTES_MAX}")
    return request

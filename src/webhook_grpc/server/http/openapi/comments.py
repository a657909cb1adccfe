"""The comments of the protos as Markdown, in the words of HTTP: enum values in lower case, names as code."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import orjson
from google.protobuf.descriptor import EnumDescriptor, FileDescriptor
from webhook.v1 import delivery_pb2, event_pb2, event_type_pb2, replay_pb2, service_pb2, webhook_pb2

from webhook_grpc.api.methods import METHODS
from webhook_grpc.server.http.json.values import enum_words

_FILES: Final[tuple[FileDescriptor, ...]] = tuple(
    module.DESCRIPTOR for module in (delivery_pb2, event_pb2, event_type_pb2, replay_pb2, service_pb2, webhook_pb2)
)
_CODE: Final = re.compile(r"(`[^`]*`)")
_NAME: Final = re.compile(r"\b(?:[a-z]+(?:_[a-z0-9]+)+|[A-Z][A-Za-z_]{2,})\b")
_MASK: Final = "Names of the fields that change, separated by commas; `*` for all. None: those that the body has."
# Where a comment is about gRPC, and HTTP has something else.
_OVER_HTTP: Final[Mapping[str, str]] = {
    "webhook.v1.Event.data": (
        "Any JSON of at most 256 KiB, nested at most 64 deep. It is kept, signed and sent byte for byte as it stands "
        "in the body. If the event type has a schema, it must fit that; what does not is named by JSON pointers, such "
        "as `event.data#/lines/0/sku`."
    ),
    "webhook.v1.Event.data_json": "The same as text. Give exactly one of the two.",
    "webhook.v1.WatchDeliveriesResponse.cursor": (
        "Give it back, as the parameter `cursor` or the header `Last-Event-ID`, to go on after this message. Opaque. "
        "Left out while a snapshot is being sent: a snapshot is not resumable."
    ),
    "webhook.v1.UpdateWebhookRequest.update_mask": _MASK,
    "webhook.v1.UpdateEventTypeRequest.update_mask": _MASK,
    "webhook.v1.WebhookService.UpdateWebhook": (
        "Changes the fields that the body has, or only those of `update_mask`. Deliveries use the change within a "
        "second."
    ),
    "webhook.v1.WebhookService.UpdateEventType": (
        "Changes the fields that the body has, or only those of `update_mask`: `description`, `json_schema`, "
        "`archived`. Publishing uses the change within two seconds. Takes a caller for all customers."
    ),
    "webhook.v1.WebhookService.WatchDeliveries": (
        "Streams every attempt and every ending of a delivery, live, in order per webhook, resumable without a gap. "
        "By default these are server-sent events whose `id` is the cursor; with `Accept: application/x-ndjson` each "
        "message is a line of JSON. What ends a stream on the server's side is its last message: an event named "
        '`problem`, or a line `{"problem": …}`.'
    ),
}


def summary(full_name: str) -> str:
    """Returns the first sentence of a comment, as plain text."""
    return markdown(full_name).partition(". ")[0].rstrip(".").replace("`", "")


def markdown(full_name: str) -> str:
    """Returns a comment as Markdown; empty if there is none."""
    if full_name in _OVER_HTTP:
        return _OVER_HTTP[full_name]
    parts = _CODE.split(_comments().get(full_name, ""))
    return "".join(part if part.startswith("`") else _NAME.sub(_as_code, part) for part in parts)


def values_markdown(enum: EnumDescriptor) -> str:
    """Returns the comment of an enum with a list of its values."""
    words = enum_words(enum)
    lines = [f"- `{words[one.number]}`: {markdown(_value_name(enum, one.name))}" for one in enum.values if one.number]
    return "\n".join([markdown(enum.full_name), "", *lines])


def _value_name(enum: EnumDescriptor, value: str) -> str:
    return f"{enum.full_name}.{value}"


def _as_code(match: re.Match[str]) -> str:
    name = match[0]
    if name.lower() in _words() and name.isupper():
        return f"`{name.lower()}`"
    return f"`{name}`" if "_" in name or name in _methods() else name


@functools.cache
def _words() -> frozenset[str]:
    enums = (enum for file in _FILES for enum in file.enum_types_by_name.values())
    return frozenset(word for enum in enums for word in enum_words(enum).values())


@functools.cache
def _methods() -> frozenset[str]:
    return frozenset(method.name for method in METHODS)


@functools.cache
def _comments() -> Mapping[str, str]:
    """Returns the comments by full name: Python's descriptors carry none."""
    return orjson.loads(Path(service_pb2.__file__).with_name("comments.json").read_bytes())

"""What a call is about, for its line in the log: the ids that its request and its response carry."""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from webhook.v1.service_pb2 import BatchPublishEventsRequest

from webhook_grpc.api.events.batch import customer_named
from webhook_grpc.domain.access import Caller

_NAMES: Final = frozenset({"webhook_id", "event_id", "delivery_id", "replay_id"})
_PARTICULAR_FIRST: Final = ("delivery_id", "replay_id", "event_id", "webhook_id")
_CUSTOMER: Final = frozenset({"customer_id"})
_SHOWN: Final = re.compile(r"[A-Za-z0-9_]{1,64}")  # every id of ours; other text of a caller does not belong in a log

Path = tuple[str, ...]
Reader = tuple[str, Callable[[Message], Any]]


def subjects_of(message: Message) -> dict[str, str | int]:
    """Returns the ids that are set in a request or a response, or in a resource that it holds."""
    found: dict[str, str | int] = {}
    for name, read in _readers(message.DESCRIPTOR):
        value = read(message)
        if value and (isinstance(value, int) or _SHOWN.fullmatch(value)):
            found.setdefault(name, value)
    return found


def resources_of(subjects: Mapping[str, str | int]) -> tuple[str, ...]:
    """Returns the most particular resource that a refused call named, like `webhook:14`; none if it named none."""
    named = next((name for name in _PARTICULAR_FIRST if name in subjects), None)
    return () if named is None else (f"{named.removesuffix('_id')}:{subjects[named]}",)


def customer_of(request: Message, caller: Caller) -> int | None:
    """Returns the customer that a request is for, None if it names no single one.

    Whether the caller may act for that customer is judged elsewhere: another one's never counts here.
    """
    if isinstance(request, BatchPublishEventsRequest):
        return caller.customer_of(customer_named(request))
    read = _customer_reader(request.DESCRIPTOR)
    return caller.customer_of(read(request) if read is not None else 0)


@functools.cache
def _customer_reader(descriptor: Descriptor) -> Callable[[Message], int] | None:
    """Returns what reads `customer_id` of a request, or of the resource in it; None if it has none."""
    paths = _paths(descriptor, _CUSTOMER)
    return operator.attrgetter(".".join(paths[0])) if paths else None


@functools.cache
def _readers(descriptor: Descriptor) -> tuple[Reader, ...]:
    """Returns the name of each id that a message of this type may have, and what reads it."""
    return tuple((path[-1], operator.attrgetter(".".join(path))) for path in _paths(descriptor, _NAMES))


def _paths(descriptor: Descriptor, names: Collection[str]) -> tuple[Path, ...]:
    """Returns where a message of this type has fields of these names, those of the message itself first."""
    own, nested = list[Path](), list[Path]()
    for field in _single_fields(descriptor):
        if field.name in names:
            own.append((field.name,))
        elif field.message_type is not None:
            found = (inner.name for inner in _single_fields(field.message_type) if inner.name in names)
            nested += [(field.name, name) for name in found]
    return (*own, *nested)


def _single_fields(descriptor: Descriptor) -> Iterator[FieldDescriptor]:
    return (field for field in descriptor.fields if not field.is_repeated)

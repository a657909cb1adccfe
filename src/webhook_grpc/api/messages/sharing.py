"""Deliveries that many watchers get: written once in each form that a door sends, and joined as bytes.

A door sends a message of its own for each watcher (its cursor, the time) around deliveries that all watchers share.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from google.protobuf.message import Message
from webhook.v1 import delivery_pb2

from webhook_grpc.domain.model import Delivery

from . import writing

WRITTEN_AT_ONCE: Final = 20  # deliveries that are written before others get the event loop
_DELIVERY_BYTES: Final = 250  # about, without its response body


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """One way to write deliveries, and what stands between two of them. There are few, and each is made once."""

    write: Callable[[delivery_pb2.Delivery], bytes]
    separator: bytes


class SharedDelivery:
    """A delivery as it stood after a change."""

    __slots__ = ("_forms", "delivery", "size_bytes")

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.size_bytes = _DELIVERY_BYTES + (len(delivery.last_attempt.response_body) if delivery.last_attempt else 0)
        self._forms: dict[Form, bytes] = {}

    def written(self, form: Form) -> bytes:
        """Returns the delivery in this form."""
        found = self._forms.get(form)
        if found is None:
            found = self._forms[form] = form.write(writing.delivery_message(self.delivery, with_text=False))
        return found


class SharedDeliveries:
    """Deliveries that follow one another in a message."""

    __slots__ = ("_forms", "deliveries", "size_bytes")

    def __init__(self, deliveries: Sequence[SharedDelivery]) -> None:
        self.deliveries = deliveries
        self.size_bytes = sum(delivery.size_bytes for delivery in deliveries)
        self._forms: dict[Form, bytes] = {}

    def is_written(self, form: Form) -> bool:
        """Returns whether somebody has asked for them in this form before."""
        return form in self._forms

    def written(self, form: Form) -> bytes:
        """Returns the deliveries in this form, with its separator between them."""
        found = self._forms.get(form)
        if found is None:
            found = self._forms[form] = form.separator.join([one.written(form) for one in self.deliveries])
        return found


async def write_in_steps(parts: Iterable[SharedDeliveries], form: Form) -> None:
    """Writes what nobody has written in a form yet, a few deliveries in a turn of the event loop."""
    for part in parts:
        if not part.is_written(form):
            for number, delivery in enumerate(part.deliveries, 1):
                delivery.written(form)
                if not number % WRITTEN_AT_ONCE:
                    await asyncio.sleep(0)  # calls get a turn between pieces


def joined(parts: Iterable[SharedDeliveries], form: Form) -> bytes:
    """Returns all deliveries of some parts in a form."""
    return form.separator.join([part.written(form) for part in parts])


class Write(Protocol):
    """Takes the responses of a call; returns when the door has taken one."""

    async def __call__(self, response: Message, shared: Sequence[SharedDeliveries] = ()) -> None:
        """Takes a response. `shared`: the deliveries of a message of WatchDeliveries, which has none of its own."""
        ...

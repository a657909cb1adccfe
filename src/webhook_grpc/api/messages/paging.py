"""Page tokens (AIP-158): where the next page of a list starts, bound to the list's other arguments."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import struct
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from google.protobuf.message import Message

from webhook_grpc.domain.errors import InvalidArgument, Violation, field_invalid
from webhook_grpc.store.lists.merged import NEWEST, OLDEST

DEFAULT_PAGE_SIZE: Final = 50
PAGE_SIZE_MAX: Final = 1000
PAGE_BYTES_MAX: Final = 2_000_000  # clients accept 4 MiB by default
_BINDING_BYTES: Final = 8
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

MADE_AT_ONCE: Final = 50  # messages in one turn of the event loop
STEP_BYTES_MAX: Final = 64 * 1024  # of these; fewer of them where they are large

M = TypeVar("M", bound=Message)
T = TypeVar("T")


def page_size(requested: int, violations: list[Violation]) -> int:
    """Returns the size of the page: 0 means the default, too many means the maximum."""
    if requested < 0:
        violations.append(Violation("page_size", "must not be negative"))
    return min(requested, PAGE_SIZE_MAX) or DEFAULT_PAGE_SIZE


async def fitting(items: Iterable[T], message_of: Callable[[T], M]) -> list[M]:
    """Returns messages of the first items that fit into a response, at least one. AIP-158 allows shorter pages.

    However many they are, and whatever a receiver has answered, the loop is held for some milliseconds at a time.
    """
    fits: list[M] = []
    room, step_bytes = PAGE_BYTES_MAX, 0
    for item in items:
        message = message_of(item)
        size_bytes = message.ByteSize()
        room -= size_bytes
        if fits and room < 0:
            break
        fits.append(message)
        step_bytes += STEP_BYTES_MAX // MADE_AT_ONCE + size_bytes
        if step_bytes >= STEP_BYTES_MAX:
            step_bytes = 0
            await asyncio.sleep(0)  # calls get a turn between pieces
    return fits


class PageToken:
    """Makes and reads the tokens of one list request."""

    def __init__(self, request: Message, key_format: str) -> None:
        """`request` must have the fields page_token and page_size; the token is bound to all other fields."""
        self._key = struct.Struct(key_format)
        self._text: str = getattr(request, "page_token")  # noqa: B009 - a field of every list request, not of Message
        arguments = type(request)()
        arguments.CopyFrom(request)
        arguments.ClearField("page_token")
        arguments.ClearField("page_size")
        named = request.DESCRIPTOR.full_name.encode() + arguments.SerializeToString(deterministic=True)
        self._binding = hashlib.sha256(named).digest()[:_BINDING_BYTES]

    def read(self) -> tuple[int | bytes, ...] | None:
        """Returns the key of the last item of the page before, None for the first page. Raises InvalidArgument."""
        if not self._text:
            return None
        try:
            packed = base64.b64decode(self._text + "=" * (-len(self._text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise page_token_invalid() from None
        if len(packed) != _BINDING_BYTES + self._key.size or packed[:_BINDING_BYTES] != self._binding:
            raise page_token_invalid()
        return self._key.unpack(packed[_BINDING_BYTES:])

    def after(self, *key: int | bytes) -> str:
        """Returns the token of the page after this key."""
        packed = self._binding + self._key.pack(*key)
        return base64.urlsafe_b64encode(packed).decode("ascii").rstrip("=")


def micros_of(moment: datetime) -> int:
    """Returns a time as a part of a token's key."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def time_of(micros: int | bytes) -> datetime:
    """Returns the time in a token's key. Raises InvalidArgument for a time at which nothing can have happened."""
    assert isinstance(micros, int)
    if not micros_of(OLDEST) <= micros <= micros_of(NEWEST):
        raise page_token_invalid()
    return _EPOCH + timedelta(microseconds=micros)


def page_token_invalid() -> InvalidArgument:
    """Returns the error for a token that was not made for this list."""
    return field_invalid(
        "page_token",
        "is not one that this list returned with the same arguments; start again without it",
        "PAGE_TOKEN_INVALID",
    )

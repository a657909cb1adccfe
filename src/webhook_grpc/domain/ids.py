"""Identifiers as people and programs see them.

An event id is `evt_` and the 26 lower-case Crockford base-32 characters of a UUIDv7 (RFC 9562), so ids sort by time. A
delivery is one event on its way to one webhook, so its id is made of those two ids and needs no storage of its own.
No id contains a dot: Standard Webhooks joins id, timestamp and body with dots before it signs them.
"""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

SHARD_COUNT: Final = 64
INT64_MAX: Final = 2**63 - 1
# By how much the time in an event's id may differ from the time at which the event was stored.
ID_TIME_SLACK: Final = timedelta(minutes=10)

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUE_OF: Final = {character: value for value, character in enumerate(_ALPHABET)}
_PAIRS: Final = [first + second for first in _ALPHABET for second in _ALPHABET]  # ids are written often: two at a time
_LENGTH: Final = 26
_REMEMBERED_MAX: Final = 4096  # ids whose text is kept: an event's is written four times on its way, soon after another
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RANDOM_BITS: Final = 80  # of a UUIDv7, below its 48 bits of Unix milliseconds
EVENT_ID_FORM: Final = re.compile(rf"evt_([0-7][{_ALPHABET}]{{25}})")
_TIME_MAX: Final = datetime(9998, 12, 31, tzinfo=UTC)
DELIVERY_ID_FORM: Final = re.compile(rf"dlv_([0-7][{_ALPHABET}]{{25}})_([1-9][0-9]{{0,18}})")


def shard_of(webhook_id: int) -> int:
    """Returns the shard that owns a webhook's deliveries; the generated column `webhooks.shard` says the same."""
    return webhook_id % SHARD_COUNT


def event_id_text(event_id: UUID) -> str:
    """Returns `evt_…` for a stored event id."""
    return "evt_" + _encode(event_id)


def delivery_id_text(event_id: UUID, webhook_id: int) -> str:
    """Returns `dlv_…_<webhook id>` for a stored delivery."""
    return f"dlv_{_encode(event_id)}_{webhook_id}"


def parse_event_id(text: str) -> UUID | None:
    """Returns the stored id, or None if the text is not an event id in its one canonical form."""
    match = EVENT_ID_FORM.fullmatch(text)
    return _decode(match[1]) if match else None


def parse_delivery_id(text: str) -> tuple[UUID, int] | None:
    """Returns the stored event id and the webhook id, or None if the text is not a delivery id in canonical form."""
    match = DELIVERY_ID_FORM.fullmatch(text)
    if match is None or int(match[2]) > INT64_MAX:
        return None
    return _decode(match[1]), int(match[2])


def first_event_id(moment: datetime) -> UUID:
    """Returns the smallest id of events of this millisecond; before 1970 the smallest of all."""
    return UUID(int=max(0, (moment - _EPOCH) // timedelta(milliseconds=1)) << _RANDOM_BITS)


def event_id_time(event_id: UUID) -> datetime:
    """Returns when an event's id was made, to the millisecond; at most _TIME_MAX, because callers may invent ids."""
    possible = min(event_id, first_event_id(_TIME_MAX))
    return _EPOCH + timedelta(milliseconds=possible.int >> _RANDOM_BITS)


def stored_between(event_id: UUID) -> tuple[datetime, datetime]:
    """Returns between which times an event with this id was stored, if there is one."""
    at = event_id_time(event_id)
    return at - ID_TIME_SLACK, at + ID_TIME_SLACK


def earliest_id(stored_at: datetime) -> UUID:
    """Returns an id such that no event that was stored at this time or later has a smaller one."""
    return first_event_id(stored_at - ID_TIME_SLACK)


def latest_id(stored_at: datetime) -> UUID:
    """Returns an id such that no event that was stored before this time has that id or a larger one."""
    return first_event_id(stored_at + ID_TIME_SLACK)


def _encode(value: UUID) -> str:
    return _digits(value.int)


@functools.lru_cache(_REMEMBERED_MAX)
def _digits(number: int) -> str:
    return "".join([_PAIRS[(number >> shift) & 1023] for shift in range(5 * (_LENGTH - 2), -1, -10)])


def _decode(text: str) -> UUID:
    number = 0
    for character in text:
        number = number << 5 | _VALUE_OF[character]
    return UUID(int=number)

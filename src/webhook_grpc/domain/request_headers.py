"""The headers of a request to a receiver: as they are sent, and as the history shows them.

What was sent is not stored: it follows from the attempt. Values that could give away a secret are never shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from uuid import UUID

from .ids import delivery_id_text, event_id_text
from .record import record
from .signing import SigningKey, signature_headers
from .signing_keys import PrivateSigningKey

HIDDEN: Final = "…"
TRACEPARENT: Final = "traceparent"
# Of an answer, these are kept: none of them carries a secret.
RESPONSE_HEADERS_KEPT: Final = ("content-type", "date", "retry-after", "server", "x-request-id")
RESPONSE_HEADER_CHARACTERS_MAX: Final = 256


@record
class Envelope:
    """Which attempt a request belongs to. `attempt_number` counts from 1; no `traceparent`: none is sent."""

    event_id: UUID
    webhook_id: int
    event_type: str
    attempt_number: int
    traceparent: str | None = None


def request_headers(
    envelope: Envelope,
    own: Mapping[str, str],
    keys: Sequence[SigningKey],
    unix_seconds: int,
    body: bytes,
    private_keys: Sequence[PrivateSigningKey] | None = None,
) -> dict[str, str]:
    """Returns what is sent: the webhook's own headers, ours, and the signatures with each key, the newest first."""
    event_id = event_id_text(envelope.event_id)
    headers = {**own, **_fixed(envelope), **signature_headers(keys, event_id, unix_seconds, body, private_keys)}
    if envelope.traceparent is not None and TRACEPARENT not in map(str.lower, own):
        headers[TRACEPARENT] = envelope.traceparent
    return headers


def shown_headers(envelope: Envelope, own_names: Iterable[str], unix_seconds: int) -> dict[str, str]:
    """Returns the same for people who look at the attempt later, but for `traceparent`, which nothing is stored of."""
    return {
        **dict.fromkeys(own_names, HIDDEN),
        **_fixed(envelope),
        "X-Webhook-Signature": HIDDEN,
        "webhook-id": event_id_text(envelope.event_id),
        "webhook-timestamp": str(unix_seconds),
        "webhook-signature": HIDDEN,
    }


def kept_headers(received: Mapping[str, str]) -> dict[str, str]:
    """Returns those of an answer's headers that the history keeps; `received` takes names in any case."""
    kept: dict[str, str] = {}
    for name in RESPONSE_HEADERS_KEPT:
        value = received.get(name)
        if value is not None:
            kept[name] = _printable(value)
    return kept


def _fixed(envelope: Envelope) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "User-Agent": "webhook-grpc/1",
        "X-Webhook-Event": envelope.event_type,
        "X-Webhook-Delivery": delivery_id_text(envelope.event_id, envelope.webhook_id),
        "X-Webhook-Attempt": str(envelope.attempt_number),
    }


def _printable(value: str) -> str:
    """A receiver may send any bytes, which HTTP clients pass on as lone surrogates; no text column takes those."""
    if len(value) <= RESPONSE_HEADER_CHARACTERS_MAX and value.isascii() and value.isprintable():
        return value  # as nearly all are
    text = value[:RESPONSE_HEADER_CHARACTERS_MAX].encode("ascii", "backslashreplace").decode("ascii")
    return "".join(character if character.isprintable() else "?" for character in text)[:RESPONSE_HEADER_CHARACTERS_MAX]

"""What the service has sent for a delivery, beside what a receiver got. Pure."""

from __future__ import annotations

from typing import Final

_SHOWN_BYTES: Final = 12  # on each side of the first one that differs
_HINT_CHARACTERS: Final = 4
_HINT_SHARE: Final = 4  # of so many characters, one is shown


def sent_body(event_type: str, occur_unix_seconds: int, data_json: str) -> bytes:
    """Returns the body that the service sends for an event, byte for byte."""
    return f'{{"event":"{event_type}","timestamp":{occur_unix_seconds},"data":{data_json}}}'.encode()


def difference(got: bytes, sent: bytes) -> str:
    """Returns a sentence that names the first byte that differs, counted from 0; empty if none does."""
    if got == sent:
        return ""
    at = next((at for at, (one, other) in enumerate(zip(got, sent, strict=False)) if one != other), None)
    if at is not None:
        return f"The body differs from byte {at} on: you have {_near(got, at)}, the service sent {_near(sent, at)}."
    at = min(len(got), len(sent))
    if len(got) > len(sent):
        more = len(got) - len(sent)
        return f"The body has {more} more bytes than the service sent, from byte {at} on: {_near(got, at)}."
    return f"The body ends at byte {at}: the service sent {len(sent) - len(got)} more, {_near(sent, at)}."


def _near(text: bytes, at: int) -> str:
    return ascii(text[max(0, at - _SHOWN_BYTES) : at + _SHOWN_BYTES].decode("utf-8", "backslashreplace"))


def hint_of(secret: str) -> str:
    """Returns the end of a secret by which people can see which one it is, as the service's `secret_hint`."""
    shown = min(_HINT_CHARACTERS, len(secret) // _HINT_SHARE)
    return secret[len(secret) - shown :]


def secret_difference(secret: str, webhook_id: int, secret_hint: str) -> str:
    """Returns a sentence if a secret can't be the webhook's, by its end; empty otherwise."""
    own = hint_of(secret)
    if own == secret_hint:
        return ""
    return f"Another secret: you use …{own}, webhook {webhook_id} has …{secret_hint}."

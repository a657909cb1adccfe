"""The two signatures of a delivery.

`X-Webhook-Signature: sha256=<hex>` is HMAC-SHA256 over the body alone, keyed with the UTF-8 bytes of the secret exactly
as it was shown: what most hand-written receivers check (the form of GitHub's X-Hub-Signature-256). It cannot stop a
replay, so `webhook-id`, `webhook-timestamp` and `webhook-signature` of Standard Webhooks always go with it: they sign
id, time and body together.
(https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md)
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the form of secrets, none itself
KEY_BYTES_MIN: Final = 24
KEY_BYTES_MAX: Final = 64


def secret_from_key(key: bytes) -> str:
    """The text form of a Standard Webhooks key."""
    return SECRET_PREFIX + base64.b64encode(key).decode("ascii")


def why_bad_secret(secret: str) -> str | None:
    """What is wrong with a customer's own secret, or None."""
    if not all(" " < character <= "~" for character in secret):
        return "must consist of printable ASCII characters without spaces"
    try:
        key = standard_key(secret)
    except binascii.Error:
        return f"must be base64 after `{SECRET_PREFIX}`"
    if not KEY_BYTES_MIN <= len(key) <= KEY_BYTES_MAX:
        return f"must hold {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes, holds {len(key)}"
    return None


def standard_key(secret: str) -> bytes:
    """The Standard Webhooks key: the bytes behind `whsec_`, or the characters of a secret in free text.

    Raises binascii.Error if what follows `whsec_` is not base64.
    """
    if secret.startswith(SECRET_PREFIX):
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    return secret.encode("utf-8")


def signature_headers(
    secrets: Sequence[str], event_id: str, timestamp_unix_seconds: int, body: bytes
) -> dict[str, str]:
    """The headers that let a receiver verify one attempt. The id stays the same on every attempt, the time does not.

    Of several secrets, the newest first, `webhook-signature` carries a signature each; `X-Webhook-Signature` has room
    for one only, and keeps to the oldest until it has gone.
    """
    body_hmac = hmac.new(secrets[-1].encode("utf-8"), body, hashlib.sha256).hexdigest()
    signed = b"%s.%d.%s" % (event_id.encode("ascii"), timestamp_unix_seconds, body)
    return {
        "X-Webhook-Signature": f"sha256={body_hmac}",
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp_unix_seconds),
        "webhook-signature": " ".join(_standard_signature(secret, signed) for secret in secrets),
    }


def _standard_signature(secret: str, signed: bytes) -> str:
    digest = hmac.new(standard_key(secret), signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode("ascii")

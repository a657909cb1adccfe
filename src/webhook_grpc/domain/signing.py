"""The two signatures of a delivery, and the headers that carry them.

`X-Webhook-Signature: sha256=<hex>` is HMAC-SHA256 over the body alone, keyed with the UTF-8 bytes of the secret exactly
as it was shown: what most hand-written receivers check (the form of GitHub's X-Hub-Signature-256). It cannot stop a
replay, so `webhook-id`, `webhook-timestamp` and `webhook-signature` of Standard Webhooks always go with it: they sign
id, time and body together. There, private keys sign beside the secret if the webhook wants it (signing_keys.py).
(https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md)
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import unicodedata
from collections.abc import Sequence
from typing import Final

from .signing_keys import PrivateSigningKey

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the form of secrets, none itself
KEY_BYTES_MIN: Final = 24
KEY_BYTES_MAX: Final = 64
FREE_TEXT_CHARACTERS_MAX: Final = 128
HINT_CHARACTERS_MAX: Final = 4

_VERSIONED_PREFIX: Final = "v1," + SECRET_PREFIX
_HINT_SHARE: Final = 4  # of so many characters, one


def secret_from_key(key: bytes) -> str:
    """Returns the text form of a Standard Webhooks key."""
    return SECRET_PREFIX + base64.b64encode(key).decode("ascii")


def why_bad_secret(secret: str) -> str | None:
    """Returns what is wrong with a customer's own secret, or None.

    Two forms: `whsec_` with base64 of 24 to 64 bytes, which is what Standard Webhooks wants of that form; and free text
    of 1 to 128 characters. White space around it is a slip that nobody would see, and every signature would be wrong.
    """
    if secret.startswith(_VERSIONED_PREFIX):
        return f"must begin with `{SECRET_PREFIX}`: leave out the `v1,` before it, which belongs to signatures"
    if secret.startswith(SECRET_PREFIX):
        return _why_bad_base64(secret)
    if not 1 <= len(secret) <= FREE_TEXT_CHARACTERS_MAX:
        return f"must have 1 to {FREE_TEXT_CHARACTERS_MAX} characters, has {len(secret)}"
    if secret != secret.strip() or not all(map(_may_be_in_text, secret)):
        return "must have no control characters such as line breaks, and no white space at its beginning or end"
    return None


def _why_bad_base64(secret: str) -> str | None:
    try:
        key = standard_key(secret)
    except ValueError:  # binascii.Error too
        return f"must be base64 after `{SECRET_PREFIX}`"
    if not KEY_BYTES_MIN <= len(key) <= KEY_BYTES_MAX:
        return (
            f"must hold base64 of {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes after `{SECRET_PREFIX}`, holds {len(key)}; "
            "another length is possible as free text, without that prefix"
        )
    return None


def _may_be_in_text(character: str) -> bool:
    """No control characters, and nothing that UTF-8 cannot carry."""
    return unicodedata.category(character) not in {"Cc", "Cs"}


def hint_of(secret: str) -> str:
    """Returns the end of a secret, by which people can see which one it is: at most a quarter of it."""
    shown = min(HINT_CHARACTERS_MAX, len(secret) // _HINT_SHARE)
    return secret[len(secret) - shown :]


def standard_key(secret: str) -> bytes:
    """Returns the Standard Webhooks key: the bytes behind `whsec_`, or the UTF-8 bytes of a secret in free text.

    Raises binascii.Error if what follows `whsec_` is not base64.
    """
    if secret.startswith(SECRET_PREFIX):
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    return secret.encode("utf-8")


class SigningKey:
    """A secret, prepared for many signatures. Raises binascii.Error if what follows `whsec_` is not base64."""

    def __init__(self, secret: str) -> None:
        self._body_hmac = hmac.new(secret.encode("utf-8"), digestmod=hashlib.sha256)
        self._standard_hmac = hmac.new(standard_key(secret), digestmod=hashlib.sha256)

    def of_body(self, body: bytes) -> str:
        """Returns the value of `X-Webhook-Signature`."""
        made = self._body_hmac.copy()
        made.update(body)
        return f"sha256={made.hexdigest()}"

    def standard(self, signed: bytes) -> str:
        """Returns a signature as in `webhook-signature`. `signed`: id, time and body, with dots between them."""
        made = self._standard_hmac.copy()
        made.update(signed)
        return "v1," + binascii.b2a_base64(made.digest(), newline=False).decode("ascii")


def signature_headers(
    keys: Sequence[SigningKey],
    event_id: str,
    timestamp_unix_seconds: int,
    body: bytes,
    private_keys: Sequence[PrivateSigningKey] | None = None,
) -> dict[str, str]:
    """Returns the headers that let a receiver verify one attempt. The id is the same on every attempt, the time is not.

    Of several keys, the newest first, `webhook-signature` carries a signature each; `X-Webhook-Signature` has room
    for one only: that of the oldest secret, as long as it signs. With `private_keys` it carries their signatures, too.
    """
    signed = b"%s.%d.%s" % (event_id.encode("ascii"), timestamp_unix_seconds, body)
    signatures = " ".join([key.standard(signed) for key in keys])
    if private_keys is not None:
        signatures = " ".join([signatures, *(key.standard(signed) for key in private_keys)])
    return {
        "X-Webhook-Signature": keys[-1].of_body(body),
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp_unix_seconds),
        "webhook-signature": signatures,
    }

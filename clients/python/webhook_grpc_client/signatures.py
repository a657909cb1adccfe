"""Verifies that a request comes from the service and is fresh: for receivers, whatever their web framework.

The form is that of Standard Webhooks (https://github.com/standard-webhooks/standard-webhooks): over id, time and body
HMAC-SHA256 with a secret (`v1`), or Ed25519 with a private key whose public key the receiver has (`v1a`).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

_PREFIX: Final = "whsec_"
_VERSION: Final = "v1,"
_PUBLIC_KEY_PREFIX: Final = "whpk_"
_PUBLIC_KEY_VERSION: Final = "v1a,"
_PUBLIC_KEY_BYTES: Final = 32
_SIGNATURES_MAX: Final = 32  # in one header; the service sends four at most: of two secrets and two keys


class SignatureInvalid(Exception):
    """The request is not to be trusted.

    `reason` is HEADER_MISSING, HEADER_MALFORMED, TIMESTAMP_TOO_OLD, TIMESTAMP_TOO_NEW, SIGNATURE_WRONG or
    BODY_MALFORMED.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class Message:
    """A genuine delivery. `webhook_id` is the header `webhook-id`: the same on every attempt, so drop what you have."""

    webhook_id: str
    event_type: str
    attempt: int
    timestamp: datetime
    """When the attempt was signed."""
    data: Any


def verify_signature(
    headers: Mapping[str, str],
    body: bytes,
    *,
    secrets: Sequence[str] = (),
    public_keys: Sequence[str] = (),
    tolerance: float = 300.0,
    now: float | None = None,
) -> Message:
    """Returns the message if a secret or a private key has signed it, within so many seconds of now.

    One of the secrets is enough, or one of the private keys of the public keys (`whpk_…`). Give secrets only or public
    keys only, if you don't want to trust both. `body` is what came, byte for byte, before anything parsed it. While a
    secret or a key is changed, give the new and the old. `now` is in Unix seconds, the system's clock if it is None.
    Raises SignatureInvalid, ValueError for a secret or a key that is none, and ImportError if there are public keys and
    the package `cryptography` is missing.
    """
    keys = _keys(secrets) if secrets or not public_keys else []
    verifiers = _verifiers(public_keys)
    given = _Headers(headers)
    message_id, signed_at = given.required("webhook-id"), _timestamp(given.required("webhook-timestamp"))
    signatures = _signatures(given.required("webhook-signature"))
    signed = b"%s.%d.%s" % (_bytes(message_id), signed_at, _checked(body))
    is_signed = any(_is_signed(key, signed, signatures) for key in keys)
    if not is_signed and not any(verify(signed, signatures) for verify in verifiers):
        raise SignatureInvalid("SIGNATURE_WRONG", "no secret or key of yours has signed this id, time and body")
    _check_time(signed_at, time.time() if now is None else now, tolerance)
    return Message(
        message_id,
        given.optional("x-webhook-event"),
        _number(given.optional("x-webhook-attempt")),
        datetime.fromtimestamp(signed_at, UTC),
        _data(body),
    )


def verify_body_signature(headers: Mapping[str, str], body: bytes, *, secrets: Sequence[str]) -> None:
    """Returns if one of the secrets has signed the body (X-Webhook-Signature). Raises SignatureInvalid.

    For receivers that can read one header only. It does not stop anybody from sending an old request again.
    """
    _keys(secrets)
    given = _Headers(headers).required("x-webhook-signature")
    for secret in secrets:
        expected = b"sha256=" + hmac.new(secret.encode(), _checked(body), hashlib.sha256).hexdigest().encode()
        if hmac.compare_digest(expected, _bytes(given)):
            return
    raise SignatureInvalid("SIGNATURE_WRONG", "no secret of yours has signed this body")


class _Headers:
    """Headers by their names in any case."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._values = {name.lower(): value for name, value in headers.items()}

    def required(self, name: str) -> str:
        value = self._values.get(name, "")
        if not value:
            raise SignatureInvalid("HEADER_MISSING", f"the request has no {name}")
        return value

    def optional(self, name: str) -> str:
        return self._values.get(name, "")


def _keys(secrets: Iterable[str]) -> list[bytes]:
    if isinstance(secrets, str):
        raise TypeError("secrets is a list of secrets")
    keys = [_key(secret) for secret in secrets]
    if not keys:
        raise ValueError("there is no secret to verify with")
    return keys


def _key(secret: str) -> bytes:
    """Returns the key: base64 behind `whsec_`, or the UTF-8 bytes of free text."""
    if not secret:
        raise ValueError("a secret is empty")
    if secret.startswith(_PUBLIC_KEY_PREFIX):  # anybody knows it: as a secret it would prove nothing
        raise ValueError(f"what begins with {_PUBLIC_KEY_PREFIX} is a public key, no secret: give it in public_keys")
    if not secret.startswith(_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except ValueError:  # or not even ASCII
        raise ValueError(f"what follows {_PREFIX} in a secret is not base64") from None


def _verifiers(public_keys: Sequence[str]) -> list[Callable[[bytes, Sequence[str]], bool]]:
    """Returns functions that look for a signature of the private key of each."""
    if isinstance(public_keys, str):
        raise TypeError("public_keys is a list of public keys")
    return [_verifier(key) for key in public_keys]


def _verifier(public_key: str) -> Callable[[bytes, Sequence[str]], bool]:
    try:
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - only those with public keys need it
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 - as above
    except ImportError as error:
        raise ImportError("to verify with public keys, install the package `cryptography`") from error
    key = Ed25519PublicKey.from_public_bytes(_public_key_bytes(public_key))

    def is_signed(signed: bytes, signatures: Sequence[str]) -> bool:
        for signature in signatures:
            if signature.startswith(_PUBLIC_KEY_VERSION):
                with contextlib.suppress(InvalidSignature, ValueError):  # ValueError: not base64
                    key.verify(base64.b64decode(signature.removeprefix(_PUBLIC_KEY_VERSION), validate=True), signed)
                    return True
        return False

    return is_signed


def _public_key_bytes(public_key: str) -> bytes:
    try:
        raw = base64.b64decode(public_key.removeprefix(_PUBLIC_KEY_PREFIX), validate=True)
    except ValueError:
        raw = b""
    if not public_key.startswith(_PUBLIC_KEY_PREFIX) or len(raw) != _PUBLIC_KEY_BYTES:
        raise ValueError(f"a public key is {_PUBLIC_KEY_PREFIX} and base64 of {_PUBLIC_KEY_BYTES} bytes")
    return raw


def _checked(body: bytes) -> bytes:
    if not isinstance(body, bytes | bytearray | memoryview):  # pyright: ignore[reportUnnecessaryIsInstance] - frameworks
        raise TypeError("body is the raw bytes of the request, before anything parsed them")
    return bytes(body)


def _bytes(text: str) -> bytes:
    """Returns a header's bytes, whatever somebody has sent: frameworks make lone surrogates of what is no UTF-8."""
    return text.encode(errors="surrogatepass")


def _is_signed(key: bytes, signed: bytes, signatures: Sequence[str]) -> bool:
    expected = _VERSION.encode() + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
    return any([hmac.compare_digest(expected, _bytes(signature)) for signature in signatures])  # noqa: C419 - all


def _signatures(text: str) -> list[str]:
    """Returns the signatures of the header: each may cost as much as all of the body."""
    signatures = text.split(" ", _SIGNATURES_MAX)
    if len(signatures) > _SIGNATURES_MAX:
        raise SignatureInvalid("HEADER_MALFORMED", f"webhook-signature has more than {_SIGNATURES_MAX} signatures")
    return signatures


def _timestamp(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise SignatureInvalid("HEADER_MALFORMED", "webhook-timestamp is not a number of seconds")
    return int(text)


def _check_time(signed_at: int, now: float, tolerance: float) -> None:
    age = now - signed_at
    if age > tolerance:
        raise SignatureInvalid("TIMESTAMP_TOO_OLD", f"signed {age:.0f} s ago; is it sent again by somebody?")
    if -age > tolerance:
        raise SignatureInvalid("TIMESTAMP_TOO_NEW", f"signed {-age:.0f} s in the future; is the clock right?")


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _data(body: bytes) -> Any:
    try:
        return json.loads(body)["data"]
    except (ValueError, KeyError, TypeError):
        raise SignatureInvalid("BODY_MALFORMED", "the body is genuine, but not as the service writes them") from None

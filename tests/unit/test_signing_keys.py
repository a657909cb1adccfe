"""Ed25519 signatures: the vectors of the specifications, and `cryptography`'s own opinion."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from webhook_grpc.domain.sealing import ENTROPY_BYTES, Purpose, Sealer, UnsealError
from webhook_grpc.domain.signing import SigningKey, signature_headers
from webhook_grpc.domain.signing_keys import (
    PrivateSigningKey,
    PublicSigningKey,
    jwks,
    opened,
    seal,
    thumbprint_of,
)

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
SEED = bytes(range(0x40, 0x60))
PUBLIC_KEY = "whpk_JUO5L/EJVRFHatyDadtt3JM2ZaEZeN2hQE7hBmypVZ0="
EVENT_ID = "evt_01J8ZQ4T1X9V7M3N5K6P8R2S4T"
TIMESTAMP = 1767225600
NOW = datetime(2026, 1, 1, tzinfo=UTC)
# RFC 8037, appendix A
RFC_PUBLIC = base64.urlsafe_b64decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
RFC_THUMBPRINT = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def headers_of(body: bytes, *seeds: bytes) -> dict[str, str]:
    private_keys = [PrivateSigningKey(seed) for seed in seeds]
    return signature_headers([SigningKey(SECRET)], EVENT_ID, TIMESTAMP, body, private_keys)


@pytest.mark.parametrize(
    ("body", "signature"),
    [
        (
            b'{"type":"invoice.paid","timestamp":"2026-01-01T00:00:00Z","data":{"id":"inv_1","amount":1250}}',
            "3QEf2dx+EvwhkDhHmtu/CS6LjwPSkByNe9R3GFxgJg26vkWE8fjdh9tu+gy0TymHsucaMEQGQzM3cT+A9PMsAw==",
        ),
        (
            b"{}",
            "3bB2N5KQ0r8eV30R8SWpjJVw3qHlavg20licNs4EJ3cl8WRVwYLOAU7lMr15F354FOrnIqQ1HKbDxHCZlTr/AQ==",
        ),
    ],
)
def test_a_private_key_signs_beside_the_secret_which_signs_as_before(body: bytes, signature: str) -> None:
    without = signature_headers([SigningKey(SECRET)], EVENT_ID, TIMESTAMP, body)
    headers = headers_of(body, SEED)
    assert headers == {**without, "webhook-signature": f"{without['webhook-signature']} v1a,{signature}"}


def test_each_key_signs_id_time_and_body_so_that_its_public_key_verifies() -> None:
    headers = headers_of(b"{}", SEED, bytes(32))
    _, *entries = headers["webhook-signature"].split(" ")
    assert len(entries) == 2
    for seed, entry in zip((SEED, bytes(32)), entries, strict=True):
        public = Ed25519PublicKey.from_public_bytes(PrivateSigningKey(seed).public_key)
        signature = base64.b64decode(entry.removeprefix("v1a,"), validate=True)
        public.verify(signature, f"{EVENT_ID}.{TIMESTAMP}.".encode() + b"{}")
        with pytest.raises(InvalidSignature):
            public.verify(signature, f"{EVENT_ID}.{TIMESTAMP + 1}.".encode() + b"{}")


def test_a_public_key_is_written_as_standard_webhooks_and_rfc_8037_say() -> None:
    assert PublicSigningKey(PrivateSigningKey(SEED).public_key, NOW, None).text == PUBLIC_KEY
    assert thumbprint_of(RFC_PUBLIC) == RFC_THUMBPRINT
    assert json.loads(jwks([PublicSigningKey(RFC_PUBLIC, NOW, None)])) == {
        "keys": [
            {
                "kty": "OKP",
                "crv": "Ed25519",
                "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
                "kid": RFC_THUMBPRINT,
                "use": "sig",
                "alg": "EdDSA",
            }
        ]
    }
    assert json.loads(jwks([])) == {"keys": []}


def test_a_sealed_private_key_opens_only_for_its_customer_its_id_and_its_purpose() -> None:
    sealer = Sealer([bytes(32)])
    sealed = seal(sealer, SEED, 7, 1, bytes(range(ENTROPY_BYTES)))
    assert opened(sealer, sealed, 7, 1).public_key == PrivateSigningKey(SEED).public_key
    for customer_id, key_id in ((8, 1), (7, 2)):
        with pytest.raises(UnsealError):
            opened(sealer, sealed, customer_id, key_id)
    for purpose in set(Purpose) - {Purpose.SIGNING_KEY}:
        with pytest.raises(UnsealError):
            sealer.open(sealed, 7, 1, purpose)

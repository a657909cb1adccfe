"""`verify_signature` against what the service signs: what is genuine passes, and each mistake has its name."""

from __future__ import annotations

import base64
import sys

import pytest

from webhook_grpc.domain.signing import SigningKey, signature_headers
from webhook_grpc.domain.signing_keys import PrivateSigningKey
from webhook_grpc_client import SignatureInvalid, verify_body_signature, verify_signature

NEW, OLD = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "free text"
BODY = b'{"event":"job.done","timestamp":1,"data":{"n":1}}'
AT = 1_700_000_000
SEED = bytes(range(32))

pytestmark = pytest.mark.fast


def signed(*secrets: str, body: bytes = BODY) -> dict[str, str]:
    own = {"X-Webhook-Event": "job.done", "X-Webhook-Attempt": "3"}
    return {**own, **signature_headers(list(map(SigningKey, secrets)), "evt_1", AT, body)}


def reason(headers: dict[str, str], body: bytes = BODY, secrets: tuple[str, ...] = (NEW,), now: float = AT) -> str:
    with pytest.raises(SignatureInvalid) as raised:
        verify_signature(headers, body, secrets=secrets, now=now)
    return raised.value.reason


@pytest.mark.parametrize("secrets", [(NEW,), (OLD,), (NEW, OLD), (OLD, NEW)])
def test_a_genuine_delivery_is_read(secrets: tuple[str, ...]) -> None:
    headers = {name.upper(): value for name, value in signed(NEW, OLD).items()}
    message = verify_signature(headers, BODY, secrets=secrets, now=AT + 300)
    assert (message.webhook_id, message.event_type, message.attempt) == ("evt_1", "job.done", 3)
    assert message.data == {"n": 1}
    assert message.timestamp.timestamp() == AT
    verify_body_signature(headers, BODY, secrets=[OLD])


def test_each_mistake_has_its_name() -> None:
    assert reason({**signed(NEW), "webhook-id": "evt_2"}) == "SIGNATURE_WRONG"
    assert reason({**signed(NEW), "webhook-timestamp": str(AT + 1)}) == "SIGNATURE_WRONG"
    assert reason({**signed(NEW), "webhook-signature": "v1,AAAA v2,ä"}) == "SIGNATURE_WRONG"
    assert reason(signed(NEW), BODY + b" ") == "SIGNATURE_WRONG"
    assert reason(signed(NEW), secrets=(OLD,)) == "SIGNATURE_WRONG"
    assert reason({**signed(NEW), "webhook-signature": " ".join("x" * 32)}) == "SIGNATURE_WRONG"
    assert reason({**signed(NEW), "webhook-signature": " ".join("x" * 33)}) == "HEADER_MALFORMED"
    assert reason({**signed(NEW), "webhook-signature": "v1,\udcff"}) == "SIGNATURE_WRONG", "of aiohttp: a byte 0xff"
    assert reason({**signed(NEW), "webhook-id": "evt_\udcff"}) == "SIGNATURE_WRONG"
    assert reason({**signed(NEW), "webhook-timestamp": "soon"}) == "HEADER_MALFORMED"
    assert reason({**signed(NEW), "webhook-timestamp": "-1"}) == "HEADER_MALFORMED"
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        assert reason({**signed(NEW), name: ""}) == "HEADER_MISSING"
    assert reason(signed(NEW), now=AT + 301) == "TIMESTAMP_TOO_OLD"
    assert reason(signed(NEW), now=AT - 301) == "TIMESTAMP_TOO_NEW"
    assert reason(signed(NEW, body=b"[]"), b"[]") == "BODY_MALFORMED"


def test_a_body_signature_is_checked_too() -> None:
    with pytest.raises(SignatureInvalid, match="SIGNATURE_WRONG"):
        verify_body_signature(signed(NEW), BODY + b" ", secrets=[NEW])
    with pytest.raises(SignatureInvalid, match="SIGNATURE_WRONG"):
        verify_body_signature({"X-Webhook-Signature": "sha256=\udcff"}, BODY, secrets=[NEW])
    with pytest.raises(SignatureInvalid, match="HEADER_MISSING"):
        verify_body_signature({}, BODY, secrets=[NEW])


def test_what_a_program_does_wrong_is_no_invalid_signature() -> None:
    with pytest.raises(ValueError, match="no secret"):
        verify_signature(signed(NEW), BODY, secrets=[])
    for wrong in ("whsec_!", "whsec_AAE…Hh8="):
        with pytest.raises(ValueError, match="not base64"):
            verify_signature(signed(NEW), BODY, secrets=[wrong])
    with pytest.raises(TypeError, match="list of secrets"):
        verify_signature(signed(NEW), BODY, secrets=NEW)
    with pytest.raises(TypeError, match="raw bytes"):
        verify_signature(signed(NEW), BODY.decode(), secrets=[NEW])  # pyright: ignore[reportArgumentType]


def with_private_key(*seeds: bytes) -> dict[str, str]:
    return signature_headers([SigningKey(NEW)], "evt_1", AT, BODY, list(map(PrivateSigningKey, seeds)))


def public_key(seed: bytes) -> str:
    return "whpk_" + base64.b64encode(PrivateSigningKey(seed).public_key).decode()


def test_a_receiver_may_have_public_keys_in_place_of_secrets() -> None:
    headers = with_private_key(SEED, bytes(32))
    for keys in ([public_key(SEED)], [public_key(bytes(32))], [public_key(b"o" * 32), public_key(SEED)]):
        assert verify_signature(headers, BODY, public_keys=keys, now=AT).data == {"n": 1}
    assert verify_signature(signed(NEW), BODY, secrets=[NEW], public_keys=[public_key(SEED)], now=AT).data == {"n": 1}
    wrong = (signed(NEW), {**headers, "webhook-id": "evt_2"}, {**headers, "webhook-signature": "v1a,AAAA v1a,ä v1a"})
    for received in (*wrong, with_private_key(bytes(32))):
        with pytest.raises(SignatureInvalid, match="SIGNATURE_WRONG"):
            verify_signature(received, BODY, public_keys=[public_key(SEED)], now=AT)


def test_a_public_key_is_no_secret_and_a_secret_no_public_key() -> None:
    with pytest.raises(ValueError, match="is a public key"):
        verify_signature(signed(NEW), BODY, secrets=[public_key(SEED)])
    for wrong in (NEW, "whpk_AAAA", "whpk_!", ""):
        with pytest.raises(ValueError, match="base64 of 32 bytes"):
            verify_signature(signed(NEW), BODY, public_keys=[wrong])
    with pytest.raises(TypeError, match="list of public keys"):
        verify_signature(signed(NEW), BODY, public_keys=public_key(SEED))


def test_without_cryptography_only_public_keys_cannot_be_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    assert verify_signature(signed(NEW), BODY, secrets=[NEW], now=AT)
    with pytest.raises(ImportError, match="install the package `cryptography`"):
        verify_signature(signed(NEW), BODY, public_keys=[public_key(SEED)])

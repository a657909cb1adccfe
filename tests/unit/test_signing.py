"""Signatures: the vectors of the specification, and an independent library's opinion."""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import time
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook as StandardWebhook
from standardwebhooks.webhooks import WebhookVerificationError

from webhook_grpc.domain.signing import (
    KEY_BYTES_MAX,
    KEY_BYTES_MIN,
    SigningKey,
    hint_of,
    secret_from_key,
    signature_headers,
    standard_key,
    why_bad_secret,
)

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
OLD_SECRET = "whsec_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="
EVENT_ID = "evt_01J8ZQ4T1X9V7M3N5K6P8R2S4T"
TIMESTAMP = 1767225600


class Vector(NamedTuple):
    """A body and what its signatures must be."""

    body: bytes
    standard: str
    standard_old: str
    body_hmac: str


VECTORS = [
    Vector(
        b'{"type":"invoice.paid","timestamp":"2026-01-01T00:00:00Z","data":{"id":"inv_1","amount":1250}}',
        "a9ztd3cUkvuA629ARcby2/M68jMIA4KuaINripeovaA=",
        "zqchVv1+pI0HFkXfG9DlIN7zQfIPYw2gMIcA07Pe3YA=",
        "27e48420379a28d19d208b329d863afca4fa2ab9a288466e756617670be812a2",
    ),
    Vector(
        b"{}",
        "T+PfC4st9YEJQQu4PY9drl4lPvHDiQJjDKRIMycRclY=",
        "3l+ePoYjjZ7E+pVwD81xCOWlkbvzx11Yw70jjI64dts=",
        "985a3c96a281605f1d3b4c1137aa5b322d0d56867f0b183245815130d7964c97",
    ),
    Vector(
        '{"n":"Zoë 🎉","nul":"\\u0000"}'.encode(),
        "Xu+N54z6y+LFnOPiEalA53UpRRZ6ArKNwa2cOWgkK4w=",
        "WF2/Svb/LDsww4Qa7xQ7RvGtEYYLDXEca8yHB6699dg=",
        "925cfe10a411cf6d5d93c9fdcb2897eb1db210c29e27c12eaa00bdca913fbb94",
    ),
    Vector(
        b'{ "a":1,\n "a":2 }',
        "XpUVCUyeZs8xmPb6Ku7yXKdfaWUO5CPX9qbZDb07nPA=",
        "J382vTJ+mh1qGS0xj48fKtWmK0/1BgQ5h+VFa7slFuc=",
        "a2c3c9c0db9ce2758f34269bfdc4ad2791df8cc226f753d48aafa98a77535e96",
    ),
]


@pytest.mark.parametrize("vector", VECTORS)
def test_the_vectors_of_the_specification_come_out(vector: Vector) -> None:
    assert signature_headers([SigningKey(SECRET)], EVENT_ID, TIMESTAMP, vector.body) == {
        "X-Webhook-Signature": f"sha256={vector.body_hmac}",
        "webhook-id": EVENT_ID,
        "webhook-timestamp": str(TIMESTAMP),
        "webhook-signature": f"v1,{vector.standard}",
    }


@pytest.mark.parametrize("vector", VECTORS)
def test_another_secret_gives_the_other_signature(vector: Vector) -> None:
    headers = signature_headers([SigningKey(OLD_SECRET)], EVENT_ID, TIMESTAMP, vector.body)
    assert headers["webhook-signature"] == f"v1,{vector.standard_old}"
    assert headers["X-Webhook-Signature"] != f"sha256={vector.body_hmac}"


def test_the_vector_of_standard_webhooks_own_libraries_comes_out() -> None:
    headers = signature_headers(
        [SigningKey("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")],
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_vector_of_github_comes_out() -> None:
    headers = signature_headers([SigningKey("It's a Secret to Everybody")], EVENT_ID, TIMESTAMP, b"Hello, World!")
    expected = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert headers["X-Webhook-Signature"] == f"sha256={expected}"


def test_the_secrets_text_is_that_of_its_key() -> None:
    assert secret_from_key(bytes(range(32))) == SECRET
    assert standard_key(SECRET) == bytes(range(32))


@pytest.mark.parametrize("vector", VECTORS)
def test_an_independent_library_verifies_what_is_signed_now(vector: Vector) -> None:
    headers = signature_headers([SigningKey(SECRET)], EVENT_ID, int(time.time()), vector.body)
    StandardWebhook(SECRET).verify(vector.body, headers, json_parse=False)


def test_an_independent_library_verifies_with_a_secret_in_free_text() -> None:
    secret = "correct-horse-battery-staple"
    headers = signature_headers([SigningKey(secret)], EVENT_ID, int(time.time()), b"{}")
    assert StandardWebhook(secret.encode()).verify(b"{}", headers) == {}
    assert StandardWebhook(secret_from_key(secret.encode())).verify(b"{}", headers) == {}


def test_the_body_signature_does_not_depend_on_id_and_time_but_the_standard_one_does() -> None:
    first = signature_headers([SigningKey(SECRET)], EVENT_ID, TIMESTAMP, b"{}")
    later = signature_headers([SigningKey(SECRET)], EVENT_ID, TIMESTAMP + 1, b"{}")
    other = signature_headers([SigningKey(SECRET)], EVENT_ID + "0", TIMESTAMP, b"{}")
    assert len({headers["X-Webhook-Signature"] for headers in (first, later, other)}) == 1
    assert len({headers["webhook-signature"] for headers in (first, later, other)}) == 3


@pytest.mark.parametrize(
    ("secret", "body", "event_id", "later_seconds"),
    [
        (OLD_SECRET, b"{}", EVENT_ID, 0),
        (SECRET, b"{ }", EVENT_ID, 0),
        (SECRET, b"{}", EVENT_ID + "0", 0),
        (SECRET, b"{}", EVENT_ID, 60),
    ],
    ids=["wrong key", "changed body", "changed id", "changed time"],
)
def test_an_independent_library_refuses_what_was_changed(
    secret: str, body: bytes, event_id: str, later_seconds: int
) -> None:
    now = int(time.time())
    headers = signature_headers([SigningKey(SECRET)], EVENT_ID, now, b"{}")
    changes = {"webhook-id": event_id, "webhook-timestamp": str(now + later_seconds)}
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        StandardWebhook(secret).verify(body, {**headers, **changes})


# Rounded so that the time that passes until it is verified never moves a case over the limit of 300 s.
@pytest.mark.parametrize("limit", ["past", "future"])
def test_a_receiver_accepts_299_seconds_of_difference(limit: str) -> None:
    now = time.time()
    timestamp = math.ceil(now) - 299 if limit == "past" else math.floor(now) + 299
    StandardWebhook(SECRET).verify(b"{}", signature_headers([SigningKey(SECRET)], EVENT_ID, timestamp, b"{}"))


@pytest.mark.parametrize("limit", ["old", "new"])
def test_a_receiver_refuses_301_seconds_of_difference(limit: str) -> None:
    now = time.time()
    timestamp = math.floor(now) - 301 if limit == "old" else math.ceil(now) + 301
    with pytest.raises(WebhookVerificationError, match=f"too {limit}"):
        StandardWebhook(SECRET).verify(b"{}", signature_headers([SigningKey(SECRET)], EVENT_ID, timestamp, b"{}"))


@given(st.binary(min_size=KEY_BYTES_MIN, max_size=KEY_BYTES_MAX), st.text(st.characters(exclude_categories=["Cs"])))
def test_whatever_key_and_body_an_independent_library_verifies_it(key: bytes, text: str) -> None:
    secret = secret_from_key(key)
    assert why_bad_secret(secret) is None
    headers = signature_headers([SigningKey(secret)], EVENT_ID, int(time.time()), text.encode())
    StandardWebhook(secret).verify(text.encode(), headers, json_parse=False)


FREE_TEXTS = {
    "1 character": "x",
    "the example of the specification": "your_secret_key",
    "128 characters": "x" * 128,
    "beyond ASCII": "пароль-ключ",
    "128 characters of four bytes each": "🎉" * 128,
    "spaces inside": "correct horse battery staple",
    "every character of ASCII": "!\"#$%&'()*+,-./0123456789:;<=>?@[\\]^_`{|}~",
    "another prefix": "WHSEC_ is only text when it is not in lower case",
    "signature's prefix alone": "v1,x",
}


@pytest.mark.parametrize("secret", FREE_TEXTS.values(), ids=FREE_TEXTS.keys())
def test_a_secret_in_free_text_verifies_with_an_independent_library_and_by_hand(secret: str) -> None:
    assert why_bad_secret(secret) is None
    headers = signature_headers([SigningKey(secret)], EVENT_ID, int(time.time()), b"{}")
    in_base64 = base64.b64encode(secret.encode()).decode()  # what libraries take that know no other form
    assert StandardWebhook(in_base64).verify(b"{}", headers) == {}
    assert StandardWebhook(secret.encode()).verify(b"{}", headers) == {}
    by_hand = hmac.new(secret.encode("utf-8"), b"{}", hashlib.sha256).hexdigest()
    assert headers["X-Webhook-Signature"] == f"sha256={by_hand}"


@pytest.mark.parametrize(
    "secret", [SECRET, secret_from_key(bytes(KEY_BYTES_MIN)), secret_from_key(bytes(KEY_BYTES_MAX))]
)
def test_a_secret_in_base64_holds_24_to_64_bytes(secret: str) -> None:
    assert why_bad_secret(secret) is None


BASE64_BYTES = (
    "must hold base64 of 24 to 64 bytes after `whsec_`, holds {}; another length is possible as free text, without "
    "that prefix"
)
UNSEEN = "must have no control characters such as line breaks, and no white space at its beginning or end"


@pytest.mark.parametrize(
    ("secret", "problem"),
    [
        ("", "must have 1 to 128 characters, has 0"),
        ("x" * 129, "must have 1 to 128 characters, has 129"),
        ("whsec_", BASE64_BYTES.format(0)),
        (secret_from_key(bytes(23)), BASE64_BYTES.format(23)),
        (secret_from_key(bytes(65)), BASE64_BYTES.format(65)),
        ("v1," + SECRET, "must begin with `whsec_`: leave out the `v1,` before it, which belongs to signatures"),
        ("whsec_" + "x" * 33, "must be base64 after `whsec_`"),
        ("whsec_" + "-_" * 16, "must be base64 after `whsec_`"),  # of the URL-safe alphabet
        (SECRET.rstrip("="), "must be base64 after `whsec_`"),
        (SECRET + "AAAA", "must be base64 after `whsec_`"),
        ("whsec_" + "é" * 32, "must be base64 after `whsec_`"),
        (SECRET + "\n", "must be base64 after `whsec_`"),
        (" ", UNSEEN),
        ("your_secret_key ", UNSEEN),
        ("your_secret_key\n", UNSEEN),
        ("\u00a0your_secret_key", UNSEEN),
        ("your\0secret", UNSEEN),
        ("your\x7fsecret", UNSEEN),
        ("your\ud800secret", UNSEEN),
    ],
)
def test_other_secrets_are_refused(secret: str, problem: str) -> None:
    assert why_bad_secret(secret) == problem


@pytest.mark.parametrize("secret", ["v1," + SECRET, "x" * 129, "whsec_" + "-_" * 16, "é" * 30 + "\n"])
def test_why_a_secret_is_bad_does_not_tell_the_secret(secret: str) -> None:
    problem = why_bad_secret(secret)
    assert problem is not None
    assert secret.removeprefix("v1,").removeprefix("whsec_") not in problem


@pytest.mark.parametrize(
    ("secret", "hint"),
    [(SECRET, "Hh8="), ("your_secret_key", "key"), ("x" * 128, "xxxx"), ("abcdefgh", "gh"), ("abcd", "d"), ("abc", "")],
)
def test_the_hint_of_a_short_secret_shows_a_quarter_of_it_at_most(secret: str, hint: str) -> None:
    assert hint_of(secret) == hint


def test_the_key_of_a_secret_in_free_text_is_its_characters() -> None:
    text = "x" * 30
    assert standard_key(text) == b"x" * 30
    assert standard_key(secret_from_key(b"x" * 30)) == b"x" * 30
    assert base64.b64decode(secret_from_key(b"x" * 30).removeprefix("whsec_")) == text.encode()

"""Secrets at rest: they open where they belong, with a key that is known, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook_grpc.domain.ids import INT64_MAX
from webhook_grpc.domain.sealing import (
    ENTROPY_BYTES,
    HEAD_BYTES,
    KEY_BYTES,
    KeyMissing,
    Sealer,
    UnsealError,
    key_id_of,
    sealed_with,
)

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
KEY = bytes(range(KEY_BYTES))
OTHER_KEY = bytes(reversed(KEY))
ENTROPY = bytes(range(100, 100 + ENTROPY_BYTES))
CUSTOMER = 42
WEBHOOK = 7

int64 = st.integers(min_value=1, max_value=INT64_MAX)
keys = st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES)
entropies = st.binary(min_size=ENTROPY_BYTES, max_size=ENTROPY_BYTES)


def sealed_secret() -> bytes:
    """SECRET as it stands in the table."""
    return Sealer([KEY]).seal(SECRET, CUSTOMER, WEBHOOK, ENTROPY)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=100), int64, int64, keys, entropies)
def test_what_is_sealed_opens_again(secret: str, customer_id: int, webhook_id: int, key: bytes, entropy: bytes) -> None:
    sealer = Sealer([key])
    assert sealer.open(sealer.seal(secret, customer_id, webhook_id, entropy), customer_id, webhook_id) == secret


def test_neither_the_secret_nor_a_key_stands_in_what_is_sealed() -> None:
    sealed = sealed_secret()
    assert SECRET.encode() not in sealed
    assert bytes(range(32)) not in sealed
    assert ENTROPY[12:-12] not in sealed, "the key of the secret itself"


@pytest.mark.parametrize(
    ("customer_id", "webhook_id"), [(CUSTOMER + 1, WEBHOOK), (CUSTOMER, WEBHOOK + 1), (WEBHOOK, CUSTOMER)]
)
def test_a_sealed_secret_that_is_moved_to_another_row_does_not_open(customer_id: int, webhook_id: int) -> None:
    sealer, sealed = Sealer([KEY]), sealed_secret()
    with pytest.raises(UnsealError, match="changed, or sealed for another webhook"):
        sealer.open(sealed, customer_id, webhook_id)


def test_no_byte_can_be_changed() -> None:
    sealer, sealed = Sealer([KEY]), sealed_secret()
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        with pytest.raises(UnsealError):
            sealer.open(bytes(changed), CUSTOMER, WEBHOOK)


def test_nothing_can_be_cut_off_or_added() -> None:
    sealer, sealed = Sealer([KEY]), sealed_secret()
    for length in range(len(sealed)):
        with pytest.raises(UnsealError):
            sealer.open(sealed[:length], CUSTOMER, WEBHOOK)
    with pytest.raises(UnsealError):
        sealer.open(sealed + b"\0", CUSTOMER, WEBHOOK)


@given(st.binary(max_size=200))
def test_bytes_that_were_never_sealed_do_not_open(noise: bytes) -> None:
    sealer, head = Sealer([KEY]), sealed_secret()[:5]
    for sealed in (noise, head + noise):
        with pytest.raises(UnsealError):
            sealer.open(sealed, CUSTOMER, WEBHOOK)


def test_the_parts_of_two_sealed_secrets_can_not_be_joined() -> None:
    sealer = Sealer([KEY])
    one = sealed_secret()
    other = sealer.seal(SECRET, CUSTOMER, WEBHOOK, bytes(ENTROPY_BYTES))
    after_wrapped_key = 5 + 12 + 48
    with pytest.raises(UnsealError):
        sealer.open(one[:after_wrapped_key] + other[after_wrapped_key:], CUSTOMER, WEBHOOK)


def test_fresh_entropy_seals_the_same_secret_differently() -> None:
    assert sealed_secret() != Sealer([KEY]).seal(SECRET, CUSTOMER, WEBHOOK, bytes(ENTROPY_BYTES))


def test_after_a_change_of_keys_the_new_one_seals_and_both_open() -> None:
    before, after, later = Sealer([KEY]), Sealer([OTHER_KEY, KEY]), Sealer([OTHER_KEY])
    old = before.seal(SECRET, CUSTOMER, WEBHOOK, ENTROPY)
    new = after.seal(SECRET, CUSTOMER, WEBHOOK, ENTROPY)

    assert after.open(old, CUSTOMER, WEBHOOK) == SECRET
    assert later.open(new, CUSTOMER, WEBHOOK) == SECRET
    with pytest.raises(KeyMissing, match=r"sealed with the key [0-9a-f]{8}, which is not configured"):
        before.open(new, CUSTOMER, WEBHOOK)
    with pytest.raises(KeyMissing, match=r"sealed with the key [0-9a-f]{8}, which is not configured"):
        later.open(old, CUSTOMER, WEBHOOK)


def test_a_later_form_is_told_from_a_change() -> None:
    sealed = b"\x02" + sealed_secret()[1:]
    with pytest.raises(UnsealError, match="unknown form"):
        Sealer([KEY]).open(sealed, CUSTOMER, WEBHOOK)


@pytest.mark.parametrize("sealed", [b"", b"\x01\x02\x03", b"nonsense", b"\x02" + sealed_secret()[1:]])
def test_of_what_has_no_known_form_no_key_is_known(sealed: bytes) -> None:
    assert sealed_with(sealed) is None


def test_the_head_of_a_sealed_secret_names_its_key() -> None:
    assert sealed_with(sealed_secret()[:HEAD_BYTES]) == key_id_of(KEY)
    assert Sealer([OTHER_KEY, KEY]).key_ids == (key_id_of(OTHER_KEY), key_id_of(KEY))


def test_why_a_secret_does_not_open_tells_nothing_of_it() -> None:
    with pytest.raises(UnsealError) as raised:
        Sealer([KEY]).open(sealed_secret(), CUSTOMER, WEBHOOK + 1)
    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is None

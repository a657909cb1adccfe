"""What gRPC has in header fields, read and written (PROTOCOL-HTTP2.md)."""

from __future__ import annotations

import pytest
from hpack import Decoder

from webhook_grpc.api.codes import Code
from webhook_grpc.server.grpc.metadata import read_metadata, read_timeout, refusal, trailers


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(b"1H", 3600.0), (b"2M", 120.0), (b"3S", 3.0), (b"4m", 0.004), (b"5u", 5e-6), (b"6n", 6e-9), (b"0n", 0.0)],
)
def test_timeouts_are_read_in_each_unit(text: bytes, seconds: float) -> None:
    assert read_timeout(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", [b"", b"1", b"S", b"-1S", b"1.5S", b"123456789S", b"1s", b"1S "])
def test_a_timeout_that_is_malformed_is_none(text: bytes) -> None:
    assert read_timeout(text) is None


def test_a_timeout_has_a_bound_that_the_loop_can_count() -> None:
    assert read_timeout(b"99999999H") == 10 * 365 * 86_400.0


def test_metadata_keeps_order_and_repetition_and_reads_binary_values_with_and_without_padding() -> None:
    fields = [
        (b"te", b"trailers"),
        (b"authorization", b"Bearer one"),
        (b"authorization", b"Bearer two"),
        (b"trace-bin", b"AAE,AAECAw=="),
        (b"broken-bin", b"*"),
        (b"grpc-timeout", b"1S"),
        (b"odd", b"\xff"),
    ]
    assert read_metadata(fields) == [
        ("authorization", "Bearer one"),
        ("authorization", "Bearer two"),
        ("trace-bin", b"\x00\x01"),
        ("trace-bin", b"\x00\x01\x02\x03"),
        ("odd", "ÿ"),
    ]


def test_a_status_carries_its_message_in_percent_encoding_and_binary_details_without_padding() -> None:
    block = trailers(Code.NOT_FOUND, "50 % of “it”\n", (("x-request-id", "abc"), ("details-bin", b"\x00\x01")))
    assert Decoder().decode(block) == [
        ("grpc-status", "5"),
        ("grpc-message", "50 %25 of %E2%80%9Cit%E2%80%9D%0A"),
        ("x-request-id", "abc"),
        ("details-bin", "AAE"),
    ]


def test_a_long_value_is_written_as_a_decoder_reads_it() -> None:
    for length in (0, 126, 127, 128, 254, 255, 16_000):
        assert list(Decoder().decode(trailers(Code.OK, "", (("a", "x" * length),))))[1] == ("a", "x" * length)


def test_what_is_no_call_gets_a_status_of_http() -> None:
    assert next(iter(Decoder().decode(refusal(b"415")))) == (":status", "415")

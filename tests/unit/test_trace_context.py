"""The header `traceparent` as the W3C has it, read strictly: what is wrong is as if it were not there."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook_grpc.domain.request_headers import Envelope, request_headers
from webhook_grpc.domain.signing import SigningKey
from webhook_grpc.domain.trace_context import Traceparent, read_traceparent

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{SPAN}-01"


def test_a_traceparent_names_a_span() -> None:
    assert Traceparent.parse(VALID) == Traceparent(int(TRACE, 16), int(SPAN, 16), 1)


@pytest.mark.parametrize(("flags", "kept"), [("00", 0), ("01", 1), ("02", 2), ("ff", 3), ("fc", 0)])
def test_flags_that_are_not_known_are_cleared(flags: str, kept: int) -> None:
    parsed = Traceparent.parse(f"00-{TRACE}-{SPAN}-{flags}")
    assert parsed is not None
    assert parsed.flags == kept


@given(
    trace_id=st.integers(1, 2**128 - 1),
    span_id=st.integers(1, 2**64 - 1),
    flags=st.integers(0, 3),
)
def test_what_is_written_is_read_again(trace_id: int, span_id: int, flags: int) -> None:
    written = str(Traceparent(trace_id, span_id, flags))
    assert len(written) == 55
    assert Traceparent.parse(written) == Traceparent(trace_id, span_id, flags)


WRONG = {
    "empty": "",
    "no trace": f"00-{'0' * 32}-{SPAN}-01",
    "no span": f"00-{TRACE}-{'0' * 16}-01",
    "capitals": VALID.upper(),
    "version ff": f"ff{VALID[2:]}",
    "a later version": f"01{VALID[2:]}",
    "a later version with more": f"01{VALID[2:]}-more",
    "more": f"{VALID}-more",
    "a dash more": f"{VALID}-",
    "a space before": f" {VALID}",
    "a line end": f"{VALID}\n",
    "too short": VALID[:-1],
    "another dash": VALID.replace("-", "_"),
    "no hex": VALID.replace("f", "g"),
    "digits of another script": VALID.replace("0", "٠"),
    "two in one": f"{VALID},{VALID}",
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_a_wrong_traceparent_is_none(text: str) -> None:
    assert Traceparent.parse(text) is None
    assert read_traceparent([text]) is None


@given(st.text(max_size=60))
def test_any_text_is_read_without_an_error(text: str) -> None:
    assert read_traceparent([text]) in {None, text}


@pytest.mark.parametrize(
    ("values", "read"),
    [([], None), ([VALID], VALID), ([VALID, VALID], None), ([VALID.encode()], None)],
    ids=["none", "one", "several", "binary"],
)
def test_a_call_has_one_traceparent_or_none(values: Sequence[str | bytes], read: str | None) -> None:
    assert read_traceparent(values) == read


@pytest.mark.parametrize(
    ("own", "traceparent", "sent"),
    [
        ({}, None, []),
        ({}, VALID, [VALID]),
        ({"X-Own": "1"}, VALID, [VALID]),
        ({"TraceParent": "own"}, VALID, ["own"]),
    ],
)
def test_a_receiver_gets_the_traceparent_unless_its_webhook_has_one(
    own: dict[str, str], traceparent: str | None, sent: list[str]
) -> None:
    envelope = Envelope(UUID(int=1), 1, "job.completed", 1, traceparent)
    headers = request_headers(envelope, own, [SigningKey("secret")], 1_700_000_000, b"{}")
    assert [value for name, value in headers.items() if name.lower() == "traceparent"] == sent

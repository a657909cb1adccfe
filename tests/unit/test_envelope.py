"""The body that receivers get, and what is accepted as its data."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook_grpc.domain.envelope import DATA_DEPTH_MAX, render_body, why_not_json

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab", max_size=3), inner, max_size=4),
    max_leaves=10,
)


def test_the_body_is_that_of_the_specification() -> None:
    data = b'{"job_id":"job-abc123","status":"completed","duration":3600}'
    body, data_start = render_body("job.completed", 1706256000, data)
    assert body == b'{"event":"job.completed","timestamp":1706256000,"data":' + data + b"}"
    assert body[data_start:-1] == data


@pytest.mark.parametrize(
    "data",
    [
        b'{ "a":1,\n "a":2 }',  # spaces, a line feed and a repeated key stay
        b'{"n":1.0,"big":123456789012345678901234567890,"e":1E2}',
        '{"n":"Zoë 🎉","nul":"\\u0000"}'.encode(),
        b" [] ",
        b"null",
        b'{"n":[1e400,-1E+131071,"1e400"]}',  # RFC 8259 knows no largest number
    ],
)
def test_the_producers_bytes_stay_as_they_are(data: bytes) -> None:
    assert why_not_json(data) is None
    body, data_start = render_body("a", 0, data)
    assert body[data_start:-1] == data
    assert json.loads(body) == {"event": "a", "timestamp": 0, "data": json.loads(data)}


@given(json_values, st.sampled_from([None, 1, 2]), st.booleans())
def test_valid_json_is_accepted_and_the_body_is_valid_json_around_it(
    value: object,
    indent: int | None,
    escape: bool,
) -> None:
    data = json.dumps(value, indent=indent, ensure_ascii=escape).encode()
    assert why_not_json(data) is None
    body, data_start = render_body("job.completed", -1, data)
    assert json.loads(body) == {"event": "job.completed", "timestamp": -1, "data": value}
    assert body[data_start:-1] == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"{",
        b"{}}",
        b"{} {}",
        b"[1,]",
        b'{"a":1,}',
        b"{'a':1}",
        b"{a:1}",
        b"01",
        b"[1e400,01]",
        b"[1e400,NaN]",
        b'[1e400,"\\ud800"]',
        b"+1",
        b".5",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"True",
        b'"a\nb"',
        b'"\x00"',
        b'"\\x41"',
        b"// comment\n1",
        b"\xef\xbb\xbf{}",  # byte order mark
        b"\xff",
        b'"\xed\xa0\x80"',  # a surrogate in UTF-8
        b'"\\ud800"',  # half a pair: RFC 8259 lets it pass, many receivers do not
    ],
)
def test_anything_else_is_refused_because_receivers_could_not_read_it(data: bytes) -> None:
    problem = why_not_json(data)
    assert problem is not None
    assert problem.startswith("is not valid JSON: ")


@pytest.mark.parametrize(
    ("data", "position"),
    [
        (b"[1,x]", 3),
        ('"éé" x'.encode(), 7),
        ('{"ключ":1,}'.encode(), 13),
    ],
)
def test_the_byte_at_which_it_goes_wrong_is_named(data: bytes, position: int) -> None:
    problem = why_not_json(data)
    assert problem is not None
    assert problem.endswith(f" at byte {position}")


@pytest.mark.parametrize(
    ("data", "accepted"),
    [
        (b"[" * DATA_DEPTH_MAX + b"]" * DATA_DEPTH_MAX, True),
        (b"[" * (DATA_DEPTH_MAX + 1) + b"]" * (DATA_DEPTH_MAX + 1), False),
        (b'{"a":' * DATA_DEPTH_MAX + b"1" + b"}" * DATA_DEPTH_MAX, True),
        (b'{"a":' * (DATA_DEPTH_MAX + 1) + b"1" + b"}" * (DATA_DEPTH_MAX + 1), False),
        (b'[{"a":' * 33 + b"1" + b"}]" * 33, False),
        (b"[" * 100_000 + b"]" * 100_000, False),
        (b"[[]," + b"[" * (DATA_DEPTH_MAX - 1) + b"]" * DATA_DEPTH_MAX, True),
        (b"[[]," + b"[" * DATA_DEPTH_MAX + b"]" * (DATA_DEPTH_MAX + 1), False),
        (b"[" + b"[]," * 1000 + b"{}]", True),  # many brackets, two levels
        (b'["' + b"[" * 1000 + b'"]', True),  # brackets in a string are text
        (b'["\\"' + b"[" * 1000 + b'"]', True),  # a quote that is escaped does not end the string
        (b'["\\\\",' + b"[" * DATA_DEPTH_MAX + b"]" * DATA_DEPTH_MAX + b"]", False),  # a backslash that is escaped does
        (b'{"' + b"{" * 1000 + b'":{}}', True),
    ],
)
def test_data_may_be_nested_64_levels_deep(data: bytes, *, accepted: bool) -> None:
    assert (why_not_json(data) is None) is accepted

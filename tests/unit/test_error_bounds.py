"""An error is cut to what fits where it is sent, and says so."""

from __future__ import annotations

import string
from urllib.parse import quote

import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from webhook_grpc.domain.error_bounds import ErrorBounds
from webhook_grpc.domain.errors import Conflict, InvalidArgument, Violation, WebhookError
from webhook_grpc.server.grpc.error_details import BOUNDS, details_of, message_of

BOUNDED = ErrorBounds(violations_bytes_max=100, part_bytes_max=20, message_bytes_max=60, escaped_bytes=3)
VIOLATIONS = st.lists(st.builds(Violation, st.text(max_size=50), st.text(max_size=50)), min_size=1, max_size=20)


def test_an_error_that_fits_is_not_changed() -> None:
    error = InvalidArgument([Violation("name", "must be set"), Violation("", "and no more")])
    assert BOUNDED.violations(error) == error.violations
    assert BOUNDED.message(error) == error.message == "name: must be set; and no more"


def test_what_is_left_out_is_counted() -> None:
    error = InvalidArgument([Violation(f"field[{index:02}]", "x" * 30) for index in range(10)])

    violations = BOUNDED.violations(error)

    assert violations[0] == Violation("field[00]", "x" * 17 + "…")
    assert [violation.field for violation in violations] == ["field[00]", "field[01]", "field[02]", ""]
    assert violations[-1].description == "and 7 more"


@pytest.mark.parametrize("error", [Conflict("R", "é" * 1000), InvalidArgument([Violation("f", "é" * 1000)])])
def test_a_message_is_measured_as_it_is_sent(error: WebhookError) -> None:
    assert len(quote(BOUNDED.message(error), safe=string.printable)) <= 60
    assert BOUNDED.message(error).endswith("…")


def test_other_errors_have_no_violations() -> None:
    assert BOUNDED.violations(Conflict("REASON", "message")) == ()


@given(VIOLATIONS)
def test_the_bounds_hold_for_any_violations(violations: list[Violation]) -> None:
    error = InvalidArgument(violations)

    kept = BOUNDED.violations(error)

    assert kept, "at least the first one"
    sizes = [len(v.field.encode()) + len(v.description.encode()) for v in kept]
    assert sum(sizes[:-1]) <= 100 or len(kept) <= 2
    assert all(len(part.encode()) <= 20 for v in kept[:-1] for part in (v.field, v.description))
    assert len(BOUNDED.message(error).encode()) <= 60


def test_the_status_of_grpc_carries_the_bounded_violations_and_the_same_message() -> None:
    error = InvalidArgument([Violation(f"field[{index}]", "x" * 400) for index in range(100)])

    status = status_pb2.Status.FromString(details_of(error))
    bad_request = error_details_pb2.BadRequest()
    status.details[1].Unpack(bad_request)

    assert status.message == message_of(error)
    assert [v.field for v in bad_request.field_violations] == [v.field for v in BOUNDS.violations(error)]
    assert len(bad_request.SerializeToString()) < 4096

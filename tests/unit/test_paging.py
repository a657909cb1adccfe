"""Page tokens: they go on where the page before ended, in the same list only."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from webhook.v1 import service_pb2, webhook_pb2

from webhook_grpc.api.messages.paging import DEFAULT_PAGE_SIZE, PAGE_SIZE_MAX, PageToken, micros_of, page_size, time_of
from webhook_grpc.domain.errors import InvalidArgument, Violation
from webhook_grpc.domain.ids import INT64_MAX

ACTIVE = webhook_pb2.WEBHOOK_STATUS_ACTIVE
PAUSED = webhook_pb2.WEBHOOK_STATUS_PAUSED


def webhooks_request(
    customer_id: int = 42, page_token: str = "", size: int = 10, *statuses: webhook_pb2.WebhookStatus.ValueType
) -> service_pb2.ListWebhooksRequest:
    """A list with one more argument than its customer."""
    return service_pb2.ListWebhooksRequest(
        customer_id=customer_id, page_token=page_token, page_size=size, statuses=statuses or [ACTIVE]
    )


def deliveries_request(page_token: str = "") -> service_pb2.ListDeliveriesRequest:
    """A list whose key has three parts."""
    return service_pb2.ListDeliveriesRequest(customer_id=42, page_token=page_token)


def assert_refused(request: Message, key_format: str = ">q") -> None:
    """The request's token is not one of this list."""
    with pytest.raises(InvalidArgument) as raised:
        PageToken(request, key_format).read()
    assert raised.value.reason == "PAGE_TOKEN_INVALID"
    assert [violation.field for violation in raised.value.violations] == ["page_token"]


@pytest.mark.parametrize(
    ("requested", "size"),
    [(0, DEFAULT_PAGE_SIZE), (1, 1), (50, 50), (1000, 1000), (1001, PAGE_SIZE_MAX), (2**31 - 1, PAGE_SIZE_MAX)],
)
def test_a_page_has_as_many_as_are_asked_for_within_limits(requested: int, size: int) -> None:
    violations: list[Violation] = []
    assert page_size(requested, violations) == size
    assert violations == []


@pytest.mark.parametrize("requested", [-1, -(2**31)])
def test_a_page_can_not_have_fewer_than_none(requested: int) -> None:
    violations: list[Violation] = []
    page_size(requested, violations)
    assert violations == [Violation("page_size", "must not be negative")]


def test_without_a_token_a_list_begins_at_its_beginning() -> None:
    assert PageToken(webhooks_request(), ">q").read() is None


@given(st.integers(min_value=-INT64_MAX - 1, max_value=INT64_MAX))
def test_a_list_goes_on_after_the_key_where_it_ended(key: int) -> None:
    token = PageToken(webhooks_request(), ">q").after(key)
    assert PageToken(webhooks_request(page_token=token), ">q").read() == (key,)


@given(st.integers(0, INT64_MAX), st.binary(min_size=16, max_size=16), st.integers(0, INT64_MAX))
def test_a_key_of_several_parts_reads_back(seq: int, event_id: bytes, webhook_id: int) -> None:
    token = PageToken(deliveries_request(), ">q16sq").after(seq, event_id, webhook_id)
    assert PageToken(deliveries_request(token), ">q16sq").read() == (seq, event_id, webhook_id)


def test_the_size_may_change_from_page_to_page() -> None:
    token = PageToken(webhooks_request(size=10), ">q").after(7)
    assert PageToken(webhooks_request(page_token=token, size=500), ">q").read() == (7,)


def test_the_second_page_gives_the_same_token_as_the_first_would_have() -> None:
    first = PageToken(webhooks_request(), ">q")
    second = PageToken(webhooks_request(page_token=first.after(7)), ">q")
    assert second.after(3) == first.after(3)


def test_a_token_is_of_the_lists_other_arguments() -> None:
    token = PageToken(webhooks_request(), ">q").after(7)
    assert_refused(webhooks_request(43, token))
    assert_refused(webhooks_request(0, token))
    assert_refused(webhooks_request(42, token, 10, PAUSED))
    assert_refused(webhooks_request(42, token, 10, ACTIVE, PAUSED))


def test_a_token_of_one_list_is_none_of_another() -> None:
    webhooks = service_pb2.ListWebhooksRequest(customer_id=42)
    attempts = service_pb2.ListDeliveryAttemptsRequest(customer_id=42)
    attempts.page_token = PageToken(webhooks, ">q").after(7)
    assert_refused(attempts)


def test_reading_leaves_the_request_as_it_was() -> None:
    token = PageToken(webhooks_request(), ">q").after(7)
    request = webhooks_request(page_token=token)
    before = request.SerializeToString(deterministic=True)
    PageToken(request, ">q").read()
    assert request.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(
    "text", ["x", "xx", "!!!!", "AAAA", "é", "\u0661", "=", "====", "A" * 10_000, " ", "\0", "../../etc/passwd"]
)
def test_a_token_that_was_never_given_is_refused(text: str) -> None:
    assert_refused(webhooks_request(page_token=text))


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_no_text_that_was_never_given_is_an_error_of_ours(text: str) -> None:
    assert_refused(webhooks_request(page_token=text))


@given(st.integers(0, INT64_MAX), st.integers(0, 7), st.integers(1, 255))
def test_a_token_with_another_binding_is_refused(key: int, place: int, change: int) -> None:
    packed = bytearray(base64.urlsafe_b64decode(PageToken(webhooks_request(), ">q").after(key) + "=="))
    packed[place] ^= change
    assert_refused(webhooks_request(page_token=base64.urlsafe_b64encode(packed).decode()))


@given(st.integers(0, INT64_MAX), st.integers(min_value=1, max_value=21))
def test_a_token_can_not_be_cut_off(key: int, length: int) -> None:
    token = PageToken(webhooks_request(), ">q").after(key)
    assert length < len(token)
    assert_refused(webhooks_request(page_token=token[:length]))


def test_a_token_needs_no_escaping_in_a_url() -> None:
    tokens = [PageToken(webhooks_request(customer), ">q").after(-1) for customer in range(50)]
    assert not set("".join(tokens)) & set("+/=")


@given(st.datetimes(datetime(2000, 1, 1), datetime(9999, 12, 30), timezones=st.just(UTC)))  # noqa: DTZ001 - UTC by `timezones`
def test_a_token_keeps_a_time_to_the_microsecond(moment: datetime) -> None:
    assert time_of(micros_of(moment)) == moment


@pytest.mark.parametrize("micros", [-(2**63), -1, 0, 946_684_799_999_999, 253_402_300_800_000_001, 2**63 - 1])
def test_a_time_at_which_nothing_can_have_happened_is_no_part_of_a_token(micros: int) -> None:
    with pytest.raises(InvalidArgument) as caught:
        time_of(micros)
    assert caught.value.reason == "PAGE_TOKEN_INVALID"

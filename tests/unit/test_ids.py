"""Ids as text: one canonical form, sorted as the ids themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook_grpc.domain.ids import (
    INT64_MAX,
    SHARD_COUNT,
    delivery_id_text,
    earliest_id,
    event_id_text,
    first_event_id,
    latest_id,
    parse_delivery_id,
    parse_event_id,
    shard_of,
    stored_between,
)

EVENT_ID = UUID("0198c0de-0000-7000-8000-00000000002a")
EVENT_TEXT = "evt_01k30dw000e00800000000001a"
DELIVERY_TEXT = "dlv_01k30dw000e00800000000001a_42"

uuids = st.uuids()
webhook_ids = st.integers(min_value=1, max_value=INT64_MAX)


def test_an_event_id_is_crockford_base_32_of_its_uuid() -> None:
    assert event_id_text(EVENT_ID) == EVENT_TEXT


def test_a_delivery_id_is_made_of_its_event_and_its_webhook() -> None:
    assert delivery_id_text(EVENT_ID, 42) == DELIVERY_TEXT


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "evt_00000000000000000000000000"),
        (31, "evt_0000000000000000000000000z"),
        (32, "evt_00000000000000000000000010"),
        (2**128 - 1, "evt_7zzzzzzzzzzzzzzzzzzzzzzzzz"),
    ],
)
def test_the_ends_of_the_range_have_26_characters_too(number: int, text: str) -> None:
    assert event_id_text(UUID(int=number)) == text
    assert parse_event_id(text) == UUID(int=number)


@given(uuids)
def test_an_event_id_reads_back(event_id: UUID) -> None:
    assert parse_event_id(event_id_text(event_id)) == event_id


@given(uuids, webhook_ids)
def test_a_delivery_id_reads_back(event_id: UUID, webhook_id: int) -> None:
    assert parse_delivery_id(delivery_id_text(event_id, webhook_id)) == (event_id, webhook_id)


@given(uuids, uuids)
def test_texts_sort_as_the_ids_do(one: UUID, other: UUID) -> None:
    assert (event_id_text(one) < event_id_text(other)) == (one < other)


@given(uuids, webhook_ids)
def test_no_id_has_a_dot_because_standard_webhooks_joins_with_dots(event_id: UUID, webhook_id: int) -> None:
    assert "." not in event_id_text(event_id) + delivery_id_text(event_id, webhook_id)


@given(st.from_regex(r"evt_[0-9a-z]{26}", fullmatch=True) | st.text())
def test_whatever_reads_as_an_event_id_is_its_one_form(text: str) -> None:
    event_id = parse_event_id(text)
    assert event_id is None or event_id_text(event_id) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "evt_",
        EVENT_TEXT.upper(),
        EVENT_TEXT.replace("evt_", "EVT_"),
        EVENT_TEXT.replace("evt_", "dlv_"),
        EVENT_TEXT.removeprefix("evt_"),
        EVENT_TEXT[:-1],
        EVENT_TEXT + "0",
        EVENT_TEXT + "\n",
        " " + EVENT_TEXT,
        EVENT_TEXT[:-1] + "i",  # i, l, o and u are not in the alphabet
        EVENT_TEXT[:-1] + "l",
        EVENT_TEXT[:-1] + "o",
        EVENT_TEXT[:-1] + "u",
        EVENT_TEXT[:-1] + "٣",
        "evt_8zzzzzzzzzzzzzzzzzzzzzzzzz",  # 2**128 and more
        str(EVENT_ID),
    ],
)
def test_other_forms_are_no_event_ids(text: str) -> None:
    assert parse_event_id(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        EVENT_TEXT,
        DELIVERY_TEXT.replace("dlv_", "evt_"),
        DELIVERY_TEXT.removesuffix("_42"),
        DELIVERY_TEXT.removesuffix("42"),
        DELIVERY_TEXT.replace("_42", "_0"),
        DELIVERY_TEXT.replace("_42", "_042"),
        DELIVERY_TEXT.replace("_42", "_+42"),
        DELIVERY_TEXT.replace("_42", "_-42"),
        DELIVERY_TEXT.replace("_42", "_4_2"),
        DELIVERY_TEXT.replace("_42", "_42 "),
        DELIVERY_TEXT.replace("_42", "_42\n"),
        DELIVERY_TEXT.replace("_42", "_٤٢"),
        DELIVERY_TEXT.replace("_42", f"_{INT64_MAX + 1}"),
        DELIVERY_TEXT.replace("_42", "_99999999999999999999"),
        DELIVERY_TEXT.upper(),
    ],
)
def test_other_forms_are_no_delivery_ids(text: str) -> None:
    assert parse_delivery_id(text) is None


def test_the_greatest_webhook_id_has_a_delivery_id() -> None:
    text = DELIVERY_TEXT.replace("_42", "_9223372036854775807")
    assert parse_delivery_id(text) == (EVENT_ID, INT64_MAX)


@pytest.mark.parametrize(("webhook_id", "shard"), [(1, 1), (63, 63), (64, 0), (65, 1), (INT64_MAX, 63)])
def test_webhooks_are_dealt_out_to_64_shards(webhook_id: int, shard: int) -> None:
    assert SHARD_COUNT == 64
    assert shard_of(webhook_id) == shard


@given(
    st.datetimes(datetime(1970, 2, 1), datetime(9998, 12, 30), timezones=st.just(UTC)),  # noqa: DTZ001 - UTC by `timezones`
    st.floats(-599, 599),
)
def test_the_time_of_an_event_and_its_id_lead_to_each_other(stored_at: datetime, seconds_off: float) -> None:
    """The clock of the process that makes the id may be a little off."""
    event_id = first_event_id(stored_at + timedelta(seconds=seconds_off))
    first, last = stored_between(event_id)
    assert first <= stored_at <= last
    assert earliest_id(stored_at) <= event_id
    assert event_id < latest_id(stored_at + timedelta(microseconds=1))


@given(uuids)
def test_an_invented_id_leads_to_some_time(event_id: UUID) -> None:
    """Its first 48 bits may mean the year 10,889, which Python's datetime lacks."""
    first, last = stored_between(event_id)
    assert first < last


def test_all_of_time_has_ids() -> None:
    assert earliest_id(datetime(1970, 1, 1, tzinfo=UTC)) == UUID(int=0)
    assert earliest_id(datetime(1969, 1, 1, tzinfo=UTC)) == UUID(int=0)
    assert latest_id(datetime(9999, 12, 31, tzinfo=UTC)) > EVENT_ID
    stored_between(UUID(int=2**128 - 1))

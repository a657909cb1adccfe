"""Large requests are judged by their encoding before they are parsed, and parsed in pieces."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from hypothesis import given
from hypothesis import strategies as st
from webhook.v1 import service_pb2 as pb
from webhook.v1.event_pb2 import Event
from webhook.v1.webhook_pb2 import Webhook

from webhook_grpc.api.messages import wire
from webhook_grpc.domain.errors import InvalidArgument


def field(number: int, content: bytes) -> bytes:
    """One field that has a length."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    encoded = b""
    while value > 0x7F:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def number_of(message: Any, name: str) -> int:
    return message.DESCRIPTOR.fields_by_name[name].number


def event_with(content: bytes) -> bytes:
    """A PublishEventRequest whose event has these fields, too."""
    event = Event(customer_id=1, event_type="job.completed").SerializeToString() + content
    return field(number_of(pb.PublishEventRequest, "event"), event)


async def reason_of(raw: bytes, request_type: Any) -> str:
    with pytest.raises(InvalidArgument) as refused:
        await wire.parse(raw, request_type)
    return refused.value.reason


async def test_a_message_of_millions_of_parts_is_refused_before_anything_of_it_is_built() -> None:
    attributes = b"".join(field(number_of(Event, "attributes"), field(1, b"%d" % n)) for n in range(5000))
    mask = field(number_of(pb.UpdateWebhookRequest, "update_mask"), field(1, b"") * 20_000)
    batch = field(number_of(pb.BatchPublishEventsRequest, "requests"), b"") * 20_000

    assert await reason_of(event_with(attributes), pb.PublishEventRequest) == "TOO_MANY_PARTS"
    assert await reason_of(mask, pb.UpdateWebhookRequest) == "TOO_MANY_PARTS"
    assert await reason_of(batch, pb.BatchPublishEventsRequest) == "TOO_MANY_PARTS"


@pytest.mark.parametrize(("paths", "is_refused"), [(999, False), (1000, True)])
async def test_a_field_may_have_a_thousand_parts_itself_included(paths: int, *, is_refused: bool) -> None:
    """Each of two bytes: so a field that is too small for too many parts need not be counted."""
    mask = field(number_of(pb.UpdateWebhookRequest, "update_mask"), field(1, b"") * paths)
    raw = pb.UpdateWebhookRequest(webhook=Webhook(url="x" * 20_000)).SerializeToString() + mask

    if is_refused:
        assert await reason_of(raw, pb.UpdateWebhookRequest) == "TOO_MANY_PARTS"
    else:
        assert len((await wire.parse(raw, pb.UpdateWebhookRequest)).update_mask.paths) == paths


def test_small_fields_are_read_together_up_to_the_size_of_a_small_message() -> None:
    """Whatever they hold: here each has 800 parts."""
    item = event_with(b"".join(field(number_of(Event, "attributes"), b"") for _ in range(790)))
    raw = field(number_of(pb.BatchPublishEventsRequest, "requests"), item) * 100
    pieces = list(wire._pieces(raw, pb.BatchPublishEventsRequest.DESCRIPTOR))  # pyright: ignore[reportPrivateUsage]

    assert b"".join(pieces) == raw
    assert wire.SMALL_BYTES / 2 < min(map(len, pieces[:-1])) <= max(map(len, pieces)) <= wire.SMALL_BYTES


@pytest.mark.parametrize("value", [b"\x08\x00", b"", b"\x1a\x00"])
@pytest.mark.parametrize("tag", [b"\x0a", b"\x8a\x00"])  # the second is as good, and longer
async def test_a_struct_of_more_values_than_data_can_have_is_refused(tag: bytes, value: bytes) -> None:
    values = (tag + varint(len(value)) + value) * 270_000
    struct = field(1, field(1, b"a") + field(2, field(6, values)))

    assert await reason_of(event_with(field(number_of(Event, "data"), struct)), pb.PublishEventRequest) == (
        "DATA_TOO_LARGE"
    )


async def test_the_most_values_that_data_can_have_are_read() -> None:
    values = [Value(number_value=1.0)] * 131_000  # "1," in JSON
    data = Struct(fields={"a": Value(list_value=ListValue(values=values))})
    request = pb.PublishEventRequest(event=Event(event_type="a.b", data=data))

    assert await wire.parse(request.SerializeToString(), pb.PublishEventRequest) == request


async def test_others_get_turns_while_a_batch_is_parsed() -> None:
    event = Event(event_type="a.b", data_json="x" * 10_000)
    request = pb.BatchPublishEventsRequest(requests=[pb.PublishEventRequest(event=event)] * 100)
    turns, parsed = 0, asyncio.ensure_future(wire.parse(request.SerializeToString(), pb.BatchPublishEventsRequest))
    while not parsed.done():
        turns += 1
        await asyncio.sleep(0)

    assert parsed.result() == request
    assert turns > 50, "1 MB in pieces of 16 KiB"


@pytest.mark.parametrize("raw", [b"\x0a\xff\xff\x7f" + b"x" * 20_000, b"\x0b" + b"x" * 20_000, b"\xff" * 20_000])
async def test_what_is_no_message_is_refused_by_the_same_error_as_a_small_one(raw: bytes) -> None:
    with pytest.raises(DecodeError):
        await wire.parse(raw, pb.PublishEventRequest)


@given(st.lists(st.tuples(st.text(max_size=20), st.integers(0, 30_000)), max_size=30))
def test_a_message_in_pieces_is_the_same_message(events: list[tuple[str, int]]) -> None:
    request = pb.BatchPublishEventsRequest(customer_id=7)
    for text, size in events:
        request.requests.add(
            request_id=text, event=Event(event_type=text, data_json="y" * size, attributes={text: "v"})
        )
    raw = request.SerializeToString()

    assert asyncio.run(wire.parse(raw, pb.BatchPublishEventsRequest)) == request

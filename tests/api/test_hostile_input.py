"""Nothing that a caller can send is an error of ours: malformed, oversize, empty, extreme and random messages."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError
from webhook.v1 import service_pb2 as pb

from tests.api.asking import (
    INT64_MAX,
    METHODS,
    REFUSED,
    UNARY,
    UNTHOUGHT_OF,
    all_of,
    ask,
    code_of,
    furnish,
    refusal,
    request_type,
    valid_requests,
)
from tests.support import slowness
from tests.support.full import in_full
from tests.support.postgres import TestPostgres
from tests.support.service import Service
from webhook_grpc.api.messages.paging import PageToken
from webhook_grpc.api.methods import METHODS as ROWS

pytestmark = pytest.mark.asyncio(loop_scope="module")

MESSAGE_BYTES_MAX = 5 * 1024 * 1024
INVALID = grpc.StatusCode.INVALID_ARGUMENT
LISTS = ("ListWebhooks", "ListEvents", "ListDeliveries", "ListDeliveryAttempts", "ListReplays", "ListEventTypes")
BY_ANY_CUSTOMER = (*LISTS, "ListTokens", "ListAuditEntries", "WatchDeliveries")

# As they are made, as many as the tests make.
REPLAYS_STAY: dict[str, Any] = {"replay_poll_seconds": 60.0, "replays_per_customer_max": 1000}

Change = Callable[[Any], object]  # changes a valid request


@pytest.fixture(scope="module")
def shared_settings() -> Mapping[str, Any]:
    return {"webhooks_per_customer_max": 1000, **REPLAYS_STAY}


async def test_the_requests_that_the_tests_change_are_valid(service: Service, postgres: TestPostgres) -> None:
    """Otherwise a test could be refused for something else than what it changed."""
    for method in METHODS:
        postgres.forget()
        world = await furnish(service)
        code = await code_of(ask(service, method, valid_requests(world)[method]))
        expected = grpc.StatusCode.FAILED_PRECONDITION if method in REFUSED else grpc.StatusCode.OK
        assert code is expected, method


async def test_the_largest_ids_are_served(service: Service) -> None:
    webhook = await service.create_webhook("https://hooks.example.com/", customer_id=INT64_MAX)
    published = await service.publish(customer_id=INT64_MAX)

    assert webhook.customer_id == INT64_MAX
    assert published.delivery_count == 1
    for method in ("ListWebhooks", "ListEvents", "ListDeliveries"):
        request: Any = request_type(method)()
        request.customer_id = INT64_MAX
        assert str(INT64_MAX) in str(await ask(service, method, request))


@pytest.mark.parametrize("method", LISTS)
async def test_a_token_whose_key_was_tampered_with_is_refused_or_served(service: Service, method: str) -> None:
    """A token is not signed, so its key may hold any bytes: none may surprise us."""
    world = await furnish(service)
    await service.publish()
    await service.create_webhook("https://hooks.example.com/")
    request: Any = valid_requests(world)[method]
    request.ClearField("page_size")
    for name in ("statuses", "event_id", "event_types", "webhook_ids"):
        if name in request.DESCRIPTOR.fields_by_name:
            request.ClearField(name)
    request.page_size = 1
    token = _token_of(request)
    packed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    binding, key = packed[:8], packed[8:]

    for fill in (b"\x00", b"\xff", b"\x7f", b"\x80", b"\x01"):
        for length in (1, 2, 4, 8, len(key)):
            request.page_token = _page_token(binding, fill * length + key[length:])
            assert await code_of(ask(service, method, request)) not in UNTHOUGHT_OF, (fill, length)
    extremes = (b"\x7f" + b"\xff" * 7, b"\x80" + b"\x00" * 7, b"\x00" * 8)
    for number in extremes:
        request.page_token = _page_token(binding, number + key[8:])
        assert await code_of(ask(service, method, request)) not in UNTHOUGHT_OF, number


def _page_token(binding: bytes, key: bytes) -> str:
    return base64.urlsafe_b64encode(binding + key).decode().rstrip("=")


def _token_of(request: Any) -> str:
    """What the service would return, also for a list too short to have a second page."""
    if isinstance(request, pb.ListDeliveriesRequest):
        return PageToken(request, ">q16sq").after(1_700_000_000_000_000, b"\1" * 16, 7)
    if isinstance(request, pb.ListEventTypesRequest):
        return PageToken(request, "128s").after(b"job.completed")
    if isinstance(request, pb.ListDeliveryAttemptsRequest):
        return PageToken(request, ">qqq").after(1_700_000_000_000_000, 7, 7)
    if isinstance(request, pb.ListEventsRequest):
        return PageToken(request, ">16s").after(b"\1" * 16)
    return PageToken(request, ">q").after(7)


# --- bytes -----------------------------------------------------------------------------------------------------------

MALFORMED = {
    "a varint that does not end": b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    "a field that is longer than the message": b"\x0a\xff\x01a",
    "field number 0": b"\x00\x01",
    "a group that does not end": b"\x0b",
    "an end of a group without its start": b"\x0c",
    "wire type 7": b"\x0f\x00",
    "one byte": b"\xff",
    "JSON": b'{"customer_id": 42}',
    "groups nested too deep": b"\x0b" * 10_000,
}


async def test_bytes_that_are_no_message_are_refused(service: Service) -> None:
    for method in METHODS:
        for name, raw in MALFORMED.items():
            with pytest.raises(DecodeError):
                request_type(method).FromString(raw)
            refused = await refusal(ask(service, method, raw))
            assert refused.code is INVALID, (method, name)
            assert refused.reason == "FIELD_INVALID"
            assert refused.fields == [""], "no field can be named"


async def test_text_that_is_not_utf8_is_refused(service: Service) -> None:
    tried = 0
    for method in METHODS:
        for text in (b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"):  # the second: a lone surrogate
            for field in _string_fields(method):
                raw = bytes([field.number << 3 | 2, len(text)]) + text
                refused = await refusal(ask(service, method, raw))
                assert refused.code is INVALID, field.full_name
                assert refused.reason == "FIELD_INVALID"
                tried += 1
    assert tried > 40


def _string_fields(method: str) -> list[Any]:
    return [field for field in request_type(method).DESCRIPTOR.fields if field.type == FieldDescriptor.TYPE_STRING]


async def test_an_empty_request_is_served_or_refused_with_reasons(service: Service) -> None:
    for method in METHODS:
        if method in BY_ANY_CUSTOMER:
            assert await code_of(ask(service, method, b"")) is grpc.StatusCode.OK, method
            continue
        refused = await refusal(ask(service, method, b""))
        assert refused.code is INVALID, method
        assert refused.reason == "FIELD_INVALID"
        assert refused.fields


async def test_a_message_beyond_5_mib_is_refused(service: Service) -> None:
    requests = valid_requests(await furnish(service))
    for method in ("GetEvent", "BatchPublishEvents", "WatchDeliveries"):
        raw = padded(requests[method].SerializeToString(), MESSAGE_BYTES_MAX + 1)
        assert await code_of(ask(service, method, raw)) is grpc.StatusCode.RESOURCE_EXHAUSTED, method


async def test_a_message_as_large_as_its_method_takes_is_served_and_a_larger_one_refused(service: Service) -> None:
    requests = valid_requests(await furnish(service))
    for method in (row for row in ROWS if row.name in {"GetEvent", "BatchPublishEvents"}):
        size, raw = method.request_bytes_max, requests[method.name].SerializeToString()
        assert await code_of(ask(service, method.name, padded(raw, size))) is grpc.StatusCode.OK, method.name
    refused = await refusal(ask(service, "GetEvent", padded(requests["GetEvent"].SerializeToString(), 128 * 1024 + 1)))

    assert (refused.code, refused.reason) == (INVALID, "BODY_TOO_LARGE")


def padded(request: bytes, size_bytes: int) -> bytes:
    """A request with an unknown field that makes it so long."""
    head = b"\xfa\x7f"  # field 2047, length-delimited
    rest = size_bytes - len(request) - len(head) - 4
    length = bytes([rest & 0x7F | 0x80, rest >> 7 & 0x7F | 0x80, rest >> 14 & 0x7F | 0x80, rest >> 21])
    message = request + head + length + b"\0" * rest
    assert len(message) == size_bytes
    return message


async def test_a_message_is_measured_after_it_was_unpacked(service: Service) -> None:
    """A few KiB of gzip must not become 64 MiB in our memory."""
    channel: Any = service.channel
    call = channel.unary_unary("/webhook.v1.WebhookService/ListWebhooks")(
        padded(b"", 64 * 1024 * 1024), compression=grpc.Compression.Gzip, timeout=slowness.scaled(20)
    )

    assert await code_of(call) is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_method_that_does_not_exist_is_unimplemented(service: Service) -> None:
    channel: Any = service.channel

    code = await code_of(
        channel.unary_unary("/webhook.v1.WebhookService/DropEverything")(b"", timeout=slowness.scaled(20))
    )

    assert code is grpc.StatusCode.UNIMPLEMENTED


# --- every field, and many at once -----------------------------------------------------------------------------------

TEXTS = [
    *("", " ", "\0", "a\0b", "\x01", "\x1b[31m", "\x7f", "\r\n", "\u202e", "\ufffe", "\U0010ffff", "é", "%s%n"),
    *(
        "'; DROP TABLE webhooks; --",
        "\\",
        '"',
        "*",
        "..",
        "${jndi:ldap://x}",
        "x" * 129,
        "é" * 100_000,
        "-1",
        "9" * 400,
        "null",
        "\ud7ff\ue000",
    ),
]
INT32S = [0, -1, 1, 2**31 - 1, -(2**31)]
INT64S = [*INT32S, 2**53 + 1, INT64_MAX, -(2**63), 253_402_300_799, 253_402_300_800, 315_576_000_001]
DOUBLES = [0.0, -0.0, float("nan"), float("inf"), float("-inf"), 1e308, 5e-324, 2.0**53]
VALUES: dict[int, list[Any]] = {
    FieldDescriptor.CPPTYPE_STRING: TEXTS,
    FieldDescriptor.CPPTYPE_INT32: INT32S,
    FieldDescriptor.CPPTYPE_INT64: INT64S,
    FieldDescriptor.CPPTYPE_ENUM: [0, 1, 2, 3, 99, -1, 2**31 - 1],
    FieldDescriptor.CPPTYPE_BOOL: [False, True],
    FieldDescriptor.CPPTYPE_DOUBLE: DOUBLES,
}
BYTES = [b"", b"\0", b"\xff" * 40, b"\x01" * 200, b"x" * 100_000]
DEPTH_MAX = 7  # of messages in messages; google.protobuf.Value holds itself


def edits(descriptor: Any, depth: int = 0) -> Iterator[tuple[str, Change]]:
    """For each field of a message and of those in it, each value that is likely to be mishandled."""
    if depth > DEPTH_MAX:
        return
    for field in descriptor.fields:
        for name, change in _field_edits(field, depth):
            yield f"{field.name}{name}", change


def _field_edits(field: Any, depth: int) -> Iterator[tuple[str, Change]]:
    yield " cleared", lambda message: message.ClearField(field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        yield from _map_edits(field, depth)
    elif field.message_type is not None:
        yield from _message_edits(field, depth)
    else:
        for value in BYTES if field.type == FieldDescriptor.TYPE_BYTES else VALUES[field.cpp_type]:
            yield f"={value!r:.20}", lambda message, v=value: _set(message, field, v)


def _set(message: Any, field: Any, value: object) -> None:
    if field.is_repeated:
        getattr(message, field.name).append(value)
    else:
        setattr(message, field.name, value)


def _message_edits(field: Any, depth: int) -> Iterator[tuple[str, Change]]:
    assert field.message_type is not None

    def inside(message: Any) -> Any:
        child = getattr(message, field.name)
        if field.is_repeated:
            return child.add()
        child.SetInParent()
        return child

    yield " present", inside
    for name, change in edits(field.message_type, depth + 1):
        yield f".{name}", lambda message, c=change: c(inside(message))


def _map_edits(field: Any, depth: int) -> Iterator[tuple[str, Change]]:
    assert field.message_type is not None
    value = field.message_type.fields_by_name["value"]
    if value.message_type is not None:
        for name, change in edits(value.message_type, depth + 1):
            yield f"[k].{name}", lambda message, c=change: c(getattr(message, field.name)["k"])
        return
    for text in TEXTS:
        yield f"[{text!r:.20}]", lambda message, t=text: getattr(message, field.name).update({t: "v"})
        yield f"[k]={text!r:.20}", lambda message, t=text: getattr(message, field.name).update({"k": t})


@pytest.mark.parametrize("method", METHODS)
async def test_no_value_of_any_field_is_an_error_of_ours(service: Service, method: str) -> None:
    world = await furnish(service)
    changes = list(edits(request_type(method).DESCRIPTOR))
    changes_max = in_full(250, short=50)
    if len(changes) > changes_max:  # google.protobuf.Struct: values in values
        changes = random.Random(method).sample(changes, changes_max)

    async def tried(name: str, change: Change) -> tuple[str, grpc.StatusCode]:
        request = valid_requests(world)[method]
        change(request)
        return name, await code_of(ask(service, method, request))

    answers = await all_of([tried(name, change) for name, change in changes])

    assert len(answers) >= 10
    assert [name for name, code in answers if code in UNTHOUGHT_OF] == []


@pytest.mark.parametrize("method", UNARY)
async def test_nul_in_any_text_that_the_service_reads_is_refused(service: Service, method: str) -> None:
    """Postgres can't store it. What the service assigns itself is not read."""
    world = await furnish(service)
    not_read = ["status_reason", "secret_hint", "bearer_token", ".etag", "event_id", "event.publisher", "requests."]
    if method == "UpdateWebhook":
        not_read.append("webhook.secret")  # `*` means what can be changed
    changes = [
        (name, change)
        for name, change in edits(request_type(method).DESCRIPTOR)
        if r"\x00" in name and not any(part in name for part in not_read) and ".data." not in name
    ]
    codes = {grpc.StatusCode.INVALID_ARGUMENT}
    if method == "DeleteWebhook":
        codes.add(grpc.StatusCode.ABORTED)  # no etag is like that

    for name, change in changes:
        request: Any = valid_requests(world)[method]
        if isinstance(request, pb.UpdateWebhookRequest | pb.UpdateEventTypeRequest) and not name.startswith(
            "update_mask"
        ):
            request.update_mask.paths[:] = ["*"]
        change(request)
        assert await code_of(ask(service, method, request)) in codes, name


@pytest.mark.parametrize("method", UNARY)
async def test_no_mutation_of_a_valid_message_is_an_error_of_ours(service: Service, method: str) -> None:
    world = await furnish(service)
    chance = random.Random(f"mutations of {method}")
    changes = [change for _, change in edits(request_type(method).DESCRIPTOR, DEPTH_MAX - 4)]

    def mutation() -> bytes:
        request = valid_requests(world)[method]
        for change in chance.choices(changes, k=chance.randint(0, 4)):
            change(request)
        raw = bytearray(request.SerializeToString())
        for _ in range(chance.randint(0, 3)):
            _mutate(raw, chance)
        return bytes(raw)

    raws = [mutation() for _ in range(in_full(100, short=40))]
    codes = await all_of([code_of(ask(service, method, raw)) for raw in raws])

    bad = [raw[:200] for raw, code in zip(raws, codes, strict=True) if code in UNTHOUGHT_OF]
    assert bad == []
    assert len(set(codes)) > 1, "some are refused, some are served"


def _mutate(raw: bytearray, chance: random.Random) -> None:
    """Flips, cuts, inserts or doubles some bytes."""
    at = chance.randrange(len(raw) + 1)
    match chance.randrange(5):
        case 0 if at < len(raw):
            raw[at] ^= 1 << chance.randrange(8)
        case 1:
            del raw[at : at + chance.randint(1, 8)]
        case 2:
            raw[at:at] = chance.randbytes(chance.randint(1, 8))
        case 3:
            raw[at:at] = raw[at : at + chance.randint(1, 40)]
        case _:
            del raw[at:]

"""Inputs of the kinds A (access and size), J (JSON and numbers), K (secrets) and L (leaks) of the list of threats.

Each function sends its inputs once, checks what comes back, and says in some words what came of it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import aiohttp
import grpc
from webhook.v1 import event_pb2, service_pb2, webhook_pb2

from webhook_grpc.api.methods import METHODS, Method

from .target import HONEST, HOSTILE, METHOD, Target, bearer

CALL_SECONDS_MAX: Final = 30.0
CANARY: Final = "CANARY-that-nothing-may-show"
LEVELS: Final = 3  # of messages in a request
# What may come of a request that is wrong in some way: that it is judged. A bug would be INTERNAL, UNKNOWN or 500.
JUDGED: Final = {
    *("OK", "INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"),
    *("200", "201", "400", "404", "413"),
}
_PUBLISH, _BATCH, _EVENT = service_pb2.PublishEventRequest, service_pb2.BatchPublishEventsRequest, event_pb2.Event

Attack = Callable[[Target, float], Awaitable[str]]


class Broken(Exception):
    """The service did what it must not do."""


async def bad_credentials(target: Target, scale: float) -> str:
    """A: every method with credentials that are none, with a body that is no message."""
    bad: Sequence[Sequence[tuple[str, str | bytes]]] = (
        (),
        bearer("unknown"),
        (("authorization", f"Basic {HONEST}"),),
        (("authorization", "Bearer "),),
        (*bearer(HONEST), *bearer(HOSTILE)),
    )
    tried = [(method.name, metadata) for metadata in bad for method in METHODS]
    tried = tried[: max(len(METHODS), round(len(tried) * scale))]
    codes = await asyncio.gather(*(_code(target, name, b"\xff" * 100, metadata) for name, metadata in tried))
    return _all_are(codes, {"UNAUTHENTICATED"})


async def others_objects(target: Target, scale: float) -> str:
    """A: ids of another customer's, and calls for another customer."""
    del scale
    async with target.stub() as stub:
        webhook = webhook_pb2.Webhook(customer_id=2, name="x", url="http://127.0.0.1:9999/", events=["job.completed"])
        made = await stub.CreateWebhook(service_pb2.CreateWebhookRequest(webhook=webhook), metadata=bearer(HONEST))
    found = _code_of(target, "GetWebhook", service_pb2.GetWebhookRequest(webhook_id=made.webhook_id))
    unknown = _code_of(target, "GetWebhook", service_pb2.GetWebhookRequest(webhook_id=2**62))
    named = _code_of(target, "GetWebhook", service_pb2.GetWebhookRequest(customer_id=2, webhook_id=made.webhook_id))
    async with target.stub() as stub:
        delete = service_pb2.DeleteWebhookRequest(webhook_id=made.webhook_id)
        codes = [await found, await unknown, await named]
        await stub.DeleteWebhook(delete, metadata=bearer(HONEST))
    return _all_are(codes, {"NOT_FOUND", "PERMISSION_DENIED"})


async def many_parts(target: Target, scale: float) -> str:
    """A: messages of millions of parts, and one of two thousand levels."""
    size = round(5_000_000 * scale)
    nulls = field_of(1, field_of(1, b"a") + field_of(2, field_of(6, field_of(1, b"\x08\x00") * (size // 4))))
    struct = _event(field_of(_number(_EVENT, "data"), nulls))
    attribute = field_of(_number(_EVENT, "attributes"), field_of(1, b"k"))
    items = field_of(1, field_of(1, b"a") + field_of(2, field_of(6, b"\x0a\x02\x08\x00" * 26_000)))
    item = field_of(_number(_PUBLISH, "event"), _event(field_of(_number(_EVENT, "data"), items)))
    deep = b"\x08\x00"
    for _ in range(2000):
        deep = field_of(6, field_of(1, deep))  # a list in a list
    deep = field_of(_number(_PUBLISH, "event"), _event(field_of(_number(_EVENT, "data"), field_of(1, deep))))
    mask = service_pb2.UpdateWebhookRequest
    lists = service_pb2.ListDeliveriesRequest
    inputs = [
        ("PublishEvent", field_of(_number(_PUBLISH, "event"), struct)),
        ("PublishEvent", field_of(_number(_PUBLISH, "event"), _event(attribute * (size // 12)))),
        ("PublishEvent", deep),
        ("BatchPublishEvents", field_of(_number(_BATCH, "requests"), b"") * (size // 2)),
        ("BatchPublishEvents", field_of(_number(_BATCH, "requests"), item) * round(40 * scale)),
        ("UpdateWebhook", field_of(_number(mask, "update_mask"), field_of(1, b"") * (size // 2))),
        ("ListDeliveries", field_of(_number(lists, "webhook_ids"), b"\x01" * size)),
        ("ListDeliveries", field_of(_number(lists, "event_types"), b"") * (size // 2)),
    ]
    codes = [await _code(target, method, raw, bearer(HOSTILE)) for method, raw in inputs]
    return _all_are(codes, {"INVALID_ARGUMENT", "OK", "RESOURCE_EXHAUSTED"})


async def hard_json(target: Target, scale: float) -> str:
    """J: JSON that is deep, large, full of odd numbers or no JSON, at both doors."""
    size = max(1000, round(250_000 * scale))
    texts = [
        '{"a":' * 65 + "1" + "}" * 65,
        "[" * size,
        "[" + "1e999," * (size // 6) + "1]",
        '{"a":NaN}',
        '{"a":"\\ud800"}',
        '{"a":' + "9" * 5000 + "}",
        '{"a":1e131071}',
        "{" + ",".join(f'"k{n}":{{}}' for n in range(size // 12)) + "}",
        '"' + "\\u0000" * (size // 6) + '"',
    ]
    codes = [
        await _code_of(target, "PublishEvent", _PUBLISH(event=_EVENT(event_type="job.completed", data_json=text)))
        for text in texts
    ]
    codes += [await _post(target, f'{{"event":{{"event_type":"job.completed","data":{text}}}}}') for text in texts]
    return _all_are(codes, {"OK", "INVALID_ARGUMENT", "400", "413", "200", "201"})


async def odd_secrets(target: Target, scale: float) -> str:
    """K: tokens and secrets that are no text, too long or hold control characters; headers that break HTTP."""
    del scale
    odd = ({"Host": "x"}, {"X_Webhook_Signature": "x"}, {"a b": "x"}, {"X-A": "x\r\nX-B: y"}, {"Content_Length": "5"})
    codes = [await _code(target, "ListWebhooks", b"", bearer("x" * 6000))]
    codes += [await _get(target, "webhooks", token) for token in (b"\xc3\xa9" * 20, b"\xff", b"whk_1_\xf0\x9f\x8e\x89")]
    refused = [await _create(target, headers=headers) for headers in odd]
    refused += [await _create(target, secret=secret) for secret in ("\x01", "x" * 200)]
    return f"{_all_are(codes, {'UNAUTHENTICATED', '401', '400'})}, {_all_are(refused, {'INVALID_ARGUMENT'})}"


async def odd_texts(target: Target, scale: float) -> str:
    """J: SQL, NUL and marks of formats in each text of each method; bytes that are no UTF-8; halves of pairs."""
    texts = (
        "'; DROP TABLE webhooks; --",
        "' OR '1'='1",
        "a\0b",
        "%s %(customer_id)s {0} $1",
        "\u202e\x1b[31m",
        "x" * 1025,
    )
    methods = _some(METHODS, scale)
    codes = [await _filled(target, method, text, 0) for method in methods for text in texts]
    for method in methods:
        raw = b"".join(field_of(field.number, b"\xff\xc0\x80") for field in method.request_type.DESCRIPTOR.fields)
        codes.append(await _code(target, method.name, raw, bearer(HOSTILE)))
    body = '{"event":{"event_type":"%s","data":{"a":"%s"}}}'
    bodies = [body % ("a", "\xff"), body % ("\\ud800", "b"), body % ("\\u0000", "b"), body % ("a", "\\udc00")]
    codes += [await _post(target, text.encode("latin-1")) for text in bodies]
    return _all_are(codes, JUDGED)


async def odd_numbers(target: Target, scale: float) -> str:
    """J: numbers at the ends of 64 bits, zero and negative ones in each number of each method, times out of range."""
    methods, numbers = _some(METHODS, scale), (2**63 - 1, -(2**63), -1, 0, 2**31)
    codes = [await _filled(target, method, "a", number) for method in methods for number in numbers]
    paths = ("webhooks/9223372036854775808", "webhooks/-1", "webhooks/1e400", "deliveries?page_size=-1", "webhooks/٣")
    codes += [await _get(target, path) for path in paths]
    return _all_are(codes, JUDGED)


async def canaries(target: Target, scale: float) -> str:
    """L: secrets, tokens, headers, URL queries and data that are refused: nothing of them in the log."""
    del scale
    url = f"http://u:{CANARY}@127.0.0.1/?t={CANARY}"
    await _create(target, secret=CANARY + "\x01", url=url, headers={"a b": CANARY})
    await _code(target, "ListWebhooks", b"", bearer(CANARY))
    await _code_of(target, "PublishEvent", _PUBLISH(event=_EVENT(event_type=CANARY, data_json=f'{{"a":"{CANARY}"')))
    await _post(target, f'{{"{CANARY}":"{CANARY}"}}')
    log = await asyncio.to_thread(target.log.read_text, "utf-8", "replace")
    for what in (CANARY, HOSTILE, HONEST):
        if what in log:
            raise Broken("the log shows what it must not show")
    return "nothing in the log"


async def waiting_calls(target: Target, scale: float) -> str:
    """A: more calls of one customer at once than it has places for."""
    count = round(1500 * scale)
    request = service_pb2.ListDeliveriesRequest(page_size=1)
    codes = await asyncio.gather(*(_code_of(target, "ListDeliveries", request) for _ in range(count)))
    # UNAVAILABLE: what gRPC's clients make of more streams than a connection may have (decision 53)
    return _all_are(codes, {"OK", "RESOURCE_EXHAUSTED", "UNAVAILABLE"})


async def _create(target: Target, url: str = "http://127.0.0.1:9999/", **fields: Any) -> str:
    webhook = webhook_pb2.Webhook(name="x", url=url, events=["job.completed"], **fields)
    return await _code_of(target, "CreateWebhook", service_pb2.CreateWebhookRequest(webhook=webhook))


async def _code_of(target: Target, method: str, request: Any) -> str:
    return await _code(target, method, request.SerializeToString(), bearer(HOSTILE))


async def _code(target: Target, method: str, raw: bytes, metadata: Any) -> str:
    """Makes a call; returns the name of its status. A stream ends with its first message."""
    channel: Any = target.process.channel
    try:
        if method == "WatchDeliveries":
            await channel.unary_stream(METHOD + method)(raw, metadata=metadata, timeout=CALL_SECONDS_MAX).read()
        else:
            await channel.unary_unary(METHOD + method)(raw, metadata=metadata, timeout=CALL_SECONDS_MAX)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def _filled(target: Target, method: Method[Any, Any], text: str, number: int) -> str:
    """Calls a method with a text and a number in all of its fields."""
    request = method.request_type()
    _fill(request, text, number, LEVELS)
    return await _code_of(target, method.name, request)


def _fill(message: Any, text: str, number: int, levels: int) -> None:
    """Sets what a message has, and what is in it, down to so many levels; what is too large for its field is cut."""
    for field in message.DESCRIPTOR.fields:
        value: Any = None
        if field.cpp_type == field.CPPTYPE_MESSAGE:
            if levels and not field.message_type.GetOptions().map_entry:
                inner = getattr(message, field.name)
                _fill(inner.add() if field.is_repeated else inner, text, number, levels - 1)
        elif field.cpp_type == field.CPPTYPE_STRING:
            value = text if field.type == field.TYPE_STRING else text.encode()
        elif field.cpp_type in {field.CPPTYPE_INT64, field.CPPTYPE_INT32}:
            bound = 2 ** (63 if field.cpp_type == field.CPPTYPE_INT64 else 31)
            value = max(-bound, min(number, bound - 1))
        if value is not None:
            if field.is_repeated:
                getattr(message, field.name).append(value)
            else:
                setattr(message, field.name, value)


def _some(methods: Sequence[Method[Any, Any]], scale: float) -> Sequence[Method[Any, Any]]:
    """Returns those that are tried."""
    return methods[:: max(1, round(0.25 / scale))]


async def _get(target: Target, path: str, token: bytes = HOSTILE.encode()) -> str:
    """Reads a path of the API with bytes that aiohttp would not send; returns the status."""
    reader, writer = await target.connect(target.http)
    line = f"GET /v1/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n".encode()
    writer.write(line + b"Authorization: Bearer " + token + b"\r\n\r\n")
    async with asyncio.timeout(CALL_SECONDS_MAX):
        return (await reader.readline()).split(b" ")[1].decode()


async def _post(target: Target, text: str | bytes) -> str:
    headers = {"Authorization": f"Bearer {HOSTILE}", "Content-Type": "application/json"}
    url, raw = f"{target.process.http_url.rstrip('/')}/api/events", text.encode() if isinstance(text, str) else text
    async with aiohttp.ClientSession() as session, session.post(url, data=raw, headers=headers) as answer:
        await answer.read()
        return str(answer.status)


def _all_are(codes: Sequence[str], admitted: set[str]) -> str:
    """Returns how many came of each. Raises Broken for another one."""
    counts = Counter(codes)
    if odd := counts.keys() - admitted:
        raise Broken(f"answered with {', '.join(sorted(odd))}")
    return ", ".join(f"{count} {code}" for code, count in counts.most_common())


def _event(content: bytes) -> bytes:
    return _EVENT(event_type="job.completed").SerializeToString() + content


def _number(message: Any, name: str) -> int:
    return message.DESCRIPTOR.fields_by_name[name].number


def field_of(number: int, content: bytes) -> bytes:
    """Returns a field that has a length."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = b""
    while value > 0x7F:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


INPUTS: Final[tuple[Attack, ...]] = (
    bad_credentials,
    others_objects,
    many_parts,
    hard_json,
    odd_texts,
    odd_numbers,
    odd_secrets,
    canaries,
    waiting_calls,
)

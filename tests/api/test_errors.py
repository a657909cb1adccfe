"""The error table of the API, row by row: which input or state gives which code, reason and detail."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from webhook.v1 import delivery_pb2, webhook_pb2
from webhook.v1 import service_pb2 as pb

from tests.api.asking import (
    ABSENT_DELIVERY_ID,
    ABSENT_EVENT_ID,
    INT64_MAX,
    METHODS,
    OF_THE_PLATFORM,
    OTHER_CUSTOMER,
    World,
    ask,
    full_webhook,
    furnish,
    refusal,
    set_customer,
    set_webhook_id,
    valid_requests,
)
from tests.support.postgres import TestPostgres
from tests.support.service import CUSTOMER, Service, ServiceFactory, error_details

pytestmark = [pytest.mark.fast, pytest.mark.asyncio(loop_scope="module")]

INVALID = grpc.StatusCode.INVALID_ARGUMENT
UNSPECIFIED_WEBHOOK = webhook_pb2.WEBHOOK_STATUS_UNSPECIFIED
UNSPECIFIED_DELIVERY = delivery_pb2.DELIVERY_STATUS_UNSPECIFIED
UNSPECIFIED_OUTCOME = delivery_pb2.ATTEMPT_OUTCOME_UNSPECIFIED

LISTS = (
    "ListWebhooks",
    "ListEventTypes",
    "ListEvents",
    "ListDeliveries",
    "ListDeliveryAttempts",
    "ListReplays",
    "ListTokens",
    "ListAuditEntries",
)
IN_WINDOWS = ("ListEvents", "ListDeliveries", "ListDeliveryAttempts")
BY_WEBHOOK_ID = ("GetWebhook", "UpdateWebhook", "DeleteWebhook", "PauseWebhook", "ResumeWebhook")
BY_CUSTOMER = tuple(method for method in METHODS if method not in {"BatchPublishEvents", *OF_THE_PLATFORM})
BY_ANY_CUSTOMER = (
    "ListWebhooks",
    "ListEvents",
    "ListDeliveries",
    "ListDeliveryAttempts",
    "ListReplays",
    "WatchDeliveries",
    "ListAuditEntries",
)

Change = Callable[[Any], object]  # changes a valid request


def customer_path(method: str) -> str:
    """Its dotted path."""
    prefix = {
        "CreateWebhook": "webhook.",
        "UpdateWebhook": "webhook.",
        "PublishEvent": "event.",
        "CreateReplay": "replay.",
    }.get(method, "")
    return f"{prefix}customer_id"


def page_token(prefix: bytes, key: bytes) -> str:
    """A text of a token's form."""
    return base64.urlsafe_b64encode(prefix + key).decode().rstrip("=")


def webhook_row(path: str, *fields: str, reason: str = "FIELD_INVALID", **values: Any) -> Any:
    """A row of CreateWebhook: these values of the webhook are refused with these fields."""

    def change(request: Any) -> None:
        for name, value in values.items():
            request.webhook.ClearField(name)
            request.webhook.MergeFrom(webhook_pb2.Webhook(**{name: value}))

    expected = [f"webhook.{field}" for field in fields or (path,)]
    return pytest.param("CreateWebhook", change, reason, expected, id=f"CreateWebhook {path}")


def row(method: str, name: str, change: Change, *fields: str, reason: str = "FIELD_INVALID") -> Any:
    """A row: a valid request of the method, so changed, is refused with these fields."""
    return pytest.param(method, change, reason, list(fields), id=f"{method} {name}")


def events_row(name: str, change: Change, *fields: str, reason: str = "FIELD_INVALID") -> Any:
    """A row of PublishEvent."""
    return row("PublishEvent", name, change, *fields, reason=reason)


def set_window(request: Any, start_seconds: int, end_seconds: int) -> None:
    """Sets start_time and end_time."""
    request.start_time.CopyFrom(Timestamp(seconds=start_seconds))
    request.end_time.CopyFrom(Timestamp(seconds=end_seconds))


def seconds(value: float) -> Duration:
    """A Duration."""
    return Duration(seconds=int(value), nanos=round(value % 1 * 1e9))


FILTER_ROWS: list[tuple[str, Change, tuple[str, ...]]] = [
    ("webhook_ids", lambda r: r.webhook_ids.extend([0, -1]), ("webhook_ids[1]", "webhook_ids[2]")),
    ("too many webhook_ids", lambda r: r.webhook_ids.extend(range(1, 101)), ("webhook_ids",)),
    ("event_types", lambda r: r.event_types.extend(["", "A"]), ("event_types[1]", "event_types[2]")),
    ("event_types with NUL", lambda r: r.event_types.append("job.\0"), ("event_types[1]",)),
    ("event_types as regex", lambda r: r.event_types.append("job.(.*)+"), ("event_types[1]",)),
    ("too many event_types", lambda r: r.event_types.extend(["*"] * 100), ("event_types",)),
]

ROWS = [
    # customer_id: negative everywhere, 0 where one customer must be meant
    *(
        row(method, f"customer_id {value}", lambda r, v=value: set_customer(r, v), customer_path(method))
        for method in BY_CUSTOMER
        for value in (-1, -(2**63))
    ),
    *(
        row(method, "customer_id 0", lambda r: set_customer(r, 0), customer_path(method))
        for method in BY_CUSTOMER
        if method not in BY_ANY_CUSTOMER
    ),
    row("BatchPublishEvents", "customer_id -1", lambda r: set_customer(r, -1), "customer_id"),
    # webhook_id
    *(
        row(
            method,
            f"webhook_id {value}",
            lambda r, v=value: set_webhook_id(r, v),
            "webhook.webhook_id" if method == "UpdateWebhook" else "webhook_id",
        )
        for method in BY_WEBHOOK_ID
        for value in (0, -1, -(2**63))
    ),
    # event_id, delivery_id
    *(
        row("GetEvent", f"event_id {value[:12]!r}", lambda r, v=value: setattr(r, "event_id", v), "event_id")
        for value in (
            "",
            "evt_",
            "\0",
            ABSENT_EVENT_ID[:-1],
            ABSENT_EVENT_ID + "0",
            ABSENT_EVENT_ID.upper(),
            "x" * 9999,
        )
    ),
    *(
        row(method, "event_id", lambda r: setattr(r, "event_id", "evt_1"), "event_id")
        for method in ("ListDeliveries", "ListDeliveryAttempts", "WatchDeliveries")
    ),
    *(
        row(method, "delivery_id", lambda r: setattr(r, "delivery_id", "dlv_1"), "delivery_id")
        for method in ("GetDelivery", "ListDeliveryAttempts")
    ),
    # lists
    *(
        row(method, f"page_size {value}", lambda r, v=value: setattr(r, "page_size", v), "page_size")
        for method in LISTS
        for value in (-1, -(2**31))
    ),
    *(
        row(
            method,
            f"page_token {name}",
            lambda r, v=value: setattr(r, "page_token", v),
            "page_token",
            reason="PAGE_TOKEN_INVALID",
        )
        for method in LISTS
        for name, value in {
            "garbage": "garbage",
            "not base64": "!!!!",
            "not ASCII": "é",
            "NUL": "\0",
            "one character": "A",
            "white space": " ",
            "zeros": page_token(b"\0" * 8, b"\0" * 8),
            "longer zeros": page_token(b"\0" * 8, b"\0" * 32),
            "long": "A" * 100_000,
        }.items()
    ),
    *(
        row(method, "statuses", lambda r, v=values: r.statuses.extend(v), "statuses")
        for method in ("ListWebhooks", "ListDeliveries", "ListDeliveryAttempts", "WatchDeliveries")
        for values in ([0], [99], [-1], [1, 2**31 - 1], [-(2**31)])
    ),
    *(
        row("ListDeliveryAttempts", "outcomes", lambda r, v=values: r.outcomes.extend(v), "outcomes")
        for values in ([0], [99], [-1], [1, 2**31 - 1])
    ),
    *(
        row(method, name, change, *fields)
        for method in ("ListDeliveries", "ListDeliveryAttempts", "WatchDeliveries")
        for name, change, fields in FILTER_ROWS
    ),
    *(
        row("ListEvents", name, change, *fields)
        for name, change, fields in FILTER_ROWS
        if "webhook_ids" not in str(fields)
    ),
    *(
        row(method, f"{field} {value}", lambda r, f=field, v=value: getattr(r, f).CopyFrom(v), field)
        for method in IN_WINDOWS
        for field in ("start_time", "end_time")
        for value in (Timestamp(seconds=-1), Timestamp(seconds=INT64_MAX), Timestamp(nanos=-1))
    ),
    *(
        row(method, f"a window that ends {name}", lambda r, t=end: set_window(r, 1000, t), "end_time")
        for method in IN_WINDOWS
        for name, end in (("before it starts", 999), ("where it starts", 1000))
    ),
    *(
        row(method, "a window of two invalid times", lambda r: set_window(r, -1, -2), "start_time", "end_time")
        for method in IN_WINDOWS
    ),
    row(
        "ListDeliveries",
        "everything",
        lambda r: r.MergeFrom(
            pb.ListDeliveriesRequest(
                customer_id=-1,
                page_size=-1,
                webhook_ids=[0],
                event_types=["A"],
                statuses=[UNSPECIFIED_DELIVERY],
                event_id="x",
                start_time=Timestamp(seconds=-1),
                end_time=Timestamp(seconds=-1),
            )
        ),
        *("customer_id", "event_id", "event_types[1]", "page_size", "statuses", "webhook_ids[1]"),
        *("start_time", "end_time"),
    ),
    row(
        "ListDeliveryAttempts",
        "everything",
        lambda r: r.MergeFrom(
            pb.ListDeliveryAttemptsRequest(
                customer_id=-1,
                page_size=-1,
                delivery_id="x",
                webhook_ids=[0],
                event_types=["A"],
                statuses=[UNSPECIFIED_DELIVERY],
                outcomes=[UNSPECIFIED_OUTCOME],
                event_id="x",
                start_time=Timestamp(seconds=-1),
                end_time=Timestamp(seconds=-1),
            )
        ),
        *("customer_id", "delivery_id", "page_size", "event_id", "event_types[1]", "statuses", "webhook_ids[1]"),
        *("outcomes", "start_time", "end_time"),
    ),
    row(
        "ListEvents",
        "everything",
        lambda r: r.MergeFrom(pb.ListEventsRequest(customer_id=-1, page_size=-1, event_types=["A"])),
        *("customer_id", "event_types[1]", "page_size"),
    ),
    row(
        "ListWebhooks",
        "everything",
        lambda r: r.MergeFrom(pb.ListWebhooksRequest(customer_id=-1, page_size=-1, statuses=[UNSPECIFIED_WEBHOOK])),
        *("customer_id", "page_size", "statuses"),
    ),
    # watch
    *(
        row(
            "WatchDeliveries",
            f"cursor {value[:5]!r}",
            lambda r, v=value: setattr(r, "cursor", v),
            "cursor",
            reason="CURSOR_INVALID",
        )
        for value in (b"\0", b"garbage", b"\x01" * 100, b"\xff" * 1024, b"\0" * 100_000)
    ),
    *(
        row("WatchDeliveries", f"start_time {value}", lambda r, v=value: r.start_time.CopyFrom(v), "start_time")
        for value in (Timestamp(seconds=-1), Timestamp(seconds=INT64_MAX), Timestamp(nanos=-1))
    ),
    *(
        row(
            "WatchDeliveries",
            f"heartbeat_interval {value}",
            lambda r, v=value: r.heartbeat_interval.CopyFrom(v),
            "heartbeat_interval",
        )
        for value in (Duration(), seconds(0.9), seconds(60.1), Duration(seconds=-1), Duration(seconds=INT64_MAX))
    ),
    # request_id
    *(
        row(method, f"request_id {value[:5]!r}", lambda r, v=value: setattr(r, "request_id", v), "request_id")
        for method in ("CreateWebhook", "PublishEvent")
        for value in ("é", "\0", "a\nb", "\x7f", "x" * 129)
    ),
    # tokens
    row("CreateToken", "role", lambda r: setattr(r.token, "role", 0), "token.role"),
    row("CreateToken", "role unknown", lambda r: setattr(r.token, "role", 99), "token.role"),
    row("CreateToken", "nobody", lambda r: r.token.ClearField("customer_ids"), "token.customer_ids"),
    row("CreateToken", "some and all", lambda r: setattr(r.token, "all_customers", True), "token.customer_ids"),
    row("CreateToken", "customer 0", lambda r: r.token.customer_ids.append(0), "token.customer_ids"),
    row("CreateToken", "many", lambda r: r.token.customer_ids.extend(range(1, 1001)), "token.customer_ids"),
    row("CreateToken", "description", lambda r: setattr(r.token, "description", "a\0"), "token.description"),
    row("CreateToken", "past", lambda r: setattr(r.token.expire_time, "seconds", 1), "token.expire_time"),
    row("CreateToken", "no time", lambda r: setattr(r.token.expire_time, "seconds", -1), "token.expire_time"),
    *(row("RevokeToken", f"token_id {v}", lambda r, v=v: setattr(r, "token_id", v), "token_id") for v in (0, -1)),
    # the webhook
    webhook_row("name", name=""),
    webhook_row("name of spaces", "name", name=" \t\n"),
    webhook_row("name too long", "name", name="é" * 129),
    webhook_row("name with NUL", "name", name="a\0b"),
    webhook_row("description too long", "description", description="x" * 1025),
    webhook_row("description with NUL", "description", description="\0"),
    webhook_row("url empty", "url", url=""),
    webhook_row("events empty", "events", events=[]),
    webhook_row("events 101", "events", events=["*"] * 101),
    webhook_row(
        "events malformed",
        *(f"events[{number}]" for number in range(7)),
        events=["", "Job", "job.", "*.job", "job*", "\0", "x" * 129],
    ),
    webhook_row("retry_policy empty", "retry_policy.delays", retry_policy=webhook_pb2.RetryPolicy()),
    webhook_row(
        "retry_policy of 21",
        "retry_policy.delays",
        retry_policy=webhook_pb2.RetryPolicy(delays=[seconds(1)] * 21),
    ),
    webhook_row(
        "retry_policy delays",
        *(f"retry_policy.delays[{number}]" for number in (0, 2, 3, 4, 5)),
        retry_policy=webhook_pb2.RetryPolicy(
            delays=[
                seconds(0.999),
                seconds(1),
                seconds(86_400.001),
                Duration(seconds=-1),
                Duration(seconds=1, nanos=-1),
                Duration(seconds=INT64_MAX),
            ]
        ),
    ),
    webhook_row(
        "retry_policy in all",
        "retry_policy.delays",
        retry_policy=webhook_pb2.RetryPolicy(delays=[seconds(86_400)] * 8),
    ),
    *(
        webhook_row(f"timeout {value}", "timeout", timeout=value)
        for value in (
            Duration(),
            seconds(0.999),
            seconds(30.001),
            Duration(seconds=-1),
            Duration(seconds=1, nanos=2**31 - 1),
            Duration(seconds=INT64_MAX),
        )
    ),
    *(
        webhook_row(f"max_in_flight {value}", "max_in_flight", max_in_flight=value)
        for value in (-1, 101, 2**31 - 1, -(2**31))
    ),
    webhook_row("headers 21", "headers", headers={f"X-{number}": "" for number in range(21)}),
    webhook_row("headers 4 KiB", "headers", headers={f"X-{number}": "x" * 1000 for number in range(5)}),
    webhook_row("headers doubled", "headers", headers={"X-A": "1", "x-a": "2"}),
    *(
        webhook_row(f"headers {name[:5]!r}", "headers", headers={name: "x"})
        for name in ("", "a b", "é", "a\0", "a:", "a\r\nb", "x" * 65)
    ),
    *(
        webhook_row(f"headers {name}", f"headers[{name}]", headers={name: "x"})
        for name in (
            *("Host", "content-length", "Content-Type", "Transfer-Encoding", "connection", "webhook-id"),
            *("X-Webhook-Signature", "User-Agent", "Proxy-Authorization", "Cookie"),
        )
    ),
    *(
        webhook_row(f"headers value {value[:4]!r}", "headers[X-A]", headers={"X-A": value})
        for value in ("\0", "a\r\nX-B: c", "\n", "é", "\x7f", "x" * 1025)
    ),
    webhook_row("labels 21", "labels", labels={str(number): "" for number in range(21)}),
    *(
        webhook_row(f"labels {key[:3]!r} {value[:3]!r}", "labels", labels={key: value})
        for key, value in {"": "v", "k" * 64: "v", "a\0": "v", "a": "v" * 256, "b": "\0"}.items()
    ),
    *(
        webhook_row(f"secret {value[:8]!r}", "secret", secret=value)
        for value in (
            *(" ", "x" * 129, "x\n", " x", "\0" * 30, "whsec_", "whsec_AAAA", "whsec_!!!!", "v1,whsec_AAAA"),
            *("whsec_" + "A" * 400, "whsec_" + "é" * 40),
        )
    ),
    *(
        webhook_row(f"url {value[:24]!r}", "url", url=value, reason="URL_NOT_ALLOWED")
        for value in (
            *("hooks.example.com", "/relative", "ftp://hooks.example.com", "javascript:alert(1)", "https://"),
            *("https://hooks.example.com/\0", "https://hooks.example.com/a b", "https://hooks.example.com/é"),
            *("https://user:password@hooks.example.com", "https://hooks.example.com/#fragment"),
            *("https://hooks.example.com:22/", "https://hooks.example.com:0/", "https://hooks.example.com:99999/"),
            *("https://hooks.example.com:x/", "https://[::1]/", "https://[::1", "https://[::ffff:8.8.8.8]/"),
            *("https://10.0.0.1/", "https://169.254.169.254/latest", "https://0x7f000001/", "https://2130706433/"),
            *("https://localhost/", "https://db.internal/", "https://hooks.example.com\\@localhost/"),
            *("https://%6c%6fcalhost/", "https://hooks.example.com/" + "x" * 512, "https://" + "a." * 200 + "com/"),
        )
    ),
    webhook_row(
        "everything",
        *("customer_id", "description", "events", "headers", "labels", "max_in_flight", "name"),
        *("retry_policy.delays", "secret", "timeout", "url"),
        customer_id=-1,
        description="\0",
        events=[],
        headers={"": ""},
        labels={"": ""},
        max_in_flight=-1,
        name="",
        retry_policy=webhook_pb2.RetryPolicy(),
        secret="v1,whsec_",
        timeout=Duration(),
        url="ftp://x",
    ),
    row(
        "UpdateWebhook",
        "everything",
        lambda r: r.CopyFrom(
            pb.UpdateWebhookRequest(
                webhook=full_webhook(
                    webhook_id=r.webhook.webhook_id,
                    secret="",
                    name="",
                    events=["A"],
                    url="ftp://x",
                    max_in_flight=-1,
                    timeout=Duration(),
                    description="\0",
                    headers={"": ""},
                    labels={"": ""},
                    retry_policy=webhook_pb2.RetryPolicy(),
                ),
                update_mask=FieldMask(paths=["*"]),
            )
        ),
        *("webhook.description", "webhook.events[0]", "webhook.headers", "webhook.labels", "webhook.max_in_flight"),
        *("webhook.name", "webhook.retry_policy.delays", "webhook.timeout", "webhook.url"),
    ),
    row(
        "UpdateWebhook",
        "url",
        lambda r: r.CopyFrom(
            pb.UpdateWebhookRequest(
                webhook=full_webhook(webhook_id=r.webhook.webhook_id, secret="", url="https://127.1/"),
                update_mask=FieldMask(paths=["url"]),
            )
        ),
        "webhook.url",
        reason="URL_NOT_ALLOWED",
    ),
    *(
        row(
            "UpdateWebhook",
            f"mask {path[:9]!r}",
            lambda r, v=path: r.update_mask.paths.append(v),
            "update_mask",
            reason="FIELD_MASK_INVALID",
        )
        for path in ("", "\0", "é", "*", "a" * 1000)
    ),
    row(
        "UpdateWebhook",
        "mask secret",
        lambda r: (r.update_mask.paths.append("secret"), setattr(r.webhook, "secret", "x" * 32)),
        "webhook.secret",
        reason="FIELD_IMMUTABLE",
    ),
    row("UpdateWebhook", "no webhook", lambda r: r.Clear(), "webhook.customer_id", "webhook.webhook_id"),
    row(
        "CreateWebhook",
        "no webhook",
        lambda r: r.Clear(),
        *("webhook.customer_id", "webhook.events", "webhook.name", "webhook.url"),
    ),
    # the event
    *(
        events_row(
            f"event_type {value[:9]!r}", lambda r, v=value: setattr(r.event, "event_type", v), "event.event_type"
        )
        for value in ("", "Job", "job.*", "*", "job..completed", ".", "\0", "job.completed\n", "é", "x" * 129)
    ),
    events_row("no event", lambda r: r.Clear(), "event.customer_id", "event.data_json", "event.event_type"),
    events_row("no content", lambda r: r.event.ClearField("data_json"), "event.data_json"),
    events_row("NaN", lambda r: setattr(r.event, "data_json", "NaN"), "event.data_json", reason="DATA_NOT_JSON"),
    events_row(
        "data too large",
        lambda r: setattr(r.event, "data_json", '"' + "x" * 300_000 + '"'),
        "event.data_json",
        reason="DATA_TOO_LARGE",
    ),
    events_row(
        "data far too large",
        lambda r: setattr(r.event, "data_json", "[" * 1_500_000),
        "event.data_json",
        reason="DATA_TOO_LARGE",
    ),
    events_row("attributes", lambda r: r.event.attributes.update({"": ""}), "event.attributes"),
    events_row("occur_time", lambda r: setattr(r.event.occur_time, "seconds", -1), "event.occur_time"),
    row("BatchPublishEvents", "no requests", lambda r: r.ClearField("requests"), "requests"),
    row(
        "BatchPublishEvents",
        "501 requests",
        lambda r: r.requests.extend([r.requests[0]] * 500),
        "requests",
        reason="BATCH_TOO_LARGE",
    ),
]


@dataclass(frozen=True)
class Asked:
    """A service that all tests of this module share, since what they ask for is refused, and what there is in it."""

    service: Service
    world: World


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def asked(postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Asked]:
    """A service whose anonymous callers may call every method."""
    postgres.empty()
    services = ServiceFactory(postgres.url, tmp_path_factory.mktemp("errors"))
    service = await services.start()
    yield Asked(service, await furnish(service))
    await services.stop()


@pytest.mark.parametrize(("method", "change", "reason", "fields"), ROWS)
async def test_a_bad_field_is_named(asked: Asked, method: str, change: Change, reason: str, fields: list[str]) -> None:
    request = valid_requests(asked.world)[method]
    change(request)

    refused = await refusal(ask(asked.service, method, request))

    assert refused.code is INVALID
    assert refused.reason == reason
    assert refused.fields == sorted(fields)
    for violation in refused.details["BadRequest"].field_violations:
        assert violation.description


async def test_every_violation_of_a_list_is_told(asked: Asked) -> None:
    request = pb.CreateWebhookRequest(webhook=full_webhook(events=["NOT A TYPE"] * 20))

    refused = await refusal(ask(asked.service, "CreateWebhook", request))

    assert refused.code is INVALID
    assert refused.fields == sorted(f"webhook.events[{number}]" for number in range(20))


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("CreateWebhook", pb.CreateWebhookRequest(webhook=full_webhook(events=["NOT A TYPE"] * 100))),
        (
            "UpdateWebhook",
            pb.UpdateWebhookRequest(
                webhook=full_webhook(webhook_id=1, secret=""), update_mask=FieldMask(paths=["x" * 200_000])
            ),
        ),
        (
            "UpdateWebhook",
            pb.UpdateWebhookRequest(
                webhook=full_webhook(webhook_id=1, secret=""), update_mask=FieldMask(paths=["é"] * 10_000)
            ),
        ),
        (
            "CreateWebhook",
            pb.CreateWebhookRequest(webhook=full_webhook(headers={f"é{number}": "" for number in range(50_000)})),
        ),
        ("ListDeliveries", pb.ListDeliveriesRequest(webhook_ids=[-1] * 100, event_types=["É"] * 100)),
        ("WatchDeliveries", pb.WatchDeliveriesRequest(webhook_ids=[-1] * 100, event_types=["É"] * 100)),
    ],
    ids=["100 entries", "a long path", "many paths", "many headers", "many filters", "many filters of a watch"],
)
async def test_an_error_fits_into_the_metadata_that_clients_accept(
    asked: Asked, method: str, request_: Message
) -> None:
    """Clients of gRPC refuse trailing metadata beyond 8 KiB at random and beyond 16 KiB always."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(asked.service, method, request_)

    error = caught.value
    assert error.code() is INVALID
    assert error_details(error)["BadRequest"].field_violations, "at least the first ones"
    size_bytes = len(quote(error.details() or "")) + sum(
        len(key) + len(value) + 32 for key, value in error.trailing_metadata() or ()
    )
    assert size_bytes < 8192


# --- states ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", BY_WEBHOOK_ID)
@pytest.mark.parametrize("customer_id", [CUSTOMER, OTHER_CUSTOMER, INT64_MAX])
async def test_an_absent_webhook_is_not_found(asked: Asked, method: str, customer_id: int) -> None:
    request = valid_requests(asked.world, customer_id)[method]
    set_webhook_id(request, INT64_MAX)

    refused = await refusal(ask(asked.service, method, request))

    assert refused.code is grpc.StatusCode.NOT_FOUND
    assert refused.reason == "WEBHOOK_NOT_FOUND"
    assert refused.details["ResourceInfo"].resource_name == str(INT64_MAX)


@pytest.mark.parametrize(
    ("method", "field", "value", "reason"),
    [
        ("GetEvent", "event_id", ABSENT_EVENT_ID, "EVENT_NOT_FOUND"),
        ("GetDelivery", "delivery_id", ABSENT_DELIVERY_ID, "DELIVERY_NOT_FOUND"),
        ("ListDeliveryAttempts", "delivery_id", ABSENT_DELIVERY_ID, "DELIVERY_NOT_FOUND"),
        ("GetDelivery", "delivery_id", ABSENT_DELIVERY_ID[:-1] + str(INT64_MAX), "DELIVERY_NOT_FOUND"),
        ("GetEventType", "event_type", "job.exploded", "EVENT_TYPE_NOT_FOUND"),
    ],
)
async def test_what_is_absent_is_not_found(asked: Asked, method: str, field: str, value: str, reason: str) -> None:
    request = valid_requests(asked.world)[method]
    setattr(request, field, value)

    refused = await refusal(ask(asked.service, method, request))

    assert refused.code is grpc.StatusCode.NOT_FOUND
    assert refused.reason == reason
    assert refused.details["ResourceInfo"].resource_name == value

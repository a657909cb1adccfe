"""Who may call what: tokens, their customers and their permissions, for every method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import grpc
import pytest
from webhook.v1 import service_pb2 as pb

from tests.api.asking import (
    FOR_ALL_CUSTOMERS_ONLY,
    METHODS,
    NOBODY_LISTENS,
    OF_THE_PLATFORM,
    OTHER_CUSTOMER,
    REFUSED,
    TOKENS_OF_CALLERS,
    World,
    ask,
    code_of,
    full_event,
    full_replay,
    full_token,
    full_webhook,
    refusal,
    set_customer,
    valid_requests,
    world_of,
)
from tests.support.full import in_full
from tests.support.service import CUSTOMER, Service, ServiceFactory
from tests.support.tokens import SEALER, NoTokens
from webhook_grpc.domain.errors import Unauthenticated
from webhook_grpc.domain.tokens import token_hash
from webhook_grpc.server.auth import Authenticator
from webhook_grpc.settings import Permission, Token

pytestmark = pytest.mark.fast
ON_ONE_LOOP: Final = pytest.mark.asyncio(loop_scope="module")
ALL: Final[tuple[Permission, ...]] = ("read", "publish", "manage", "admin")
NOW: Final = datetime.now(UTC)

# A method without a row fails the tests below.
PERMISSIONS: Final[dict[str, Permission]] = {
    "CreateWebhook": "manage",
    "GetWebhook": "read",
    "ListWebhooks": "read",
    "UpdateWebhook": "manage",
    "DeleteWebhook": "manage",
    "PauseWebhook": "manage",
    "ResumeWebhook": "manage",
    "RotateWebhookSecret": "manage",
    "CreateEventType": "manage",
    "GetEventType": "read",
    "ListEventTypes": "read",
    "UpdateEventType": "manage",
    "PublishEvent": "publish",
    "BatchPublishEvents": "publish",
    "GetEvent": "read",
    "GetDelivery": "read",
    "ListDeliveries": "read",
    "ListDeliveryAttempts": "read",
    "ListEvents": "read",
    "TestWebhook": "manage",
    "RetryDelivery": "manage",
    "CancelDelivery": "manage",
    "ExplainEvent": "read",
    "GetWebhookStats": "read",
    "WatchDeliveries": "read",
    "CreateReplay": "manage",
    "GetReplay": "read",
    "ListReplays": "read",
    "CancelReplay": "manage",
    "DeleteCustomerData": "manage",
    "CreateToken": "admin",
    "ListTokens": "admin",
    "RevokeToken": "admin",
    "CreateAccessToken": "read",
    "ListAuditEntries": "admin",
    "GetSigningKeys": "read",
    "RotateSigningKey": "manage",
}
MAY_ASK_FOR_ALL: Final = (
    "ListWebhooks", "ListEvents", "ListDeliveries", "ListDeliveryAttempts", "ListReplays", "WatchDeliveries",
    "ListAuditEntries",
)  # fmt: skip
TAKES_A_TOKEN_FOR_ALL: Final = ("DeleteCustomerData", *FOR_ALL_CUSTOMERS_ONLY)
SHOWS_NO_CUSTOMER: Final = (
    "DeleteWebhook", "PublishEvent", "BatchPublishEvents", "ListDeliveryAttempts", "GetWebhookStats", "GetSigningKeys",
    "RotateSigningKey",
)  # fmt: skip
OF_CUSTOMERS: Final = tuple(method for method in METHODS if method not in OF_THE_PLATFORM)
OF_ONE_CUSTOMER: Final = tuple(method for method in OF_CUSTOMERS if method not in TAKES_A_TOKEN_FOR_ALL)


def in_worlds(methods: Sequence[str]) -> pytest.MarkDecorator:
    """Gives a test the methods that may share a world: all that only read, and each of the others by itself."""
    reading = tuple(method for method in methods if PERMISSIONS[method] == "read")
    alone = tuple((method,) for method in methods if PERMISSIONS[method] != "read")
    return pytest.mark.parametrize("methods", [reading, *alone], ids=["reading", *(method for (method,) in alone)])


def token(
    name: str,
    customer_id: int | None = CUSTOMER,
    permissions: tuple[Permission, ...] = ALL,
    expires: datetime | None = None,
) -> Token:
    """A token whose secret is `secret of <name>`."""
    return Token(
        name=name,
        sha256=token_hash(f"secret-of-{name}"),
        customer_id=customer_id,
        permissions=permissions,
        expires=expires,
    )


def bearer(name: str, scheme: str = "Bearer") -> list[tuple[str, str]]:
    """The metadata of a caller with that token."""
    return [("authorization", f"{scheme} secret-of-{name}")]


TOKENS: Final = (
    token("customer"),
    token("other", OTHER_CUSTOMER),
    token("everybody", None),
    token("expired", expires=NOW - timedelta(seconds=1)),
    token("not yet", expires=NOW + timedelta(hours=1)),
    *(token(f"only-{permission}", permissions=(permission,)) for permission in ALL),
    *(token(f"only-{permission}-for-all", None, (permission,)) for permission in ALL),
    *(token(f"without-{permission}", permissions=tuple(p for p in ALL if p != permission)) for permission in ALL),
    token("nothing", permissions=()),
)


@pytest.fixture(scope="module")
def shared_settings() -> Mapping[str, Any]:
    """It knows TOKENS. Replays stay as they are made."""
    return {"tokens": TOKENS, "replay_poll_seconds": 60.0}


async def furnish(service: Service, customer_id: int = CUSTOMER) -> World:
    """A paused webhook, an event for it and a replay to it, made with the token for all customers."""
    create = pb.CreateWebhookRequest(webhook=full_webhook(customer_id=customer_id, url=NOBODY_LISTENS))
    webhook = await ask(service, "CreateWebhook", create, bearer("everybody"))
    pause = pb.PauseWebhookRequest(customer_id=customer_id, webhook_id=webhook.webhook_id)
    await ask(service, "PauseWebhook", pause, bearer("everybody"))
    publish = pb.PublishEventRequest(event=full_event(customer_id=customer_id))
    published = await ask(service, "PublishEvent", publish, bearer("everybody"))
    replay = pb.CreateReplayRequest(replay=full_replay(webhook.webhook_id, customer_id=customer_id))
    started = await ask(service, "CreateReplay", replay, bearer("everybody"))
    create_token = pb.CreateTokenRequest(token=full_token(customer_ids=[customer_id]))
    made = await ask(service, "CreateToken", create_token, bearer("everybody"))
    return world_of(webhook.webhook_id, published.event_id, started.replay_id, made.token_id)


def served(method: str) -> grpc.StatusCode:
    """The status of the valid request."""
    return grpc.StatusCode.FAILED_PRECONDITION if method in REFUSED else grpc.StatusCode.OK


def test_every_method_of_the_service_has_its_row() -> None:
    assert set(PERMISSIONS) == set(METHODS)


# --- who is it -------------------------------------------------------------------------------------------------------


STRANGERS: Final[list[tuple[list[tuple[str, str]], str]]] = [
    ([], "TOKEN_MISSING"),
    (bearer("nobody"), "TOKEN_INVALID"),
    (bearer("expired"), "TOKEN_EXPIRED"),
]
# They are told apart before the method is looked at: each method meets some of them, in `make test-long` all.
MORE_STRANGERS: Final[list[tuple[list[tuple[str, str]], str]]] = [
    ([("x-authorization", "Bearer secret-of-customer")], "TOKEN_MISSING"),
    (bearer("customer") * 2, "TOKEN_INVALID"),
    (bearer("nobody") + bearer("customer"), "TOKEN_INVALID"),
    (bearer("customer", "Basic"), "TOKEN_INVALID"),
    (bearer("customer", "Bearer Bearer"), "TOKEN_INVALID"),
    ([("authorization", "secret-of-customer")], "TOKEN_INVALID"),
    ([("authorization", "Bearer")], "TOKEN_INVALID"),
    ([("authorization", "Bearer ")], "TOKEN_INVALID"),
    ([("authorization", "")], "TOKEN_INVALID"),
    ([("authorization", f"Bearer {token_hash('secret-of-customer')}")], "TOKEN_INVALID"),
    ([("authorization", "Bearer SECRET-OF-CUSTOMER")], "TOKEN_INVALID"),
    ([("authorization", "Bearer secret-of-customer,secret-of-other")], "TOKEN_INVALID"),
    ([("authorization", "Bearer " + "x" * 4000)], "TOKEN_INVALID"),
]
EVERY: Final = in_full(1, short=4)


@ON_ONE_LOOP
@pytest.mark.parametrize(("number", "method"), list(enumerate(METHODS)), ids=METHODS)
async def test_a_caller_that_does_not_prove_who_it_is_learns_nothing(
    service: Service, number: int, method: str
) -> None:
    for metadata, reason in (*STRANGERS, *MORE_STRANGERS[number % EVERY :: EVERY]):
        for request in (valid_requests(World(1, "evt_1", "dlv_1"))[method], b"", b"\xff"):
            refused = await refusal(ask(service, method, request, metadata))
            assert refused.code is grpc.StatusCode.UNAUTHENTICATED, metadata
            assert refused.reason == reason, metadata
            assert set(refused.details) == {"ErrorInfo"}
            assert "secret-of" not in refused.message


@ON_ONE_LOOP
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_is_written_in_any_case(service: Service, scheme: str) -> None:
    assert await code_of(ask(service, "ListWebhooks", b"", bearer("customer", scheme))) is grpc.StatusCode.OK


@ON_ONE_LOOP
async def test_a_token_works_until_it_expires(service: Service) -> None:
    assert await code_of(ask(service, "ListWebhooks", b"", bearer("not yet"))) is grpc.StatusCode.OK


@ON_ONE_LOOP
async def test_without_tokens_on_loopback_everybody_may_do_everything(services: ServiceFactory) -> None:
    service = await services.start()

    for metadata in ([], bearer("anything"), bearer("a") + bearer("b")):
        assert await code_of(ask(service, "ListWebhooks", b"", metadata)) is grpc.StatusCode.OK


@pytest.mark.parametrize(
    "authorization",
    [
        [b"Bearer \xff\xfe"],
        [b"\xff"],
        ["Bearer é"],
        ["Bearer \ud800"],
        ["Bearer\u00a0secret-of-customer"],
        [b"Bearer secret-of-customer\xc2\xa0"],
        ["Bearer secret-of-customer\0"],
        [b""],
        [b"Bearer secret-of-customer", "Bearer secret-of-customer"],
    ],
    ids=ascii,
)
async def test_a_header_that_is_not_ascii_is_an_invalid_token(authorization: list[str | bytes]) -> None:
    """The client of gRPC itself refuses to send such a header; others need not."""
    authenticator = Authenticator(TOKENS, NoTokens(), SEALER, anonymous_allowed=False)

    with pytest.raises(Unauthenticated) as caught:
        await authenticator.authenticate(authorization, NOW)

    assert caught.value.reason == "TOKEN_INVALID"


async def test_a_token_expires_at_its_moment() -> None:
    authenticator = Authenticator([token("short", expires=NOW)], NoTokens(), SEALER, anonymous_allowed=False)
    authorization = ["Bearer secret-of-short"]

    assert (await authenticator.authenticate(authorization, NOW - timedelta(microseconds=1))).name == "short"
    with pytest.raises(Unauthenticated) as caught:
        await authenticator.authenticate(authorization, NOW)
    assert caught.value.reason == "TOKEN_EXPIRED"


# --- what may it do --------------------------------------------------------------------------------------------------


@ON_ONE_LOOP
async def test_no_method_is_served_without_its_permission(service: Service) -> None:
    requests = valid_requests(await furnish(service))

    for method, permission in PERMISSIONS.items():
        for name in (f"without-{permission}", "nothing"):
            refused = await refusal(ask(service, method, requests[method], bearer(name)))
            assert refused.code is grpc.StatusCode.PERMISSION_DENIED, method
            assert refused.reason == "PERMISSION_MISSING", method
            assert permission in refused.message
            assert set(refused.details) == {"ErrorInfo"}
            refused = await refusal(ask(service, method, b"\xff", bearer(name)))
            assert refused.reason == "PERMISSION_MISSING", "nothing is parsed before"


@ON_ONE_LOOP
@in_worlds(METHODS)
async def test_a_method_needs_its_permission_and_no_other(service: Service, methods: Sequence[str]) -> None:
    requests = valid_requests(await furnish(service))

    for method in methods:
        suffix = "-for-all" if method in TAKES_A_TOKEN_FOR_ALL else ""
        only = f"only-{PERMISSIONS[method]}{suffix}"
        name = "customer" if method == "CreateToken" else only  # what it gives, it must have
        assert await code_of(ask(service, method, requests[method], bearer(name))) is served(method), method


# --- for whom --------------------------------------------------------------------------------------------------------


@ON_ONE_LOOP
async def test_a_token_of_another_customer_is_refused_whether_or_not_the_object_exists(service: Service) -> None:
    existing = valid_requests(await furnish(service))
    absent = valid_requests(
        World(2**62, "evt_01jzzzzzzzzzzzzzzzzzzzzzzz", f"dlv_01jzzzzzzzzzzzzzzzzzzzzzzz_{2**62}", 2**62)
    )

    for method in OF_CUSTOMERS:
        for request in (existing[method], absent[method]):
            if method == "BatchPublishEvents":
                response = await ask(service, method, request, bearer("other"))
                [error] = [result.error for result in response.results]
                assert error.code == grpc.StatusCode.PERMISSION_DENIED.value[0]
                assert error.reason == "CUSTOMER_NOT_ALLOWED"
                continue
            refused = await refusal(ask(service, method, request, bearer("other")))
            assert refused.code is grpc.StatusCode.PERMISSION_DENIED, method
            assert refused.reason == "CUSTOMER_NOT_ALLOWED", method
            assert set(refused.details) == {"ErrorInfo"}


@ON_ONE_LOOP
async def test_a_refused_batch_publishes_nothing_for_the_other_customer(service: Service) -> None:
    requests = [
        pb.PublishEventRequest(event=full_event(customer_id=customer_id))
        for customer_id in (OTHER_CUSTOMER, CUSTOMER, 0)
    ]

    response = await ask(
        service, "BatchPublishEvents", pb.BatchPublishEventsRequest(requests=requests), bearer("customer")
    )

    theirs, own, implied = response.results
    assert theirs.error.reason == "CUSTOMER_NOT_ALLOWED"
    for result in (own, implied):
        request = pb.GetEventRequest(customer_id=CUSTOMER, event_id=result.published.event_id)
        assert (await ask(service, "GetEvent", request, bearer("everybody"))).customer_id == CUSTOMER


@ON_ONE_LOOP
async def test_what_concerns_a_customer_as_a_whole_takes_a_token_for_all_customers(service: Service) -> None:
    requests = valid_requests(await furnish(service))

    for method in TAKES_A_TOKEN_FOR_ALL:
        refused = await refusal(ask(service, method, requests[method], bearer("customer")))
        assert refused.code is grpc.StatusCode.PERMISSION_DENIED, method
        assert refused.reason == "CUSTOMER_NOT_ALLOWED", method


@ON_ONE_LOOP
@in_worlds(OF_ONE_CUSTOMER)
async def test_a_token_of_one_customer_need_not_name_it(service: Service, methods: Sequence[str]) -> None:
    requests: Any = valid_requests(await furnish(service))
    await furnish(service, OTHER_CUSTOMER)

    for method in methods:
        request = requests[method]
        set_customer(request, 0)
        if method == "BatchPublishEvents":
            request.requests[0].event.customer_id = 0
        if method in REFUSED:
            assert (await refusal(ask(service, method, request, bearer("customer")))).reason.endswith("_STATUS")
            continue
        shown = str(await ask(service, method, request, bearer("customer")))
        assert f"customer_id: {OTHER_CUSTOMER}" not in shown, method
        assert (f"customer_id: {CUSTOMER}" in shown) is (method not in SHOWS_NO_CUSTOMER), method


@ON_ONE_LOOP
async def test_a_token_of_one_customer_that_asks_for_all_gets_its_own(service: Service) -> None:
    await furnish(service)
    await furnish(service, OTHER_CUSTOMER)

    for method in MAY_ASK_FOR_ALL:
        if method == "ListDeliveryAttempts":  # there is none
            continue
        request = pb.WatchDeliveriesRequest(snapshot=True) if method == "WatchDeliveries" else b""
        own = str(await ask(service, method, request, bearer("customer")))
        everybodys = str(await ask(service, method, request, bearer("everybody")))
        assert f"customer_id: {CUSTOMER}" in own, method
        assert f"customer_id: {OTHER_CUSTOMER}" not in own, method
        assert f"customer_id: {CUSTOMER}" in everybodys, method
        assert f"customer_id: {OTHER_CUSTOMER}" in everybodys, method


@ON_ONE_LOOP
@in_worlds(OF_CUSTOMERS)
async def test_a_token_for_all_customers_serves_each(service: Service, methods: Sequence[str]) -> None:
    for customer_id in (CUSTOMER, OTHER_CUSTOMER):
        requests = valid_requests(await furnish(service, customer_id), customer_id)
        for method in methods:
            code = await code_of(ask(service, method, requests[method], bearer("everybody")))
            assert code is served(method), method


@ON_ONE_LOOP
async def test_a_token_for_all_customers_must_name_one(service: Service) -> None:
    requests: Any = valid_requests(await furnish(service))

    for method in OF_CUSTOMERS:
        if method in MAY_ASK_FOR_ALL:
            continue
        request = requests[method]
        set_customer(request, 0)
        if method == "BatchPublishEvents":
            request.requests[0].event.customer_id = 0
            [result] = (await ask(service, method, request, bearer("everybody"))).results
            assert [violation.field for violation in result.error.field_violations] == ["event.customer_id"]
            continue
        refused = await refusal(ask(service, method, request, bearer("everybody")))
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT, method
        assert refused.reason == "FIELD_INVALID", method
        assert [field.rpartition(".")[2] for field in refused.fields] == ["customer_id"], method


@ON_ONE_LOOP
@pytest.mark.parametrize("method", [method for method in OF_THE_PLATFORM if method not in TOKENS_OF_CALLERS])
async def test_what_belongs_to_the_platform_is_shown_to_everybody_and_changed_by_callers_for_all(
    service: Service, method: str
) -> None:
    request = valid_requests(World(1, "evt_1", "dlv_1"))[method]

    if method in FOR_ALL_CUSTOMERS_ONLY:
        for refusable in (request, b""):
            refused = await refusal(ask(service, method, refusable, bearer("customer")))
            assert refused.code is grpc.StatusCode.PERMISSION_DENIED
            assert refused.reason == "CUSTOMER_NOT_ALLOWED"
            assert set(refused.details) == {"ErrorInfo"}
    else:
        assert await code_of(ask(service, method, request, bearer("customer"))) is grpc.StatusCode.OK
    assert await code_of(ask(service, method, request, bearer("everybody"))) is grpc.StatusCode.OK


@ON_ONE_LOOP
async def test_a_page_token_of_one_customer_opens_nothing_to_another(service: Service) -> None:
    """A request that names no customer has the same arguments for both."""
    await furnish(service)
    await furnish(service)
    theirs = (await furnish(service, OTHER_CUSTOMER)).webhook_id
    first = await ask(service, "ListWebhooks", pb.ListWebhooksRequest(page_size=1), bearer("customer"))
    assert first.next_page_token

    request = pb.ListWebhooksRequest(page_size=10, page_token=first.next_page_token)
    try:
        found = await ask(service, "ListWebhooks", request, bearer("other"))
    except grpc.aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT  # noqa: PT017 - to be refused is as good
    else:
        assert {webhook.webhook_id for webhook in found.webhooks} <= {theirs}


@ON_ONE_LOOP
async def test_a_repetition_may_name_the_customer_that_was_implied(service: Service) -> None:
    """The content is the same, whether the customer is named or follows from the token."""
    for method, request in (
        ("PublishEvent", pb.PublishEventRequest(event=full_event(), request_id="same")),
        ("CreateWebhook", pb.CreateWebhookRequest(webhook=full_webhook(), request_id="same")),
        ("CreateReplay", pb.CreateReplayRequest(replay=full_replay(1, webhook_ids=[]), request_id="same")),
    ):
        first = await ask(service, method, request, bearer("customer"))
        set_customer(request, 0)
        second = await ask(service, method, request, bearer("customer"))
        for field in ("event_id", "webhook_id", "replay_id"):
            assert getattr(first, field, None) == getattr(second, field, None)


@ON_ONE_LOOP
async def test_a_request_id_of_one_customer_says_nothing_to_another(service: Service) -> None:
    request: Any = pb.CreateWebhookRequest(webhook=full_webhook(secret="", customer_id=0), request_id="same")

    mine = await ask(service, "CreateWebhook", request, bearer("customer"))
    theirs = await ask(service, "CreateWebhook", request, bearer("other"))

    assert mine.secret != theirs.secret
    assert (mine.customer_id, theirs.customer_id) == (CUSTOMER, OTHER_CUSTOMER)

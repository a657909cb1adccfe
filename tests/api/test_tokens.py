"""Tokens through the API: made and shown once, listed, revoked in every process; nobody gives more than it has."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from webhook.v1 import event_pb2, token_pb2
from webhook.v1 import service_pb2 as pb

from tests.api.asking import OTHER_CUSTOMER, ask, code_of, full_token, pages, refusal, until
from tests.support import slowness
from tests.support.postgres import TestPostgres
from tests.support.service import CUSTOMER, Service, ServiceFactory, until_shared
from webhook_grpc.domain.tokens import token_hash
from webhook_grpc.hub import hints
from webhook_grpc.hub import tokens as known_tokens
from webhook_grpc.hub.tokens import KnownTokens
from webhook_grpc.settings import Token

pytestmark = pytest.mark.asyncio(loop_scope="module")

ADMIN: Final = [("authorization", "Bearer root")]
VIEWER, PUBLISHER = token_pb2.TOKEN_ROLE_VIEWER, token_pb2.TOKEN_ROLE_PUBLISHER
ROLE_ADMIN: Final = token_pb2.TOKEN_ROLE_ADMIN
SETTINGS: Final[Mapping[str, Any]] = {
    "tokens": (
        Token(name="root", sha256=token_hash("root"), permissions=("read", "publish", "manage", "admin")),
        Token(name="old", sha256=token_hash("old")),
    )
}


@pytest.fixture(scope="module")
def shared_settings() -> Mapping[str, Any]:
    """It knows a configured admin, and a configured token of before there were admins."""
    return SETTINGS


def bearer(token: token_pb2.Token) -> list[tuple[str, str]]:
    """The metadata of a caller with a token that was made."""
    return [("authorization", f"Bearer {token.bearer_token}")]


async def make(service: Service, metadata: Any = ADMIN, **fields: Any) -> token_pb2.Token:
    return await ask(service, "CreateToken", pb.CreateTokenRequest(token=full_token(**fields)), metadata)


async def revoke(service: Service, token: token_pb2.Token, metadata: Any = ADMIN) -> None:
    await ask(service, "RevokeToken", pb.RevokeTokenRequest(token_id=token.token_id), metadata)


async def look(service: Service, token: token_pb2.Token, customer_id: int = CUSTOMER) -> grpc.StatusCode:
    """What a token is good for."""
    return await code_of(ask(service, "ListWebhooks", pb.ListWebhooksRequest(customer_id=customer_id), bearer(token)))


async def test_a_token_works_at_once_and_is_shown_once(service: Service) -> None:
    made = await make(service)

    assert made.bearer_token.startswith(f"whk_{made.token_id}_")
    assert await look(service, made) is grpc.StatusCode.OK
    listed = await ask(service, "ListTokens", pb.ListTokensRequest(), ADMIN)
    [found] = [token for token in listed.tokens if token.token_id == made.token_id]
    made.ClearField("bearer_token")
    assert found == made
    assert found == full_token(token_id=made.token_id, create_time=made.create_time)


async def test_tokens_are_listed_newest_first_page_by_page(service: Service) -> None:
    made = [(await make(service)).token_id for _ in range(5)]

    async def page(token: str) -> Any:
        return await ask(service, "ListTokens", pb.ListTokensRequest(page_size=2, page_token=token), ADMIN)

    found = [token.token_id async for tokens in pages(page, lambda r: r.tokens) for token in tokens]
    assert found[:5] == made[::-1]
    assert found == sorted(set(found), reverse=True)


async def test_a_token_of_some_customers_serves_them_and_no_other(service: Service) -> None:
    made = await make(service, customer_ids=[CUSTOMER, OTHER_CUSTOMER])

    assert await look(service, made, CUSTOMER) is grpc.StatusCode.OK
    assert await look(service, made, OTHER_CUSTOMER) is grpc.StatusCode.OK
    assert await look(service, made, OTHER_CUSTOMER + 1) is grpc.StatusCode.PERMISSION_DENIED
    assert await look(service, made, 0) is grpc.StatusCode.INVALID_ARGUMENT, "it must name one"


async def test_the_configured_tokens_of_before_go_on_and_are_no_admins(service: Service) -> None:
    old = [("authorization", "Bearer old")]
    assert await code_of(ask(service, "ListWebhooks", b"", old)) is grpc.StatusCode.OK
    refused = await refusal(ask(service, "ListTokens", b"", old))
    assert refused.reason == "PERMISSION_MISSING"


async def test_an_event_says_who_published_it_to_those_who_may_see_the_audit(service: Service) -> None:
    publisher, viewer = await make(service, role=PUBLISHER), await make(service, role=VIEWER)
    wanted = pb.CreateAccessTokenRequest(customer_id=CUSTOMER, permissions=[token_pb2.ACCESS_PERMISSION_PUBLISH])
    access = await ask(service, "CreateAccessToken", wanted, ADMIN)
    event = event_pb2.Event(customer_id=CUSTOMER, event_type="job.completed", data_json="{}", publisher="somebody else")
    metadata = (bearer(publisher), ADMIN, [("authorization", f"Bearer {access.bearer_token}")])
    one = [await ask(service, "PublishEvent", pb.PublishEventRequest(event=event), by) for by in metadata]
    batch = pb.BatchPublishEventsRequest(requests=[pb.PublishEventRequest(event=event)])
    in_batch = await ask(service, "BatchPublishEvents", batch, bearer(publisher))
    event_ids = [answer.event_id for answer in (*one, in_batch.results[0].published)]

    def named(request: Any, event_id: str) -> Any:
        return request(customer_id=CUSTOMER, event_id=event_id)

    async def publishers(by: Any) -> list[list[str]]:
        got = [await ask(service, "GetEvent", named(pb.GetEventRequest, id_), by) for id_ in event_ids]
        explained = [await ask(service, "ExplainEvent", named(pb.ExplainEventRequest, id_), by) for id_ in event_ids]
        listed = await ask(service, "ListEvents", pb.ListEventsRequest(customer_id=CUSTOMER, page_size=4), by)
        return [
            [found.publisher for found in got],
            [found.event.publisher for found in explained],
            [found.publisher for found in reversed(listed.events)],
        ]

    name = f"whk_{publisher.token_id}"
    admin = await make(service, role=ROLE_ADMIN)
    for by in (ADMIN, bearer(admin)):
        assert await publishers(by) == [[name, "root", f"access token of root for customer {CUSTOMER}", name]] * 3
    assert await publishers(bearer(viewer)) == [[""] * 4] * 3
    assert await publishers([("authorization", "Bearer old")]) == [[""] * 4] * 3


# --- nobody gives more than it has -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"role": ROLE_ADMIN}, ""),
        ({"role": VIEWER}, ""),
        ({"customer_ids": [OTHER_CUSTOMER]}, "CUSTOMER_NOT_ALLOWED"),
        ({"customer_ids": [CUSTOMER, OTHER_CUSTOMER]}, "CUSTOMER_NOT_ALLOWED"),
        ({"customer_ids": [], "all_customers": True}, "CUSTOMER_NOT_ALLOWED"),
    ],
)
async def test_an_admin_of_a_customer_makes_tokens_for_no_other(
    service: Service, fields: Mapping[str, Any], reason: str
) -> None:
    admin = await make(service, role=ROLE_ADMIN)

    if not reason:
        assert (await make(service, bearer(admin), **fields)).token_id
        return
    refused = await refusal(make(service, bearer(admin), **fields))
    assert (refused.code, refused.reason) == (grpc.StatusCode.PERMISSION_DENIED, reason)


@pytest.mark.parametrize("permission", ["read", "publish", "manage"])
async def test_a_permission_that_one_lacks_can_not_be_given(services: ServiceFactory, permission: Any) -> None:
    others: Any = tuple(p for p in ("read", "publish", "manage", "admin") if p != permission)
    service = await services.start(tokens=(Token(name="root", sha256=token_hash("root"), permissions=others),))
    wanted = {"read": VIEWER, "publish": PUBLISHER, "manage": ROLE_ADMIN}[permission]

    refused = await refusal(make(service, role=wanted))

    assert (refused.code, refused.reason) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_MISSING")
    assert permission in refused.message


async def test_an_admin_of_a_customer_sees_and_revokes_no_tokens_of_others(service: Service) -> None:
    admin = await make(service, role=ROLE_ADMIN)
    own, both = await make(service), await make(service, customer_ids=[CUSTOMER, OTHER_CUSTOMER])
    everybodys = await make(service, customer_ids=[], all_customers=True)

    listed = await ask(service, "ListTokens", pb.ListTokensRequest(page_size=1000), bearer(admin))
    seen = {token.token_id for token in listed.tokens}
    assert seen & {own.token_id, both.token_id, everybodys.token_id} == {own.token_id}
    for hidden in (both.token_id, everybodys.token_id, 2**62):
        refused = await refusal(ask(service, "RevokeToken", pb.RevokeTokenRequest(token_id=hidden), bearer(admin)))
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "TOKEN_NOT_FOUND")
        assert refused.message == f"token {hidden} does not exist", "the same for those that exist"
    await revoke(service, own, bearer(admin))


# --- revoked ---------------------------------------------------------------------------------------------------------


class Looks:
    """The looks of processes at the tokens that they know: which began after something, and have ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._numbers = itertools.count()
        self._ended = dict[KnownTokens, int]()
        self._changed = asyncio.Event()
        look_at_all: Any = KnownTokens._look  # pyright: ignore[reportPrivateUsage]

        async def numbered(known: KnownTokens) -> None:
            number = next(self._numbers)
            await look_at_all(known)
            self._ended[known] = number
            self._changed.set()

        monkeypatch.setattr(KnownTokens, "_look", numbered)

    def now(self) -> int:
        """Returns a number between those of looks that have begun and those of looks that will."""
        return next(self._numbers)

    async def after(self, number: int, place: Service) -> None:
        """Returns when a look of this process has ended that began after this number."""
        known = place.app._tokens  # pyright: ignore[reportPrivateUsage]
        async with slowness.timeout(20):
            while self._ended.get(known, -1) < number:
                self._changed.clear()
                await self._changed.wait()


@dataclass
class Watching:
    """The streams of a token at both doors of a process."""

    place: Service
    token: token_pb2.Token
    stream: Any
    lines: aiohttp.StreamReader
    session: aiohttp.ClientSession

    async def refused(self) -> list[str]:
        """Returns why the next calls are refused, one at each door, and why both streams end."""
        call = pb.ListWebhooksRequest(customer_id=CUSTOMER)
        refused = await refusal(ask(self.place, "ListWebhooks", call, bearer(self.token)))
        async with self.session.get(f"/api/webhooks?customer_id={CUSTOMER}") as answer:
            over_http = (await answer.json(content_type=None))["reason"]
        ends = await refusal(ended(self.stream))
        async with slowness.timeout(20):
            *_, last = [line async for line in self.lines]
        return [refused.reason, over_http, ends.reason, json.loads(last)["problem"]["reason"]]

    async def goes_on(self) -> bool:
        """Returns whether calls are served and streams open."""
        async with self.session.get(f"/api/webhooks?customer_id={CUSTOMER}") as answer:
            is_served = (answer.status, await look(self.place, self.token)) == (200, grpc.StatusCode.OK)
        return is_served and not self.stream.done() and not self.lines.at_eof()


@asynccontextmanager
async def watching(place: Service, token: token_pb2.Token) -> AsyncGenerator[Watching]:
    """Opens both streams; they have begun."""
    base, headers = f"http://127.0.0.1:{place.app.http_port}", {"Authorization": f"Bearer {token.bearer_token}"}
    stream: Any = place.stub.WatchDeliveries(pb.WatchDeliveriesRequest(), metadata=bearer(token))
    await stream.read()
    async with (
        aiohttp.ClientSession(base, headers=headers) as session,
        session.get("/api/deliveries:watch", headers={"Accept": "application/x-ndjson"}) as answer,
    ):
        await answer.content.readline()
        yield Watching(place, token, stream, answer.content, session)
    stream.cancel()


@pytest.mark.slow(3)
@pytest.mark.parametrize("is_heard", [True, False], ids=["by a hint", "though the hint is lost"])
async def test_a_revoked_token_ends_at_both_doors_of_every_process_and_so_do_its_streams(
    services: ServiceFactory, monkeypatch: pytest.MonkeyPatch, postgres: TestPostgres, is_heard: bool
) -> None:
    """With the next look of each process: they are no further apart than half of what is promised."""
    if is_heard:
        monkeypatch.setattr(known_tokens, "LOOK_SECONDS", 3600.0)
    else:
        monkeypatch.setattr(hints, "NOTIFY", "SELECT %s::text")
        assert known_tokens.LOOK_SECONDS <= 1.0
    looks = Looks(monkeypatch)
    places = [await services.start(**SETTINGS, http_address="127.0.0.1:0") for _ in range(2)]
    await until_shared(*places)  # whoever is alone sends no hints
    await until(lambda: postgres.rows(LISTENING) == [(len(places),)])
    revoked, kept = await make(places[0]), await make(places[0])
    async with AsyncExitStack() as opened:
        ending, staying = [
            [await opened.enter_async_context(watching(place, token)) for place in places] for token in (revoked, kept)
        ]
        now = looks.now()
        await revoke(places[0], revoked)
        if not is_heard:  # they go on by themselves, so one may have begun before the token was gone
            now = looks.now()
        for place in places:
            await looks.after(now, place)
        for one in ending:
            assert await one.refused() == ["TOKEN_INVALID"] * 4
        for one in staying:
            assert await one.goes_on()


LISTENING: Final = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'webhook-grpc listen' AND state = 'idle'
    AND query LIKE '%%LISTEN%%'
"""


async def ended(stream: Any) -> None:
    """Reads a stream until it ends."""
    async with slowness.timeout(20):
        while await stream.read():  # the end is false
            pass


async def test_the_use_of_a_token_is_shown_a_little_later(
    service: Service, monkeypatch: pytest.MonkeyPatch, postgres: TestPostgres
) -> None:
    made, unused = await make(service), await make(service)
    monkeypatch.setattr("webhook_grpc.store.registry.tokens.USES_SECONDS_MIN", 0)
    assert await look(service, made) is grpc.StatusCode.OK

    async with slowness.timeout(20):
        while not postgres.rows("SELECT 1 FROM tokens WHERE last_used_at IS NOT NULL"):
            await look(service, made)
    listed = await ask(service, "ListTokens", pb.ListTokensRequest(page_size=2), ADMIN)
    shown = {token.token_id: token.last_use_time for token in listed.tokens}
    assert shown[made.token_id].ToDatetime() >= made.create_time.ToDatetime()
    assert shown[unused.token_id] == Timestamp()

"""Every method with every caller that may not: read off the service's descriptor, so a method that is missing fails.

The tokens are those of the database; tests/api/test_auth.py has configured ones.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, fields
from typing import Any, Final, cast

import aiohttp
import grpc
import psycopg
import pytest
import pytest_asyncio
from google.api.field_behavior_pb2 import FieldBehavior, field_behavior
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from webhook.v1 import service_pb2 as pb
from webhook.v1 import token_pb2

from tests.api.asking import (
    METHODS,
    OTHER_CUSTOMER,
    STREAMS,
    World,
    ask,
    full_event,
    full_token,
    furnish,
    refusal,
    until,
    valid_requests,
    world_of,
)
from tests.support.postgres import TestPostgres
from tests.support.service import CUSTOMER, Service, ServiceFactory
from webhook_grpc.api.methods import METHODS as TABLE
from webhook_grpc.server import calls

pytestmark = [pytest.mark.fast, pytest.mark.asyncio(loop_scope="module")]

ROLES: Final = {
    "admin": token_pb2.TOKEN_ROLE_ADMIN,
    "publisher": token_pb2.TOKEN_ROLE_PUBLISHER,
    "viewer": token_pb2.TOKEN_ROLE_VIEWER,
}
LACKING: Final = {"read": ("publisher",), "publish": ("viewer",), "manage": ("publisher", "viewer")}
# Ids begin here, far enough from those that do not exist, and all are equally long: answers can be compared as bytes.
BEGIN: Final = (
    "SELECT setval(pg_get_serial_sequence('webhooks', 'id'), 41000000)",
    "SELECT setval(pg_get_serial_sequence('replays', 'replay_id'), 52000000)",
    "SELECT setval(pg_get_serial_sequence('tokens', 'token_id'), 63000000)",
)
APART: Final = 5_000_000
PERMISSION_OF: Final = {row.name: row.permission for row in TABLE}


@dataclass(frozen=True)
class Scene:
    """A service, what there is in it, and what callers send as `authorization`."""

    service: Service
    world: World
    sent: Mapping[str, str]

    @property
    def absent(self) -> World:
        """Ids of the same times that do not exist."""
        event_id = self.world.event_id[:-1] + ("0" if self.world.event_id[-1] != "0" else "1")
        made = self.world
        return world_of(made.webhook_id + APART, event_id, made.replay_id + APART, made.token_id + APART)

    async def refused(self, method: str, request: Message | bytes, who: str) -> tuple[grpc.StatusCode, str, str]:
        metadata = [("authorization", self.sent[who])] if who in self.sent else []
        found = await refusal(ask(self.service, method, request, metadata))
        return found.code, found.reason, found.message


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Scene]:
    """Made by calls without a token, at a process that takes these; asked at one that does not."""
    postgres.empty()
    for statement in BEGIN:
        postgres.rows(statement)
    services = ServiceFactory(postgres.url, tmp_path_factory.mktemp("services"))
    maker = await services.start()
    world = await furnish(maker)

    async def make(**fields: Any) -> token_pb2.Token:
        return await ask(maker, "CreateToken", pb.CreateTokenRequest(token=full_token(**fields)))

    made = {role: await make(role=number) for role, number in ROLES.items()}
    made["other"] = await make(role=ROLES["admin"], customer_ids=[OTHER_CUSTOMER])
    made["expired"], made["revoked"] = await make(role=ROLES["admin"]), await make(role=ROLES["admin"])
    postgres.rows("UPDATE tokens SET expires_at = now() WHERE token_id = %s", (made["expired"].token_id,))
    await ask(maker, "RevokeToken", pb.RevokeTokenRequest(token_id=made["revoked"].token_id))
    sent = {name: f"Bearer {token.bearer_token}" for name, token in made.items()}
    sent["bad"] = sent["admin"][:-1] + ("A" if sent["admin"][-1] != "A" else "B")
    sent["unknown"] = sent["admin"].replace(f"whk_{made['admin'].token_id}_", f"whk_{2**62}_")
    sent["malformed"] = f"Basic {made['admin'].bearer_token}"
    asked = await services.start(
        allow_anonymous=False, http_address="127.0.0.1:0", audit_refusals_per_minute_max=10_000
    )
    yield Scene(asked, world, sent)
    await services.stop()


@pytest.mark.parametrize("method", METHODS)
async def test_who_does_not_prove_who_it_is_gets_nothing(scene: Scene, method: str) -> None:
    request = valid_requests(scene.world)[method]
    answers = {
        who: [await scene.refused(method, sent, who) for sent in (request, b"\xff")]  # nothing is parsed before
        for who in ("nobody", "malformed", "bad", "unknown", "revoked", "expired")
    }
    for first, second in answers.values():
        assert first == second
    assert {code for [(code, *_), _] in answers.values()} == {grpc.StatusCode.UNAUTHENTICATED}
    reasons = {who: reason for who, [(_, reason, _), _] in answers.items()}
    assert reasons == {
        "nobody": "TOKEN_MISSING",
        "malformed": "TOKEN_INVALID",
        "bad": "TOKEN_INVALID",
        "unknown": "TOKEN_INVALID",
        "revoked": "TOKEN_INVALID",
        "expired": "TOKEN_EXPIRED",
    }
    assert answers["bad"] == answers["unknown"] == answers["revoked"], "no hint which of them it is"


@pytest.mark.parametrize("method", METHODS)
async def test_a_role_without_the_permission_is_refused(scene: Scene, method: str) -> None:
    request = valid_requests(scene.world)[method]
    for role in LACKING.get(PERMISSION_OF[method], ("publisher", "viewer")):
        code, reason, message = await scene.refused(method, request, role)
        assert (code, reason) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_MISSING")
        assert f"`{PERMISSION_OF[method]}`" in message


@pytest.mark.parametrize("method", METHODS)
async def test_of_another_customer_what_exists_is_answered_like_what_does_not(scene: Scene, method: str) -> None:
    existing, absent = (valid_requests(world)[method] for world in (scene.world, scene.absent))
    if method == "BatchPublishEvents":
        metadata = [("authorization", scene.sent["other"])]
        [result] = (await ask(scene.service, method, existing, metadata)).results
        assert result.error.reason == "CUSTOMER_NOT_ALLOWED"
        return
    if method in {"GetEventType", "ListEventTypes"}:
        return  # everybody may read them: they belong to no customer
    if method == "ListTokens":
        found = await ask(scene.service, method, existing, [("authorization", scene.sent["other"])])
        assert all(set(token.customer_ids) == {OTHER_CUSTOMER} for token in found.tokens)
        return
    first, second = [await scene.refused(method, request, "other") for request in (existing, absent)]
    if method == "RevokeToken":
        assert first[:2] == second[:2] == (grpc.StatusCode.NOT_FOUND, "TOKEN_NOT_FOUND")
        assert first[2].replace(str(scene.world.token_id), str(scene.absent.token_id)) == second[2]
        return
    assert first == second
    assert first[:2] == (grpc.StatusCode.PERMISSION_DENIED, "CUSTOMER_NOT_ALLOWED")


# --- ids of others: the same answer for the same work ----------------------------------------------------------------

IDS: Final = frozenset({"webhook_id", "webhook_ids", "event_id", "delivery_id", "replay_id", "token_id"})
FILTERING: Final = frozenset({"ListDeliveries", "WatchDeliveries"})  # by ids: nothing is found
OWN_OF_A_STREAM: Final = ("cursor", "server_time")


@dataclass(frozen=True)
class Statement:
    """A statement that ran for a call, and how many rows Postgres returned or changed."""

    text: str
    rows: int


class Calls:
    """What each call runs, in the order in which they came: whatever connection it takes, a loop's own too."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ran = list[list[Statement]]()
        current = ContextVar[list[Statement] | None]("statements of a call", default=None)
        execute: Any = psycopg.AsyncCursor.execute
        serve = calls.Calls.serve

        async def served(own: calls.Calls, method: Any, exchange: Any) -> Any:
            self.ran.append([])
            current.set(self.ran[-1])
            return await serve(own, method, exchange)

        async def executed(cursor: Any, query: Any, *arguments: Any, **options: Any) -> Any:
            done = await execute(cursor, query, *arguments, **options)
            if (ran := current.get()) is not None:
                ran.append(Statement(str(query), cursor.rowcount))
            return done

        monkeypatch.setattr(psycopg.AsyncCursor, "execute", executed)
        monkeypatch.setattr(calls.Calls, "serve", served)


async def answered(scene: Scene, method: str, request: Message) -> bytes:
    """Returns all bytes of an answer, an error's too, but for what a stream makes of the clock."""
    metadata = [("authorization", scene.sent["other"]), ("x-request-id", "the-same")]
    try:
        response = await ask(scene.service, method, request, metadata)
    except grpc.aio.AioRpcError as error:
        return repr((error.code(), error.details(), *(error.trailing_metadata() or ()))).encode()
    if method in STREAMS:
        for field in OWN_OF_A_STREAM:
            response.ClearField(field)
    return response.SerializeToString(deterministic=True)


def named_in(world: World, message: Message) -> bool:
    """Returns whether a request has an id of this world: they are so long that nothing else looks like one."""
    ids = (world.webhook_id, world.event_id, world.replay_id, world.token_id)
    return any(str(one) in str(message) for one in ids)


def ids_below(descriptor: Any) -> set[str]:
    """Returns which ids a caller may name in a request, or in the resource in it."""
    inner = (field.message_type for field in descriptor.fields if field.message_type is not None)
    found = (*descriptor.fields, *(field for message in inner for field in message.fields))
    return {field.name for field in found if not _is_answer(field)} & IDS


def _is_answer(field: FieldDescriptor) -> bool:
    return FieldBehavior.Value("OUTPUT_ONLY") in field.GetOptions().Extensions[cast("Any", field_behavior)]


@pytest.mark.parametrize("method", METHODS)
async def test_an_id_of_another_customer_takes_the_same_statements_to_the_same_answer_as_one_that_does_not_exist(
    scene: Scene, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever measures the time learns nothing: what is done is the same, and Postgres finds as many rows."""
    theirs, nobodys = (valid_requests(world, OTHER_CUSTOMER)[method] for world in (scene.world, scene.absent))
    if not named_in(scene.world, theirs):
        assert not ids_below(theirs.DESCRIPTOR), "name those of the world in valid_requests"
        return
    await answered(scene, method, nobodys)  # what is read once for all calls
    made = Calls(monkeypatch)
    answers = [await answered(scene, method, request) for request in (theirs, nobodys)]
    of_theirs, of_nobodys = made.ran
    if method in STREAMS:  # it goes on after its first message, as far as it comes
        of_theirs, of_nobodys = of_theirs[: len(of_nobodys)], of_nobodys[: len(of_theirs)]
    assert of_theirs == of_nobodys
    assert of_theirs, "nothing was looked up"
    assert replaced(answers[0], scene) == answers[1]
    assert (b"NOT_FOUND" in answers[1]) is (method not in FILTERING)


def replaced(answer: bytes, scene: Scene) -> bytes:
    """Returns an answer with the ids that do not exist in the place of those that do: they are equally long."""
    pairs = [[str(getattr(world, field.name)) for world in (scene.world, scene.absent)] for field in fields(World)]
    for own, absent in sorted(pairs, key=lambda pair: -len(pair[0])):  # a delivery's id has those of two others in it
        assert len(own) == len(absent)
        answer = answer.replace(own.encode(), absent.encode())
    return answer


# --- over HTTP: one of each kind -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "verb", "path", "status", "reason"),
    [
        ("nobody", "GET", "/v1/webhooks", 401, "TOKEN_MISSING"),
        ("bad", "GET", "/v1/webhooks", 401, "TOKEN_INVALID"),
        ("revoked", "GET", "/v1/webhooks", 401, "TOKEN_INVALID"),
        ("expired", "GET", "/v1/webhooks", 401, "TOKEN_EXPIRED"),
        ("other", "GET", f"/v1/webhooks?customer_id={CUSTOMER}", 403, "CUSTOMER_NOT_ALLOWED"),
        ("viewer", "DELETE", "/v1/webhooks/1", 403, "PERMISSION_MISSING"),
        ("viewer", "GET", "/v1/tokens", 403, "PERMISSION_MISSING"),
        ("other", "DELETE", f"/v1/tokens/{2**62}", 404, "TOKEN_NOT_FOUND"),
    ],
)
async def test_the_other_door_refuses_the_same(
    scene: Scene, who: str, verb: str, path: str, status: int, reason: str
) -> None:
    async with aiohttp.ClientSession() as session:
        headers = {"Authorization": scene.sent[who]} if who in scene.sent else {}
        url = f"http://127.0.0.1:{scene.service.app.http_port}{path}"
        async with session.request(verb, url, headers=headers) as answer:
            assert (answer.status, (await answer.json(content_type=None))["reason"]) == (status, reason)


# --- what the audit has of it ----------------------------------------------------------------------------------------


async def test_refused_calls_of_known_callers_come_into_the_audit_from_both_doors(
    scene: Scene, postgres: TestPostgres
) -> None:
    theirs = valid_requests(scene.world, OTHER_CUSTOMER)["DeleteWebhook"]

    def sent_by(who: str) -> list[tuple[str, str]]:
        return [("authorization", scene.sent[who]), ("x-request-id", "refused-grpc")]

    for who in ("viewer", "other", "bad"):
        await refusal(ask(scene.service, "DeleteWebhook", theirs, sent_by(who)))
    async with aiohttp.ClientSession() as session:
        headers = {"Authorization": scene.sent["viewer"], "x-request-id": "refused-http"}
        url = f"http://127.0.0.1:{scene.service.app.http_port}/v1/webhooks/7?customer_id=1"
        async with session.delete(url, headers=headers) as answer:
            assert answer.status == 403

    def noted() -> list[tuple[Any, ...]]:
        return postgres.rows(
            "SELECT request_id, method, resources, result, reason FROM audit_entries"
            " WHERE request_id LIKE 'refused-%%' AND source_address IN ('127.0.0.1', '::1') ORDER BY entry_id"
        )

    await until(lambda: len(noted()) >= 3)
    lacking = ("PERMISSION_DENIED", "PERMISSION_MISSING")
    assert noted() == [
        ("refused-grpc", "DeleteWebhook", [], *lacking),
        ("refused-grpc", "DeleteWebhook", [f"webhook:{scene.world.webhook_id}"], "NOT_FOUND", "WEBHOOK_NOT_FOUND"),
        ("refused-http", "DeleteWebhook", [], *lacking),
    ]
    listed = await ask(
        scene.service, "ListAuditEntries", pb.ListAuditEntriesRequest(), [("authorization", scene.sent["admin"])]
    )
    [entry] = [entry for entry in listed.entries if entry.call_id == "refused-http"]
    assert (entry.result, entry.reason, entry.source_address) == (*lacking, "127.0.0.1")
    assert entry.caller_token_id == token_id_of(scene.sent["viewer"])


async def test_a_batch_with_events_for_another_customer_leaves_one_entry_though_the_call_succeeds(
    scene: Scene, postgres: TestPostgres
) -> None:
    """Else whoever may publish could try all customers, and only the log would have it."""
    sent = [("authorization", scene.sent["other"]), ("x-request-id", "batch-of-another")]
    requests = [
        pb.PublishEventRequest(event=full_event(customer_id=customer_id))
        for customer_id in (CUSTOMER, OTHER_CUSTOMER, CUSTOMER)
    ]
    response = await ask(scene.service, "BatchPublishEvents", pb.BatchPublishEventsRequest(requests=requests), sent)
    assert [result.WhichOneof("result") for result in response.results] == ["error", "published", "error"]

    def noted() -> list[tuple[Any, ...]]:
        return postgres.rows(
            "SELECT method, customer_id, resources, result, reason FROM audit_entries"
            " WHERE request_id = 'batch-of-another'"
        )

    await until(lambda: bool(noted()))
    lacking = ("PERMISSION_DENIED", "CUSTOMER_NOT_ALLOWED")
    assert noted() == [("BatchPublishEvents", OTHER_CUSTOMER, [], *lacking)]


async def test_an_admin_of_some_customers_sees_the_entries_of_these_and_no_other(scene: Scene) -> None:
    other = [("authorization", scene.sent["other"]), ("x-request-id", "of-the-other")]
    await ask(
        scene.service, "CreateToken", pb.CreateTokenRequest(token=full_token(customer_ids=[OTHER_CUSTOMER])), other
    )

    async def listed(who: str, **fields: Any) -> list[Any]:
        request = pb.ListAuditEntriesRequest(page_size=1000, **fields)
        return list(
            (await ask(scene.service, "ListAuditEntries", request, [("authorization", scene.sent[who])])).entries
        )

    seen = await listed("other")
    assert {entry.customer_id for entry in seen} == {OTHER_CUSTOMER}
    [made] = [entry for entry in seen if entry.call_id == "of-the-other"]
    assert (made.method, made.caller_token_id) == ("CreateToken", token_id_of(scene.sent["other"]))
    assert list(made.fields) == ["customer_ids", "description", "expire_time", "role"]
    assert await listed("other", customer_id=OTHER_CUSTOMER) == seen
    assert {entry.customer_id for entry in await listed("admin")} == {CUSTOMER}


def token_id_of(sent: str) -> int:
    """The number in what a caller sends: `Bearer whk_<id>_<secret>`."""
    return int(sent.split("_")[1])

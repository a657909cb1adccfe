"""Every method with every caller that may not: read off the service's descriptor, so a method that is missing fails.

The tokens are those of the database; tests/api/test_auth.py has configured ones.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import grpc
import pytest
import pytest_asyncio
from google.protobuf.message import Message
from webhook.v1 import service_pb2 as pb
from webhook.v1 import token_pb2

from tests.api.asking import (
    METHODS,
    OTHER_CUSTOMER,
    World,
    ask,
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

pytestmark = [pytest.mark.fast, pytest.mark.asyncio(loop_scope="module")]

ROLES: Final = {
    "admin": token_pb2.TOKEN_ROLE_ADMIN,
    "publisher": token_pb2.TOKEN_ROLE_PUBLISHER,
    "viewer": token_pb2.TOKEN_ROLE_VIEWER,
}
LACKING: Final = {"read": ("publisher",), "publish": ("viewer",), "manage": ("publisher", "viewer")}
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
        return world_of(2**62, event_id, 2**62, 2**62)

    async def refused(self, method: str, request: Message | bytes, who: str) -> tuple[grpc.StatusCode, str, str]:
        metadata = [("authorization", self.sent[who])] if who in self.sent else []
        found = await refusal(ask(self.service, method, request, metadata))
        return found.code, found.reason, found.message


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Scene]:
    """Made by calls without a token, at a process that takes these; asked at one that does not."""
    postgres.empty()
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


# What a customer's own token finds if it names itself, and an id of another customer.
BY_ID: Final = (
    "GetWebhook", "UpdateWebhook", "DeleteWebhook", "PauseWebhook", "ResumeWebhook", "RotateWebhookSecret",
    "TestWebhook", "GetWebhookStats", "GetEvent", "ExplainEvent", "GetDelivery", "RetryDelivery", "CancelDelivery",
    "GetReplay", "CancelReplay",
)  # fmt: skip


@pytest.mark.parametrize("method", BY_ID)
async def test_an_id_of_another_customer_is_answered_like_one_that_does_not_exist(scene: Scene, method: str) -> None:
    theirs, nobodys = (valid_requests(world, OTHER_CUSTOMER)[method] for world in (scene.world, scene.absent))
    first, second = [await scene.refused(method, request, "other") for request in (theirs, nobodys)]
    assert first[:2] == second[:2]
    assert first[0] is grpc.StatusCode.NOT_FOUND
    names = {
        scene.world.delivery_id: scene.absent.delivery_id,
        scene.world.event_id: scene.absent.event_id,
        f" {scene.world.webhook_id} ": f" {scene.absent.webhook_id} ",
        f" {scene.world.replay_id} ": f" {scene.absent.replay_id} ",
    }
    message = first[2]
    for own, absent in names.items():
        message = message.replace(own, absent)
    assert message == second[2]


async def test_every_method_that_names_an_id_is_compared() -> None:
    service = pb.DESCRIPTOR.services_by_name["WebhookService"]
    ids = {"webhook_id", "event_id", "delivery_id", "replay_id"}
    for rpc in service.methods:
        named = ids & {field.name for field in rpc.input_type.fields}
        is_filter = rpc.name.startswith(("List", "Watch"))
        takes_id = bool(named and not is_filter) or rpc.name == "UpdateWebhook"
        assert takes_id == (rpc.name in BY_ID), rpc.name


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

"""The audit: each call that changes something leaves one entry, which says who, from where and what, and no values."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Final, LiteralString

import pytest
import pytest_asyncio
from webhook.v1 import service_pb2 as pb

from tests.api.asking import World, ask, furnish, refusal, until, valid_requests
from tests.support.postgres import TestPostgres
from tests.support.service import CUSTOMER, Service, ServiceFactory
from webhook_grpc.api.methods import METHODS

pytestmark = [pytest.mark.fast, pytest.mark.asyncio(loop_scope="module")]

CHANGING: Final = tuple(method.name for method in METHODS if method.changes)
# Reads by their names; an event says itself who has sent it; nothing of an access token is stored.
UNCHANGING: Final = (
    *(m.name for m in METHODS if m.name.startswith(("Get", "List", "Watch", "Explain"))),
    "PublishEvent",
    "BatchPublishEvents",
    "CreateAccessToken",
)


ENTRIES: Final = """
SELECT method, caller, caller_token_id, source_address, customer_id, resources, fields, result, reason
FROM audit_entries WHERE request_id = %s
"""


# What calls change, as far as the service itself does not go on with it meanwhile.
STATE: Final[tuple[LiteralString, ...]] = (
    *("SELECT w::text FROM webhooks w", "SELECT e::text FROM event_types e", "SELECT e::text FROM erasures e"),
    *("SELECT token_id::text FROM tokens", "SELECT k::text FROM signing_keys k"),
    "SELECT replay_id || status FROM replays WHERE status = 'cancelled' UNION ALL SELECT replay_id::text FROM replays",
    "SELECT c::text FROM commands c WHERE command <> 'replay'",
)

# What calls of before have begun, and the service has not ended yet.
UNDER_WAY: Final = """
SELECT 1 FROM erasures WHERE completed_at IS NULL UNION ALL SELECT 1 FROM commands WHERE command <> 'replay'
"""


@dataclass(frozen=True)
class Scene:
    """A service that takes calls without a token, and what there is in it."""

    service: Service
    postgres: TestPostgres

    async def ask(self, method: str, request: Any, request_id: str) -> Any:
        """Calls a method under an id of the call, which is also the one that makes a repetition harmless."""
        if "request_id" in request.DESCRIPTOR.fields_by_name and method.startswith(("Create", "Rotate", "Retry")):
            request.request_id = request.request_id and f"{method}-{request_id.removesuffix('-again')}"
        return await ask(self.service, method, request, [("x-request-id", request_id)])

    def entries(self, request_id: str) -> list[tuple[Any, ...]]:
        """What a call has left."""
        return self.postgres.rows(ENTRIES, (request_id,))

    async def refused(self, method: str, request: Any) -> None:
        """Calls a method while its entry can't be stored: then nothing of what it changes is, either."""
        await until(lambda: not self.postgres.rows(UNDER_WAY))
        before = [sorted(self.postgres.rows(statement)) for statement in STATE]
        self.postgres.rows("ALTER TABLE audit_entries ADD CONSTRAINT full_up CHECK (false) NOT VALID")
        try:
            refused = await refusal(self.ask(method, request, "no-room"))
            assert refused.reason == "STORAGE_UNAVAILABLE"
            assert [sorted(self.postgres.rows(statement)) for statement in STATE] == before
        finally:
            self.postgres.rows("ALTER TABLE audit_entries DROP CONSTRAINT full_up")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Scene]:
    postgres.empty()
    services = ServiceFactory(postgres.url, tmp_path_factory.mktemp("services"))
    yield Scene(await services.start(replays_per_customer_max=1000), postgres)
    await services.stop()


async def test_every_method_changes_something_or_is_known_not_to() -> None:
    assert sorted((*CHANGING, *UNCHANGING)) == sorted(method.name for method in METHODS)


# What each call names of `world`, the fields that its request sets or changes, and what has to be done before.
RESOURCES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("UpdateWebhook", "DeleteWebhook", "PauseWebhook", "ResumeWebhook"), "webhook:{webhook_id}"),
    "RotateWebhookSecret": "webhook:{webhook_id}",
    "UpdateEventType": "event_type:job.completed",
    "CreateEventType": "event_type:order.paid",
    "RetryDelivery": "delivery:{delivery_id}",
    "CancelDelivery": "delivery:{delivery_id}",
    "CancelReplay": "replay:{replay_id}",
    "DeleteCustomerData": f"customer:{CUSTOMER}",
    "RevokeToken": "token:{token_id}",
}
MADE: Final = {
    "CreateWebhook": ("webhook", "webhook_id"),
    "CreateReplay": ("replay", "replay_id"),
    "CreateToken": ("token", "token_id"),
    "RotateSigningKey": ("signing_key", "key_id"),
}
FIELDS: Final[Mapping[str, list[str]]] = {
    "UpdateWebhook": ["description", "name"],
    "UpdateEventType": ["archived", "description", "json_schema"],
    "RotateWebhookSecret": ["secret"],
    "CreateToken": ["customer_ids", "description", "expire_time", "role"],
}
BEFORE: Final = {"PauseWebhook": "ResumeWebhook", "RetryDelivery": "CancelDelivery"}


def resource_of(method: str, world: World, response: Any) -> list[str]:
    if method in MADE:
        kind, field = MADE[method]
        return [f"{kind}:{getattr(response, field)}"]
    if method == "TestWebhook":
        return [f"webhook:{world.webhook_id}", f"delivery:{response.delivery.delivery_id}"]
    return [RESOURCES[method].format(**vars_of(world))]


def vars_of(world: World) -> dict[str, Any]:
    return {name: getattr(world, name) for name in ("webhook_id", "event_id", "delivery_id", "replay_id", "token_id")}


@pytest.mark.parametrize("method", CHANGING)
async def test_a_call_that_changes_something_leaves_one_entry_or_else_changes_nothing(
    scene: Scene, method: str
) -> None:
    world = await furnish(scene.service)
    requests = valid_requests(world)
    if method in BEFORE:
        await scene.ask(BEFORE[method], requests[BEFORE[method]], "before")
    await scene.refused(method, requests[method])
    response = await scene.ask(method, requests[method], f"call-of-{method}")
    [(name, caller, token_id, source, customer_id, resources, fields, result, reason)] = scene.entries(
        f"call-of-{method}"
    )
    assert (name, caller, token_id) == (method, "anonymous", None)
    assert source in {"127.0.0.1", "::1"}
    assert resources == resource_of(method, world, response)
    assert (result, reason) == ("OK", "")
    is_of_customer = "EventType" not in method and "Token" not in method
    assert customer_id == (CUSTOMER if is_of_customer else None)
    if method in FIELDS:
        assert fields == FIELDS[method]
    elif method.startswith("Create"):
        assert fields == sorted(fields)
        assert {"events", "statuses", "description"} & set(fields)


async def test_a_call_that_changes_nothing_leaves_none(scene: Scene) -> None:
    requests = valid_requests(await furnish(scene.service))
    for method in UNCHANGING:
        await scene.ask(method, requests[method], "read")
    assert scene.entries("read") == []


async def test_a_repeated_call_and_one_that_fails_leave_none(scene: Scene) -> None:
    world = await furnish(scene.service)
    requests = valid_requests(world)
    for method in ("CreateWebhook", "RotateWebhookSecret", "CreateReplay"):
        await scene.ask(method, requests[method], "repeated")
        await scene.ask(method, requests[method], "repeated-again")
    gone = pb.RevokeTokenRequest(token_id=2**62)
    await refusal(scene.ask("RevokeToken", gone, "repeated-again"))
    dry: Any = pb.CreateReplayRequest.FromString(requests["CreateReplay"].SerializeToString())
    dry.dry_run = True
    await refusal(scene.ask("PauseWebhook", requests["PauseWebhook"], "repeated-again"))
    await scene.ask("CreateReplay", dry, "dry")
    assert len(scene.entries("repeated")) == 3
    assert scene.entries("repeated-again") == scene.entries("dry") == []


async def test_a_disabled_webhook_that_is_resumed_leaves_one_entry(scene: Scene) -> None:
    """Its statement is another one than that of a paused webhook: it opens the breaker too."""
    world = await furnish(scene.service)
    scene.postgres.rows("UPDATE webhooks SET status = 'disabled' WHERE id = %s", (world.webhook_id,))
    await scene.ask("ResumeWebhook", valid_requests(world)["ResumeWebhook"], "disabled-before")
    [(method, *_, resources, _, result, _)] = scene.entries("disabled-before")
    assert (method, resources, result) == ("ResumeWebhook", [f"webhook:{world.webhook_id}"], "OK")


async def test_no_value_is_in_the_audit(scene: Scene) -> None:
    requests = valid_requests(await furnish(scene.service))
    for method in ("CreateWebhook", "UpdateWebhook", "CreateToken", "UpdateEventType", "TestWebhook"):
        await scene.ask(method, requests[method], "values")
    [(found,)] = scene.postgres.rows("SELECT string_agg(a::text, E'\n') FROM audit_entries a")
    assert "url" in found
    for value in ("https:", "whsec_", "Grüße", "blue", "warehouse", "at last", "whk_", "127.0.0.1:"):
        assert value not in found


async def test_the_audit_is_listed_page_by_page_newest_first(scene: Scene) -> None:
    world = await furnish(scene.service)
    requests = valid_requests(world)
    for method in ("UpdateWebhook", "ResumeWebhook", "CreateToken", "DeleteWebhook"):
        await scene.ask(method, requests[method], "listed")

    async def page(token: str, **fields: Any) -> Any:
        request = pb.ListAuditEntriesRequest(page_size=2, page_token=token, **fields)
        return await scene.ask("ListAuditEntries", request, "list")

    first = await page("")
    second = await page(first.next_page_token)
    listed = [*first.entries, *second.entries]
    assert [entry.method for entry in listed] == ["DeleteWebhook", "CreateToken", "ResumeWebhook", "UpdateWebhook"]
    assert [entry.entry_id for entry in listed] == sorted((entry.entry_id for entry in listed), reverse=True)
    assert [entry.method for entry in (await page("", customer_id=CUSTOMER)).entries] == [
        "DeleteWebhook",
        "ResumeWebhook",
    ]
    updated = listed[-1]
    assert (updated.caller, updated.caller_token_id, updated.call_id) == ("anonymous", 0, "listed")
    assert (list(updated.resources), list(updated.fields)) == (
        [f"webhook:{world.webhook_id}"],
        ["description", "name"],
    )
    assert (updated.customer_id, updated.result, updated.reason) == (CUSTOMER, "OK", "")
    assert updated.HasField("create_time")

"""`keys rotate`: the key of what is sealed is changed beside running servers, and the old key is then not needed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook as StandardWebhook
from webhook.v1 import service_pb2, webhook_pb2

from tests.engine.test_keys import NEW_ID, NEW_KEY, OLD_ID
from tests.support.postgres import TestPostgres
from tests.support.receiver import Received, Receiver
from tests.support.service import CUSTOMER, SECRET, SECRET_KEY, Service, ServiceFactory
from tests.support.store import AUDIT, options
from webhook_grpc.commands.keys import standing
from webhook_grpc.commands.resealing import KeysFailed, KeyUse, Resealing, uses_of_keys
from webhook_grpc.domain.model import WebhookSpec
from webhook_grpc.domain.sealing import Sealer, key_id_text
from webhook_grpc.store.db import Database
from webhook_grpc.store.registry import resealing as store
from webhook_grpc.store.registry import webhooks
from webhook_grpc.store.registry.resealing import Kind
from webhook_grpc.store.registry.secret_keys import SealedSecret
from webhook_grpc_client import verify_signature

BOTH = (NEW_KEY, SECRET_KEY)
OTHER_SECRET = "whsec_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="
HEAD = """
SELECT DISTINCT encode(substr(s, 2, 4), 'hex')
FROM (
    SELECT unnest(ARRAY[secret, previous_secret, sealed_headers, sealed_query]) FROM webhooks
    UNION ALL
    SELECT private_key FROM signing_keys
) sealed(s)
WHERE s IS NOT NULL
"""


@contextlib.asynccontextmanager
async def database_of(postgres: TestPostgres) -> AsyncGenerator[Database]:
    """The one connection that the command has."""
    database = Database(replace(options(postgres.url), pool_size=1))
    await database.open()
    try:
        yield database
    finally:
        await database.close()


async def reseal(
    postgres: TestPostgres, keys: Sequence[bytes] = BOTH, say: Callable[[str], None] = lambda _: None
) -> dict[str, KeyUse]:
    """Runs it to its end; what each key is needed for then."""
    async with database_of(postgres) as database:
        sealer = Sealer(keys)
        await Resealing(database, sealer, say).run()
        return {key_id_text(use.key_id): use for use in await uses_of_keys(database, sealer)}


async def rotate(service: Service, webhook_id: int) -> None:
    """Gives the webhook OTHER_SECRET, and keeps the one before for the usual time."""
    request = service_pb2.RotateWebhookSecretRequest(customer_id=CUSTOMER, webhook_id=webhook_id, secret=OTHER_SECRET)
    await service.stub.RotateWebhookSecret(request)


def verify_both(request: Received) -> None:
    """It is signed with the new secret and the one before."""
    request.verify(SECRET)
    StandardWebhook(OTHER_SECRET).verify(request.body, dict(request.headers))


def before_replacing(monkeypatch: pytest.MonkeyPatch, act: Callable[[], Awaitable[Any]]) -> None:
    """Lets a call change what was read, once, before it is replaced."""
    calls = [act]

    async def replaced(database: Database, kind: Kind, before: SealedSecret, sealed: bytes) -> bool:
        if calls:
            await calls.pop()()
        return await real(database, kind, before, sealed)

    real = store.replace
    monkeypatch.setattr(store, "replace", replaced)


async def test_under_load_everything_is_sealed_again_and_the_old_key_can_go(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    old = await services.start()
    ed25519 = webhook_pb2.SIGNATURE_TYPE_ED25519
    url = receiver.url("/in?key=value")
    webhook = await old.create_webhook(url, headers={"X-Own": "value"}, signature_type=ed25519)
    await rotate(old, webhook.webhook_id)
    named = service_pb2.GetSigningKeysRequest(customer_id=CUSTOMER)
    [signing_key] = (await old.stub.GetSigningKeys(named)).signing_keys
    await services.stop_one(old)
    service = await services.start(BOTH)
    etag = (await service.webhook(webhook.webhook_id)).etag
    is_done = asyncio.Event()

    async def load() -> int:
        count = 0
        while not is_done.is_set():
            await service.publish()
            count += 1
        return count

    async with service.watching() as watch:
        loading = asyncio.create_task(load(), name="load")
        await receiver.wait_for(3)
        uses = await reseal(postgres)
        is_done.set()
        ended = await watch.until_ended(await loading)
    assert {delivery.attempt_count for delivery in ended} == {1}
    assert uses[OLD_ID].left == uses[OLD_ID].process_count - 1 == uses[OLD_ID].sealing_process_count == 0
    assert uses[NEW_ID].counts == dict.fromkeys(Kind, 1)
    assert postgres.rows(HEAD) == [(NEW_ID,)]
    assert (await service.webhook(webhook.webhook_id)).etag == etag, "callers see no change"

    await services.stop_one(service)
    before = len(receiver.requests)
    last = await services.start([NEW_KEY])
    await last.publish()
    await receiver.wait_for(before + 1)
    verify_both(receiver.requests[before])
    request = receiver.requests[before]
    assert (request.headers["X-Own"], request.target) == ("value", "/in?key=value")
    verify_signature(request.headers, request.body, public_keys=[signing_key.public_key])


async def test_what_was_interrupted_half_way_is_done_by_the_next_run(
    services: ServiceFactory, postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "SECRETS_PER_BATCH", 2)
    service = await services.start()
    for _ in range(5):
        await service.create_webhook("https://hooks.example.com/")
    await services.stop_one(service)

    def interrupt(_: str) -> None:
        running.cancel()

    running = asyncio.create_task(reseal(postgres, say=interrupt), name="reseal")
    with pytest.raises(asyncio.CancelledError):
        await running
    async with database_of(postgres) as database:
        half = {use.key_id: use.left for use in await uses_of_keys(database, Sealer(BOTH))}
    assert sorted(half.values()) == [2, 3]

    uses = await reseal(postgres)
    assert (uses[OLD_ID].left, uses[NEW_ID].left) == (0, 5)
    await services.start([NEW_KEY])


async def test_a_secret_that_is_rotated_meanwhile_is_not_overwritten(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await services.start()
    webhook = await old.create_webhook(receiver.url())
    await services.stop_one(old)
    service = await services.start(BOTH)
    before_replacing(monkeypatch, lambda: rotate(service, webhook.webhook_id))

    uses = await reseal(postgres)

    assert uses[OLD_ID].left == 0
    await services.stop_one(service)
    last = await services.start([NEW_KEY])
    await last.publish()
    await receiver.wait_for(1)
    verify_both(receiver.requests[0])


async def test_a_change_that_was_read_before_does_not_bring_the_old_key_back(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    old = await services.start()
    created = await old.create_webhook(receiver.url("/in?key=value"), headers={"X-Own": "value"})
    async with database_of(postgres) as database:
        current = await webhooks.get(database, CUSTOMER, created.webhook_id)
        spec: dict[str, Any] = {field.name: getattr(current, field.name) for field in fields(WebhookSpec)}
        spec["description"] = "changed"
        await services.stop_one(old)
        await reseal(postgres)
        await webhooks.update(database, current, WebhookSpec(**spec), audit=AUDIT)

    assert postgres.rows(HEAD) == [(NEW_ID,)]
    last = await services.start([NEW_KEY])
    await last.publish()
    await receiver.wait_for(1)
    assert (receiver.requests[0].headers["X-Own"], receiver.requests[0].target) == ("value", "/in?key=value")


async def test_nothing_is_changed_while_a_process_lacks_the_new_key(
    services: ServiceFactory, postgres: TestPostgres
) -> None:
    service = await services.start()
    await service.create_webhook("https://hooks.example.com/")
    with pytest.raises(KeysFailed, match=f"1 of 1 running processes lack the key {NEW_ID}, which is to seal: add it"):
        await reseal(postgres)
    assert postgres.rows(HEAD) == [(OLD_ID,)]


async def test_a_process_that_still_seals_with_the_old_key_is_counted(
    services: ServiceFactory, postgres: TestPostgres
) -> None:
    service = await services.start([SECRET_KEY, NEW_KEY])
    await service.create_webhook("https://hooks.example.com/")
    use = (await reseal(postgres))[OLD_ID]
    assert (use.left, use.process_count, use.sealing_process_count) == (0, 1, 1)


async def test_what_cannot_be_opened_stays_as_it_is_and_is_named(
    services: ServiceFactory, postgres: TestPostgres
) -> None:
    service = await services.start()
    changed = await service.create_webhook("https://hooks.example.com/")
    await service.create_webhook("https://hooks.example.com/")
    await services.stop_one(service)
    spoil = "UPDATE webhooks SET secret = set_byte(secret, 60, 255 - get_byte(secret, 60)) WHERE id = %s"
    postgres.rows(spoil, [changed.webhook_id])
    said: list[str] = []

    use = (await reseal(postgres, say=said.append))[OLD_ID]

    assert use.counts == {**dict.fromkeys(Kind, 0), Kind.SECRETS: 1}
    [line] = said
    assert line.startswith(f"the secrets of webhook {changed.webhook_id} stay as they are: changed")


async def test_what_is_sealed_with_a_key_that_the_command_lacks_is_left(
    services: ServiceFactory, postgres: TestPostgres
) -> None:
    service = await services.start()
    await service.create_webhook("https://hooks.example.com/")
    await services.stop_one(service)
    use = (await reseal(postgres, [NEW_KEY]))[OLD_ID]
    assert (use.left, use.position) == (1, None)


@pytest.mark.parametrize(
    ("left", "sealing", "position", "words"),
    [
        (0, 0, 2, "nothing is sealed with it; it can go at 2026-11-30T22:00:00+00:00, when the last access token"),
        (0, 2, 2, "nothing is sealed with it, but 2 running processes seal with it: put 01234567 first in their"),
        (3, 0, 2, "3 secrets, 0 previous secrets, 0 header values, 0 signing keys, 0 queries of URLs are left: run"),
        (3, 0, None, "queries of URLs are left: this key is not in WEBHOOK_SECRET_KEYS here"),
    ],
)
async def test_the_command_says_what_an_old_key_is_needed_for_and_when_it_can_go(
    left: int, sealing: int, position: int | None, words: str
) -> None:
    counts = {**dict.fromkeys(Kind, 0), Kind.SECRETS: left}
    use = KeyUse(1, position, counts, process_count=2, sealing_process_count=sealing)
    assert words in standing(use, "01234567", datetime(2026, 11, 29, 22, tzinfo=UTC))

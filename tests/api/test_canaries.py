"""No secret, token or header value is in a dump of the database, the log, the metrics or what callers read later.

Whatever callers and receivers do. Each has a canary of its own, which goes through the whole system while everything is
logged. (Of what others write: traces are in tests/traces, what `doctor` says in tests/cli.)
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp
import grpc
import pytest
from aiohttp import web
from structlog.testing import capture_logs
from webhook.v1 import delivery_pb2, event_pb2, token_pb2, webhook_pb2
from webhook.v1 import service_pb2 as pb

from tests.api.asking import World, ask, refusal, valid_requests, world_of
from tests.cli.running import Program
from tests.support.postgres import TestPostgres, dump
from tests.support.receiver import Received, Receiver
from tests.support.service import CUSTOMER, Service, Watch
from webhook_grpc.api.methods import METHODS
from webhook_grpc.domain.tokens import token_hash
from webhook_grpc.settings import Token

pytestmark = pytest.mark.asyncio(loop_scope="module")

OWN_SECRET: Final = "canary-secret-of-the-customer"
HEADER: Final = "Bearer canary-header"
CONFIGURED: Final = "canary-token-configured"
USERINFO: Final = "canary-userinfo"
QUERY: Final = "canary-query"
DATA: Final = "canary-data"
ROOT: Final = [("authorization", f"Bearer {CONFIGURED}")]
PERMISSIONS: Final = ("read", "publish", "manage", "admin")


@pytest.fixture(scope="module")
def shared_settings() -> Mapping[str, Any]:
    """It knows one token, and tries twice at most."""
    root = Token(name="root", sha256=token_hash(CONFIGURED), permissions=PERMISSIONS)
    return {"tokens": (root,), "retry_delays_seconds": (0.1,), "http_address": "127.0.0.1:0"}


async def echo(received: Received) -> web.StreamResponse:
    """A receiver in debug mode: shows the whole request in the body and in a header."""
    lines = (f"POST {received.target}", *(f"{name}: {value}" for name, value in received.headers.items()))
    shown = "\n".join((*lines, f"args: {{'key': '{QUERY}'}}"))
    return web.Response(status=500, text=shown, headers={"X-Request-Id": received.headers["X-Own"], "Server": "s"})


async def created(service: Service, url: str, **fields: Any) -> Any:
    webhook = webhook_pb2.Webhook(customer_id=CUSTOMER, name="n", url=url, events=["*"], **fields)
    return await ask(service, "CreateWebhook", pb.CreateWebhookRequest(webhook=webhook, request_id="create"), ROOT)


async def deliver(service: Service, receiver: Receiver) -> tuple[World, dict[str, str]]:
    """Two attempts at the echo; returns what there is now, and what only callers may know, by what it is."""
    webhook = await created(service, receiver.on("/echo", echo) + f"?key={QUERY}", headers={"X-Own": HEADER})
    rotation = pb.RotateWebhookSecretRequest(customer_id=CUSTOMER, webhook_id=webhook.webhook_id, secret=OWN_SECRET)
    await ask(service, "RotateWebhookSecret", rotation, ROOT)
    token = token_pb2.Token(role=token_pb2.TOKEN_ROLE_VIEWER, all_customers=True)
    made = await ask(service, "CreateToken", pb.CreateTokenRequest(token=token), ROOT)
    access = await ask(service, "CreateAccessToken", pb.CreateAccessTokenRequest(customer_id=CUSTOMER), ROOT)
    event = event_pb2.Event(customer_id=CUSTOMER, event_type="job.completed", data_json=f'{{"d":"{DATA}"}}')
    published = await ask(service, "PublishEvent", pb.PublishEventRequest(event=event), ROOT)
    await receiver.wait_for(2)
    return world_of(webhook.webhook_id, published.event_id, token_id=made.token_id), {
        "secret that the service made": webhook.secret,
        "secret of the customer": OWN_SECRET,
        "header value": "canary-header",
        "userinfo": USERINFO,
        "query": QUERY,
        "configured token": CONFIGURED,
        "token": made.bearer_token.rpartition("_")[2],
        "access token": access.bearer_token.rpartition(".")[2],
    }


async def refused(service: Service, receiver: Receiver) -> str:
    """Calls that are refused because of what they carry; returns all that the callers are answered."""
    url = receiver.url("/echo").replace("//", f"//user:{USERINFO}@")
    not_allowed = await refusal(created(service, url))
    wrong = [("authorization", f"Bearer {CONFIGURED}-wrong")]
    invalid = await refusal(ask(service, "ListWebhooks", pb.ListWebhooksRequest(), wrong))
    url = receiver.url(f"/echo?key={QUERY}")
    bad: dict[str, Any] = {"secret": f"{OWN_SECRET}\x01", "headers": {"a b": HEADER}}
    malformed = await refusal(created(service, url, **bad))
    assert (not_allowed.reason, invalid.reason) == ("URL_NOT_ALLOWED", "TOKEN_INVALID")
    assert malformed.fields
    return f"{not_allowed}{invalid}{malformed}"


async def read_later(service: Service, world: World, home: Path) -> str:
    """Returns all that callers can read afterwards: by each method that reads, in the metrics, by the command line."""
    found, requests = list[str](), valid_requests(world)
    for method in METHODS:
        if not method.changes and method.permission != "publish":
            try:
                found.append(str(await ask(service, method.name, requests[method.name], ROOT)))
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise
                found.append(f"{error.details()}{error.trailing_metadata()}")
    async with (
        aiohttp.ClientSession(headers=dict(ROOT)) as session,
        session.get(f"http://127.0.0.1:{service.app.http_port}/metrics") as answer,
    ):
        assert answer.status == 200
        found.append(await answer.text())
    given = {"WHK_ADDRESS": service.address, "WHK_TOKEN": CONFIGURED, "WHK_CUSTOMER_ID": str(CUSTOMER)}
    program = Program(home, {**given, "HOME": str(home), "XDG_CONFIG_HOME": str(home)})
    for line in ("doctor -o json", f"deliveries attempts {world.delivery_id}"):
        ran = (await program.run(line)).ok()
        found.append(ran.stdout + ran.stderr)
    return "".join(found)


async def attempts(service: Service) -> list[delivery_pb2.DeliveryAttempt]:
    """All that the log keeps, once both attempts are in it."""
    request = pb.ListDeliveryAttemptsRequest(customer_id=CUSTOMER)
    return list((await ask(service, "ListDeliveryAttempts", request, ROOT)).attempts)


async def test_nothing_secret_is_in_a_dump_of_the_database_nor_in_the_log_nor_is_it_ever_shown_again(
    service: Service, receiver: Receiver, postgres: TestPostgres, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    with capture_logs() as logs:
        request = pb.WatchDeliveriesRequest(customer_id=CUSTOMER)
        watch = Watch(service.stub.WatchDeliveries(request, metadata=ROOT))
        await watch.next_message()
        world, canaries = await deliver(service, receiver)
        answered = await refused(service, receiver)
        [delivery] = await watch.until_ended()
        watch.call.cancel()
        kept = await attempts(service)
        shown = await read_later(service, world, tmp_path)

    assert delivery.status == delivery_pb2.DELIVERY_STATUS_FAILED
    text, log = dump(postgres.url), f"{list(logs)}{caplog.text}"
    assert "X-Own: …" in kept[0].response_body.decode(), "the rest of what the receiver sent back is kept"
    assert dict(kept[0].response_headers)["x-request-id"] == "…"
    for what, canary in canaries.items():
        assert canary not in text, what
        assert canary not in log, what
        assert canary not in f"{answered}{kept}", what
        assert what == "query" or canary not in shown, f"{what}: who may read a webhook sees the query of its URL only"
    assert QUERY in shown
    assert DATA not in log

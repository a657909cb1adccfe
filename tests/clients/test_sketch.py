"""The program of the design in Python, word for word: publish, publish many, watch, receive."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from webhook.v1 import delivery_pb2, service_pb2, webhook_pb2

from tests.support import slowness
from tests.support.receiver import Receiver
from tests.support.service import SECRET, ServiceFactory
from webhook_grpc.domain.tokens import token_hash
from webhook_grpc_client import AsyncClient

SKETCH = Path(__file__).with_name("python") / "sketch.txt"
GENUINE = 3  # of the events: one more is no JSON


def noting(notes: list[tuple[Any, ...]]) -> Callable[..., None]:
    """Returns what writes down with which arguments it is called."""
    return lambda *words: notes.append(words)


@dataclass
class Around:
    """What the text uses and does not have."""

    names: dict[str, Any] = field(default_factory=dict[str, Any])
    printed: list[tuple[Any, ...]] = field(default_factory=list[Any])
    warnings: list[tuple[Any, ...]] = field(default_factory=list[Any])
    succeeded: set[str] = field(default_factory=set[str])
    known: set[str] = field(default_factory=set[str])
    handled: list[tuple[Any, ...]] = field(default_factory=list[Any])

    def __post_init__(self) -> None:
        texts = {"one": '{"n":1}', "two": '{"n":2}', "three": "no"}
        self.names |= {
            "rows": [SimpleNamespace(data_json=text, customer=7, key=key) for key, text in texts.items()],
            "log": SimpleNamespace(warning=noting(self.warnings)),
            "print": noting(self.printed),
            "update": self.update,
            "app": SimpleNamespace(post=self.post),
            "NEW": SECRET,
            "OLD": "the secret of before",
            "seen": self.seen,
            "handle": noting(self.handled),
        }

    def update(self, delivery_id: str, status: int, last_attempt: delivery_pb2.DeliveryAttempt) -> None:
        """Ends the watch that goes on for ever when all have arrived; the next begins in front of the last message."""
        if status == delivery_pb2.DELIVERY_STATUS_SUCCEEDED:
            assert last_attempt.response_status == 200
            self.succeeded.add(delivery_id)
        if len(self.succeeded) == GENUINE:
            self.names.setdefault("saved", self.names["watcher"].cursor)
            self.names["watcher"].close()

    def seen(self, webhook_id: str) -> bool:
        """Returns whether a message has come before."""
        before = webhook_id in self.known
        self.known.add(webhook_id)
        return before

    def post(self, path: str) -> Callable[[Any], Any]:
        """Stands for a web framework."""
        assert path == "/hook"
        return lambda function: function


@pytest.mark.slow(4)
async def test_the_program_of_the_design_runs_as_it_is(
    services: ServiceFactory, receiver: Receiver, tmp_path: Path
) -> None:
    """With the addresses and files of this test."""
    tokens = [{"name": "one", "sha256": token_hash("one"), "customer_id": 7}]
    service = await services.start(tokens=json.dumps(tokens))
    token, cursor = tmp_path / "token", tmp_path / "cursor"
    token.write_text("one\n")
    async with slowness.timeout(30), AsyncClient(service.address, token_file=token) as client:
        webhook = webhook_pb2.Webhook(customer_id=7, name="hook", url=receiver.url(), events=["*"], secret=SECRET)
        await client.call(client.stub.CreateWebhook, service_pb2.CreateWebhookRequest(webhook=webhook))
        async with client.watch(customer_id=7, cursor_file=cursor, until_idle=1) as before:
            assert [one async for one in before] == []
    text = SKETCH.read_text().replace("hooks.internal:443", service.address).replace("billing.cursor", str(cursor))
    text = text.replace("/run/secrets/hooks", str(token)).replace("until_idle=5", "until_idle=1")
    around = Around()

    try:
        async with slowness.timeout(60):
            await asyncio.to_thread(exec, compile(text, str(SKETCH), "exec"), around.names)
    finally:
        if "watcher" in around.names:
            around.names["watcher"].close()  # else its thread would go on for ever

    requests = await receiver.wait_for(GENUINE)
    assert {request.event_id for request in requests} >= {around.printed[0][0]}
    assert [words[1:] for words in around.printed] == [(1, False)]
    assert len(around.succeeded) == GENUINE
    [(_, reason, _, violations)] = around.warnings
    assert (reason, [name for name, _ in violations]) == ("DATA_NOT_JSON", ["event.data_json"])
    hook = around.names["hook"]
    received = SimpleNamespace(headers=requests[0].headers, body=requests[0].body)
    assert [hook(received), hook(received)] == [204, 200]
    assert hook(SimpleNamespace(headers=received.headers, body=received.body + b" ")) == (400, "SIGNATURE_WRONG")
    assert [event_type for event_type, _ in around.handled] == [requests[0].headers["X-Webhook-Event"]]

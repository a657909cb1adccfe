"""The cases of the specification, over HTTP, on `webhook-grpc serve` as a newcomer starts it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import slowness
from tests.support.process import Process
from tests.support.receiver import Receiver, answers

SECRET = "your_secret_key"
BODY = (
    '{"name": "任务完成通知", "url": "https://example.com/webhook", "secret": "your_secret_key", '
    '"events": ["job.completed","job.failed"]}'
)


@pytest.fixture
async def fresh(data_dir: Path, tmp_path: Path) -> AsyncGenerator[Process]:
    """A service on an embedded database of its own: only where it lives is set."""
    process = await Process.start(
        tmp_path / "log",
        WEBHOOK_DATA_DIR=str(data_dir),
        WEBHOOK_HTTP_ADDRESS="127.0.0.1:0",
        WEBHOOK_SECRET_KEYS="",
        WEBHOOK_LEASE_SECONDS="10",
        WEBHOOK_EGRESS_ALLOW_HTTP="false",
        WEBHOOK_EGRESS_ALLOW_CIDRS="",
    )
    yield process
    await process.terminate()
    await process.end()


@pytest.mark.slow(4)
async def test_tc_01_a_webhook_is_registered(fresh: Process) -> None:
    async with aiohttp.ClientSession(fresh.http_url) as session:
        answer = await session.post("/api/webhooks", data=BODY.encode(), headers={"Content-Type": "application/json"})
        created = await answer.json()
        assert answer.status == 201
        assert (created["webhook_id"], created["status"]) == (1, "active")
        assert (created["name"], created["url"]) == ("任务完成通知", "https://example.com/webhook")
        assert created["events"] == ["job.completed", "job.failed"]
        shown = await session.get("/api/webhooks/1")
        assert SECRET not in await shown.text()


@pytest.fixture
async def published(database_url: str, tmp_path: Path, receiver: Receiver) -> AsyncGenerator[dict[str, Any]]:
    """An event that was published for the webhook of TC-01, which leads to the receiver here."""
    process = await Process.start(
        tmp_path / "log", WEBHOOK_DATABASE_URL=database_url, WEBHOOK_HTTP_ADDRESS="127.0.0.1:0"
    )
    async with aiohttp.ClientSession(process.http_url) as session:
        await created(session, receiver.url("/webhook"))
        event = {"event_type": "job.completed", "data": {"job_id": "job-abc123"}}
        yield await post(session, "/api/events", {"event": event})
    await process.terminate()


@pytest.mark.slow
async def test_tc_02_an_event_is_sent_to_the_webhook(published: dict[str, Any], receiver: Receiver) -> None:
    [request] = await receiver.wait_for(1)
    body = json.loads(request.body)
    assert (body["event"], body["data"]) == ("job.completed", {"job_id": "job-abc123"})
    assert request.event_id == published["event_id"]


@pytest.mark.slow
@pytest.mark.usefixtures("published")
async def test_tc_03_the_signature_verifies(receiver: Receiver) -> None:
    [request] = await receiver.wait_for(1)
    request.verify(SECRET)


@pytest.mark.slow
async def test_what_fails_is_tried_again_and_each_attempt_is_recorded(
    database_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    process = await Process.start(
        tmp_path / "log",
        WEBHOOK_DATABASE_URL=database_url,
        WEBHOOK_HTTP_ADDRESS="127.0.0.1:0",
        WEBHOOK_RETRY_DELAYS_SECONDS="0.1,0.1",
        WEBHOOK_OVERLOAD_DELAY_SECONDS_MIN="0",
    )
    receiver.on("/webhook", answers(500, 500, 200))
    async with aiohttp.ClientSession(process.http_url) as session:
        await created(session, receiver.url("/webhook"))
        await post(session, "/api/events", {"event": {"event_type": "job.failed", "data": {}}})
        await receiver.wait_for(3)
        async with slowness.timeout(20):
            while not (found := await get(session, "/api/deliveries?statuses=succeeded"))["deliveries"]:
                await asyncio.sleep(0.05)  # a result is stored a moment after the answer
        [delivery] = found["deliveries"]
        attempts = await get(session, f"/api/deliveries/{delivery['delivery_id']}/attempts")
    assert [(one["outcome"], one["response_status"]) for one in attempts["attempts"]] == [
        ("succeeded", 200),
        ("http_error", 500),
        ("http_error", 500),
    ]
    await process.terminate()


async def created(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    return await post(session, "/api/webhooks", {**json.loads(BODY), "url": url})


async def post(session: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> dict[str, Any]:
    async with session.post(path, json=body) as answer:
        assert answer.status in {200, 201}, await answer.text()
        return dict(await answer.json())


async def get(session: aiohttp.ClientSession, path: str) -> dict[str, Any]:
    async with session.get(path) as answer:
        assert answer.status == 200, await answer.text()
        return dict(await answer.json())

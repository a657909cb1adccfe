"""A log line never changes an answer: the service with a stderr that cannot be written, or that nobody reads."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from webhook.v1 import event_pb2, webhook_pb2
from webhook.v1.service_pb2 import CreateWebhookRequest, ListEventTypesRequest, PublishEventRequest

from tests.support import slowness
from tests.support.process import CLI, Process, environment
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER, SECRET
from tests.support.symptoms import Line

SERVING = re.compile(r'"port":(\d+),[^}]*"event":"serving"')
LINES_WAITING_MAX = 20
CALLS = 60

Starter = Callable[..., Awaitable[Process]]


@asynccontextmanager
async def ended_afterwards(process: Process) -> AsyncGenerator[Process]:
    try:
        yield process
    finally:
        await process.end()


async def publish(process: Process, number: int) -> None:
    event = event_pb2.Event(customer_id=CUSTOMER, event_type="job.completed", data_json=f'{{"n":{number}}}')
    await process.stub.PublishEvent(PublishEventRequest(event=event), timeout=slowness.scaled(10))


async def create_webhook(process: Process, url: str) -> None:
    webhook = webhook_pb2.Webhook(customer_id=CUSTOMER, name="hook", url=url, events=["job.*"], secret=SECRET)
    await process.stub.CreateWebhook(CreateWebhookRequest(webhook=webhook), timeout=slowness.scaled(10))


async def without_reader(log: Path, **settings: str) -> Process:
    os.mkfifo(log)
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    process = await Process.start(log, **settings)
    os.close(reader)
    return process


async def on_a_full_disk(_: Path, **settings: str) -> Process:
    return await Process.start(Path("/dev/full"), **settings)


async def closed(log: Path, **settings: str) -> Process:
    return await Process.start(log, command=("/bin/sh", "-c", 'exec "$0" "$@" 2>&-', str(CLI)), **settings)


@pytest.mark.parametrize("start", [without_reader, on_a_full_disk, closed])
async def test_calls_answer_and_events_are_delivered_when_stderr_cannot_be_written(
    start: Starter, database_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    process = await start(tmp_path / "log", WEBHOOK_DATABASE_URL=database_url, WEBHOOK_NO_SUCH_SETTING="1")
    async with ended_afterwards(process):
        await create_webhook(process, receiver.url())
        for number in range(5):
            await publish(process, number)
        await receiver.wait_for(5)

        assert process.process.returncode is None
        assert await process.terminate() == 0
        assert len(receiver.requests) == 5, "what was sent is settled, not sent again"


@pytest.mark.symptom("lines dropped")
async def test_a_pipe_that_nobody_reads_holds_up_nothing_and_what_was_dropped_is_said_when_it_is_read(
    database_url: str, receiver: Receiver, tmp_path: Path, symptoms: list[Line]
) -> None:
    pipe = tmp_path / "log"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    fill(pipe)
    process = await Process.start(
        pipe,
        WEBHOOK_DATABASE_URL=database_url,
        WEBHOOK_LOG_FORMAT="json",
        WEBHOOK_LOG_LINES_WAITING_MAX=str(LINES_WAITING_MAX),
    )
    async with ended_afterwards(process):
        await create_webhook(process, receiver.url())
        for _ in range(CALLS):
            await process.stub.ListEventTypes(ListEventTypesRequest(), timeout=slowness.scaled(10))
        await publish(process, 1)
        await receiver.wait_for(1)

        records = list[dict[str, Any]]()
        lines = asyncio.create_task(asyncio.to_thread(read_until_end, reader, records))
        async with slowness.timeout(20):
            while not any(record["event"] == "log lines dropped" for record in records):
                await asyncio.sleep(0.01)  # then there is room for the lines that follow
        assert await process.terminate() == 0
        await lines

    symptoms += [{**record, "log_level": record["level"]} for record in records]
    [dropped] = [record for record in records if record["event"] == "log lines dropped"]
    assert dropped["level"] == "warning"
    assert dropped["cause"] == f"{LINES_WAITING_MAX} lines were waiting to be written"
    assert dropped["count"] + len(records) > CALLS, "each line was written or counted"
    assert len(records) <= CALLS, "there was no room for all"
    assert records[-1]["event"] == "stopped"


async def test_a_stdout_that_nobody_reads_holds_up_neither_the_start_nor_what_follows(
    database_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    pipe, log = tmp_path / "out", tmp_path / "log"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    fill(pipe)
    with pipe.open("wb", buffering=0) as stdout, log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(CLI, "serve"),
            env=environment(WEBHOOK_DATABASE_URL=database_url, WEBHOOK_LOG_FORMAT="json"),
            stdout=stdout,
            stderr=stderr,
        )
    Process.started.append(process)
    async with slowness.timeout(30):
        while (serving := SERVING.search(log.read_text())) is None:
            await asyncio.sleep(0.01)  # a file gives no signal
    async with ended_afterwards(Process(process, f"127.0.0.1:{serving[1]}")) as started:
        await create_webhook(started, receiver.url())
        await publish(started, 1)
        await receiver.wait_for(1)
        assert await started.terminate() == 0
    os.close(reader)


def fill(pipe: Path) -> None:
    """Leaves no room in the pipe; the next who writes waits."""
    writer = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    for size in (4096, 1):
        try:
            while True:
                os.write(writer, b"\n" * size)
        except BlockingIOError:
            continue
    os.close(writer)


def read_until_end(reader: int, records: list[dict[str, Any]]) -> None:
    os.set_blocking(reader, True)
    with os.fdopen(reader, "rb") as lines:
        for line in lines:
            if line.strip():
                records.append(json.loads(line))  # noqa: PERF401 - each is awaited

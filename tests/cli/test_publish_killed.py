"""`events publish --ndjson` while the server is killed: each line is in the log once, and the run says so."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from tests.support import slowness
from tests.support.full import in_full
from tests.support.ports import free_port
from tests.support.postgres import TestPostgres
from tests.support.process import Process, hear_signals
from tests.support.service import CUSTOMER

LINES = in_full(100_000, short=2_000)
KILLS = in_full(10, short=2)
# What may wait in the program is a small part of what comes between two kills.
BATCH = in_full(500, short=50)

pytestmark = [pytest.mark.slow(8), pytest.mark.timeout(in_full(1800, short=300))]


async def test_each_line_is_published_once_while_the_server_is_killed(
    database_url: str, postgres: TestPostgres, home: Path
) -> None:
    settings = {"WEBHOOK_DATABASE_URL": database_url, "WEBHOOK_GRPC_ADDRESS": f"127.0.0.1:{free_port()}"}
    server = await Process.start(home / "log", **settings)
    environment = {**os.environ, "WHK_ADDRESS": server.address, "WHK_CUSTOMER_ID": str(CUSTOMER), "HOME": str(home)}
    words = ("events", "publish", "--ndjson", "-", "--batch", str(BATCH), "--timeout", "10m", "-o", "json")
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "webhook_grpc_cli", *words),
        stdin=PIPE,
        stdout=PIPE,
        cwd=home,
        env=environment,
        preexec_fn=hear_signals,
    )
    Process.started.append(program)  # ended if this test fails
    assert program.stdin is not None
    each = LINES // (KILLS + 1)
    for kill in range(1, KILLS + 1):
        program.stdin.writelines(line(number) for number in range((kill - 1) * each, kill * each))
        async with slowness.timeout(60):
            while count(postgres) <= (kill - 1) * each:
                await asyncio.sleep(0.01)  # a row gives no signal
        await server.end()  # with the next batches on their way
        server = await Process.start(home / "log", **settings)
    program.stdin.writelines(line(number) for number in range(KILLS * each, LINES))
    program.stdin.close()
    async with slowness.timeout(in_full(900, short=120)):
        assert program.stdout is not None
        said = json.loads(await program.stdout.read())
        assert await program.wait() == 0

    assert count(postgres) == LINES
    distinct = "SELECT count(DISTINCT convert_from(body, 'UTF8')::json->'data'->>'n') FROM events"
    assert postgres.rows(distinct) == [(LINES,)], "each in the log once"
    assert said["published"] + said["duplicates"] == LINES  # a duplicate: the answer to its first try was lost
    assert said["refused"] == 0
    await server.end()


def line(number: int) -> bytes:
    return json.dumps({"event_type": "job.completed", "data": {"n": number}}).encode() + b"\n"


def count(postgres: TestPostgres) -> int:
    [(found,)] = postgres.rows("SELECT count(*) FROM events")
    return int(found)

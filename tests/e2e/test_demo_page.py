"""`make demo-page`: a page with something on it, until Ctrl-C or the end of its time, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import aiohttp
import orjson
import pytest

from tests.e2e.test_docs import ended, run, what_it_says_first
from tests.support import slowness
from tests.support.process import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture
def temporary(data_dir: Path) -> Path:
    """Where the program makes its temporary folders: the user of the embedded Postgres may pass through."""
    data_dir.chmod(0o711)
    return data_dir


async def test_a_newcomer_sees_rows_appear_and_ctrl_c_leaves_nothing_behind(temporary: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *("make", "demo-page", "SECONDS=300"),
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    async with ended(process):
        said = await what_it_says_first(process)
        url = re.search(r"the page: (http://\S+)", said)
        assert url, said
        await sees_rows_of_all_kinds(url[1])
        assert len(databases(temporary)) == 1
        os.killpg(process.pid, signal.SIGINT)  # Ctrl-C reaches the whole group
        async with slowness.timeout(30):
            said = (await process.stdout.read()).decode()
            await process.wait()
    assert "Everything has ended." in said
    assert "Traceback" not in said
    assert databases(temporary) == []


async def test_it_ends_by_itself(temporary: Path) -> None:
    program = (sys.executable, "-m", "examples.demo_page", "--seconds", "0.5")
    assert "Everything has ended." in await run(*program, TMPDIR=str(temporary))
    assert databases(temporary) == []


def databases(folder: Path) -> list[Path]:
    """Returns the temporary folders that are there."""
    return list(folder.glob("webhook-grpc-demo-*"))


async def sees_rows_of_all_kinds(url: str) -> None:
    """Reads the page and then its stream, until deliveries have succeeded, failed and wait for another attempt."""
    async with aiohttp.ClientSession(url) as session, slowness.timeout(60):
        async with session.get("/", headers={"Accept": "text/html"}) as document:
            assert "<wg-app>" in await document.text()
        async with session.get("/api/deliveries:watch", headers={"Accept": "application/x-ndjson"}) as stream:
            wanted = {"succeeded", "failed", "pending"}
            async for line in stream.content:
                wanted -= {delivery["status"] for delivery in orjson.loads(line).get("deliveries", [])}
                if not wanted:
                    break
        async with session.get("/api/webhooks") as answer:
            statuses = {webhook["status"] for webhook in (await answer.json())["webhooks"]}
        assert statuses == {"active", "paused", "disabled"}

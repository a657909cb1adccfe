"""Every line of docs/cli.md works as it stands there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.running import Program
from tests.cli.test_examples import run
from tests.e2e.test_docs import blocks
from tests.support.receiver import Receiver

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.slow(5)
@pytest.mark.parametrize("name", ["cli", "profiles", "ndjson", "top"])
async def test_the_lines_of_the_document_work(
    program: Program, receiver: Receiver, home: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(home)
    (home / "events.ndjson").write_text('{"event_type":"job.completed","data":{}}\n')
    for line in blocks("docs/cli.md", name).splitlines():
        await run(program, line.replace("http://127.0.0.1:8090/in", receiver.url()))

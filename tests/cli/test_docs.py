"""Every line of docs/cli.md works as it stands there."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts.cli_screenshots import SHOTS

from tests.cli.running import Program
from tests.cli.test_examples import run
from tests.e2e.test_docs import blocks
from tests.support.process import ROOT
from tests.support.receiver import Receiver


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.slow(5)
@pytest.mark.parametrize("name", ["cli", "profiles", "ndjson", "top"])
async def test_the_lines_of_the_document_work(
    program: Program, receiver: Receiver, home: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(home)
    (home / "events.ndjson").write_text('{"event_type":"job.completed","data":{}}\n')
    for line in blocks("docs/cli.md", name).splitlines():
        await run(program, line.replace("http://127.0.0.1:8090/in", receiver.url()))


def test_each_picture_is_shown_and_takes_nothing_from_the_network() -> None:
    document = (ROOT / "docs/cli.md").read_text()
    for name, line in SHOTS.items():
        picture = f"screenshots/cli-{name}.svg"
        svg = (ROOT / "docs" / picture).read_text()
        assert f"]({picture})" in document
        assert f"webhook-grpc {line}<" in svg.replace("&#160;", " ")
        assert "url(http" not in svg
        assert "href=" not in svg

"""The parent of several processes, with children that are played by a few lines of Python."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from webhook_grpc.domain.restarts import RestartPolicy
from webhook_grpc.parent import child, parent
from webhook_grpc.parent.parent import Parent, Plan
from webhook_grpc.process.service_manager import ServiceManager
from webhook_grpc.process.stopping import Reload, Stop

# Each start leaves a line in a file, with the schema that it is given. The arguments: the file, what to do at the first
# start, at all later ones, and the descriptor that a parent adds.
PLAYED = """
import json, signal, socket, sys
path, first, later, descriptor = sys.argv[1:]
end = socket.socket(fileno=int(descriptor))
with open(path, "a+") as starts:
    starts.seek(0)
    what = later if starts.read() else first
    starts.write("started %s\\n" % json.loads(end.makefile().readline())["settings"].get("database_schema", "anywhere"))
if "ready" in what:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    end.sendall(b'{"kind":"schema","schema":"cell_1"}\\n')
    end.sendall(b'{"kind":"ready","grpc":1,"http":null}\\n')
if "waits" in what:
    signal.pause()
sys.exit(int(what.split()[-1]))
"""


@pytest.fixture(autouse=True)
def _no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent, "own_mark", lambda: None)


async def _close() -> None:
    pass


async def status_of(
    monkeypatch: pytest.MonkeyPatch, starts: Path, first: str, later: str, *, stop: Stop | None = None, count: int = 1
) -> int:
    """Runs a parent to its end; it asks itself to stop when all its children serve, if there is a `stop`."""
    monkeypatch.setattr(child, "COMMAND", (sys.executable, "-c", PLAYED, str(starts), first, later))
    connection: Any = SimpleNamespace(close=_close)
    plan = Plan(count, {}, RestartPolicy(0.01, 0.02, starts_max=3), stop_seconds_max=20)
    asked = stop or Stop()

    def on_ready(_: int, __: int | None) -> None:
        if stop is not None:
            stop.request()

    return await Parent(plan, lambda _: connection, asked, Reload(), ServiceManager(), on_ready).run()


async def test_what_fails_at_the_first_start_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert await status_of(monkeypatch, tmp_path / "starts", "ends 4", "ready waits 0", count=3) == 4
    assert (tmp_path / "starts").read_text().count("started") == 1


async def test_a_process_that_can_never_be_started_again_ends_the_service_with_its_status(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with structlog.testing.capture_logs() as lines:
        assert await status_of(monkeypatch, tmp_path / "starts", "ready 3", "ends 7") == 7
    assert (tmp_path / "starts").read_text().count("started") == 1 + 3
    assert [line["status"] for line in lines if line["event"].startswith("no process can be started")] == [7]
    assert [line["status"] for line in lines if line["event"].startswith("a process ended")] == [3, 7, 7]


async def test_all_work_in_the_schema_that_the_first_has_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Those that are started beside it, and the one that is started again after something else was made there."""
    starts = tmp_path / "starts"
    assert await status_of(monkeypatch, starts, "ready waits 0", "ready waits 0", stop=Stop(), count=2) == 0
    assert starts.read_text().splitlines() == ["started anywhere", "started cell_1"]
    starts.unlink()
    assert await status_of(monkeypatch, starts, "ready 3", "ends 7") == 7
    assert starts.read_text().splitlines() == ["started anywhere", *["started cell_1"] * 3]


async def test_all_drain_when_the_service_is_asked_to_stop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = await status_of(monkeypatch, tmp_path / "starts", "ready waits 0", "ready waits 0", stop=Stop(), count=3)
    assert found == 0
    assert (tmp_path / "starts").read_text().count("started") == 3

"""Collections of garbage in a process that serves: none walks through what was there when the process became ready.

Nor through what the first connection over HTTP has loaded.
"""

from __future__ import annotations

from pathlib import Path

import aiohttp

from tests.support.process import Process

# Python imports this module when it starts, in a process whose PYTHONPATH has its folder.
_LOOK_AT_EXIT = """
import atexit, gc, os, pathlib, sys

at_start = 0

def count(phase, info):
    global at_start
    at_start += phase == "stop" and "webhook_grpc.cli" in sys.modules and not gc.get_freeze_count()

def look():
    gc.callbacks.remove(count)
    found = gc.isenabled(), gc.get_freeze_count(), len(gc.get_objects()), at_start, *gc.get_threshold()
    pathlib.Path(os.environ["GARBAGE"]).write_text(" ".join(map(str, found)))

gc.callbacks.append(count)
atexit.register(look)
"""


async def test_no_collection_of_garbage_walks_through_what_the_start_has_made(
    tmp_path: Path, database_url: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(_LOOK_AT_EXIT)
    found = tmp_path / "found"
    process = await Process.start(
        tmp_path / "log",
        WEBHOOK_DATABASE_URL=database_url,
        WEBHOOK_HTTP_ADDRESS="127.0.0.1:0",
        PYTHONPATH=str(tmp_path),
        GARBAGE=str(found),
    )
    try:
        async with aiohttp.ClientSession() as http, http.get(f"{process.http_url}/healthz") as answer:
            assert answer.status == 200
        await process.terminate()
    finally:
        await process.end()
    is_enabled, spared_count, walked_count, at_start_count, *thresholds = found.read_text().split()
    assert is_enabled == "True"
    assert at_start_count == "0", "nothing is collected while modules are imported"
    assert int(spared_count) > 40 * int(walked_count), "a full collection would walk through more than what calls leave"
    young, middle, full = map(int, thresholds)
    assert young * middle <= 30_000, "objects that one of the middle walks through: it holds the loop for so long"
    assert young * middle * full > 9_000_000, "objects between two full ones, which walk through all"

"""The rows of `make bench` run, and find figures beside their limits. What the figures are is not judged here."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Generator
from pathlib import Path

import psutil
import pytest
from benchmarks.parts import results as stored
from benchmarks.parts.bench import Bench, Options
from benchmarks.parts.children import ROOT, worker
from benchmarks.parts.figures import TINY, Figure, Row
from benchmarks.parts.servers import EMBEDDED, Servers
from benchmarks.rows import ROWS
from benchmarks.run import PROGRAM, Run, run_all

from tests.support.full import IS_FULL, in_full
from tests.support.postgres import TestPostgres

WITHOUT_LIMIT = {"take-over"}
WITHOUT_SPENDING = {"take-over", "isolation"}


@pytest.fixture(scope="module")
def options() -> Options:
    """In `make test` the server of the tests, whose fsync is off; in full, one as `make bench` starts it."""
    return Options(TINY, PROGRAM, server=in_full(EMBEDDED, short="tests"))


@pytest.fixture(scope="module")
def servers(postgres: TestPostgres) -> Generator[Servers]:
    made = Servers({"tests": postgres.url})
    yield made
    made.close()


@pytest.mark.slow(5)
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", in_full(list(ROWS), short=["publish-batch"]))
async def test_a_row_finds_figures_beside_its_limit(options: Options, servers: Servers, name: str) -> None:
    async with Bench(options, servers) as bench:
        figures = await ROWS[name].measure(bench)
    assert all(figure.value > 0 or figure.unit == "MB" for figure in figures)  # less memory than without is fine
    assert name in WITHOUT_LIMIT or any(figure.ratio for figure in figures)
    assert name in WITHOUT_SPENDING or bench.spent.cpu["service"] > 0
    assert options.server in bench.used
    assert all("synchronous_commit=on" in server.about for server in bench.used.values())
    assert all(name == "tests" or "fsync=on" in server.about for name, server in bench.used.items())


@pytest.mark.slow(20)
@pytest.mark.skipif(not IS_FULL, reason="in full: starts a whole run")
async def test_ctrl_c_ends_all_children_and_says_so(tmp_path: Path) -> None:
    arguments = ("--form", "tiny", "--rows", "end-to-end", "--results", str(tmp_path / "bench.json"))
    run = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.run", *arguments), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    process, children = psutil.Process(run.pid), list[psutil.Process]()
    while not any("serve" in child.cmdline() for child in children):
        await asyncio.sleep(0.05)
        children = process.children(recursive=True)
    run.send_signal(signal.SIGINT)
    said, _ = await run.communicate()
    assert (run.returncode, b"interrupted" in said) == (130, True)
    assert not [child for child in children if child.is_running()]


async def test_the_sink_counts_requests_that_come_in_pieces_and_together() -> None:
    async with worker("sink", "sink") as sink:
        reader, writer = await asyncio.open_connection("127.0.0.1", sink.ready["http"])
        request = b"POST /7/0 HTTP/1.1\r\nHost: sink\r\nwebhook-id: evt_1\r\nContent-Length: 4\r\n\r\nbody"
        await sink.ask("note", on=True)
        began = time.monotonic()
        for piece in (request[:30], request[30:-2]):
            writer.write(piece)
            await writer.drain()
            assert (await sink.ask("count"))["posts"] == 0
        writer.write(request[-2:] + request)
        answers = await reader.readexactly(2 * (len(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n") + 23))
        assert answers.count(b"200 OK") == 2
        assert await sink.ask("count") == {"posts": 2, "connections": 1}
        [(key, at)] = (await sink.ask("arrivals")).items()
        assert key == "/7/0 evt_1"
        assert began <= at <= time.monotonic()  # the same clock in all processes
        writer.close()


async def test_the_bare_clients_post_what_the_sink_counts() -> None:
    async with worker("sink", "sink") as sink, worker("client", "poster") as client:
        url = f"http://127.0.0.1:{sink.ready['http']}/bare"
        posts = connections = 0
        for is_lean, is_kept in ((True, True), (True, False), (False, True)):
            done = await client.ask("post", url=url, seconds=0.1, connections=2, is_lean=is_lean, is_kept=is_kept)
            posts, connections = posts + done["count"], connections + (2 if is_kept else done["count"])
            assert done["count"] > 0
            assert await sink.ask("count") == {"posts": posts, "connections": connections}


def row(name: str, *figures: Figure, error: Exception | None = None, seconds: int = 1) -> Row:
    async def measure(_: Bench) -> list[Figure]:
        if error is not None:
            raise error
        return list(figures)

    return Row(name, "what", "limit", "target", seconds, measure)


async def test_a_row_that_fails_says_so_and_the_others_go_on(tmp_path: Path) -> None:
    names = list(ROWS)[:3]
    run = Run(Options(TINY, PROGRAM), Servers({}), (), 1, time.monotonic() + 60)
    rows = [row(names[0], error=ExceptionGroup("several", [ValueError("lost")])), row(names[1], Figure("x", 1.0, "/s"))]
    path = tmp_path / "results" / "bench.json"
    assert await run_all(run, rows, path, {}) == []
    kept = stored.load(path)
    assert kept[names[0]].error == "ValueError: lost"
    assert [figure.name for figure in kept[names[1]].figures] == ["x"]

    again = Run(Options(TINY, PROGRAM), Servers({}), (), 1, time.monotonic() + 60)
    await run_all(again, [row(names[1], error=ValueError("lost")), row(names[2], Figure("y", 2.0, "/s"))], path, {})
    assert {name: len(result.figures) for name, result in stored.load(path).items()} == {
        names[0]: 0,
        names[1]: 1,  # a failure replaces no figures
        names[2]: 1,
    }


async def test_the_rows_for_which_no_time_is_left_are_named(tmp_path: Path) -> None:
    run = Run(Options(TINY, PROGRAM), Servers({}), (), 1, time.monotonic() - 1)
    assert await run_all(run, [row("end-to-end")], tmp_path / "bench.json", {}) == ["end-to-end"]
    assert not run.results


async def test_two_programs_are_measured_in_turns(tmp_path: Path) -> None:
    programs: list[Path] = []

    async def measure(bench: Bench) -> list[Figure]:
        programs.append(bench.program)
        return [Figure("x", float(len(programs)), "/s")]

    other = tmp_path / "other"
    run = Run(Options(TINY, PROGRAM), Servers({}), [other], 2, time.monotonic() + 60)
    await run_all(run, [Row("cpu", "what", "limit", "target", 1, measure)], tmp_path / "bench.json", {})
    assert programs == [PROGRAM, other, other, PROGRAM]
    assert run.results["cpu"].figures[0].value == 2.5
    assert run.of_others["program 1"]["cpu"].figures[0].value == 2.5

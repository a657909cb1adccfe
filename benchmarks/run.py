"""`make bench`: every figure beside its own limit, measured in one run, in turns.

A row that fails says so, and the others go on. The results are written after each row. When the time is over, what is
missing is named. Ctrl-C ends all children. Everything shares the machine's cores: compare ratios, not the figures of
two machines. `--program` measures another checkout's `webhook-grpc` in turns with this one's.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, cast

from benchmarks.parts import results as stored
from benchmarks.parts.bench import Bench, Options
from benchmarks.parts.chart import chart
from benchmarks.parts.children import ROOT
from benchmarks.parts.figures import FORMS, Row
from benchmarks.parts.results import Result
from benchmarks.parts.servers import EMBEDDED, Servers
from benchmarks.parts.steps import steps
from benchmarks.parts.table import circumstances, compared, explained, spending, table
from benchmarks.rows import ROWS

PROGRAM: Final = Path(sys.executable).with_name("webhook-grpc")
RESULTS: Final = ROOT / "benchmarks" / "results" / "bench.json"
BUILD: Final = ROOT / "build"  # for results that are not committed: short forms, other programs
DOCUMENT: Final = ROOT / "docs" / "performance.md"
GROWTH: Final = ROOT / "docs" / "growth.md"
CHART: Final = ROOT / "docs" / "performance.svg"
SECONDS_MAX: Final = 1200.0
ROW_FACTOR: Final = 2.5  # of the seconds that a row needs: its bound
ROW_SECONDS_MORE: Final = 60.0  # and so many more, for starts and ends


@dataclass
class Run:
    """The rows of a run: measures them, one after the other, within the time."""

    options: Options
    servers: Servers
    others: Sequence[Path]
    rounds: int
    until: float
    """On the clock of time.monotonic."""
    results: dict[str, Result] = field(default_factory=dict[str, Result])
    of_others: dict[str, dict[str, Result]] = field(default_factory=dict[str, dict[str, Result]])

    async def row(self, row: Row) -> None:
        """Measures a row, on each program in turns."""
        programs = {"": self.options.program, **{f"program {n}": path for n, path in enumerate(self.others, 1)}}
        found: dict[str, list[Result]] = {name: [] for name in programs}
        for turn in range(self.rounds):
            for name in list(programs)[:: 1 if turn % 2 == 0 else -1]:
                found[name].append(await self._measured(row, programs[name]))
        self.results[row.name] = stored.merged(found.pop(""))
        for name, rounds in found.items():
            self.of_others.setdefault(name, {})[row.name] = stored.merged(rounds)

    async def _measured(self, row: Row, program: Path) -> Result:
        empty, started_at = stored.new_result(row, self.options.form.name), time.monotonic()
        bench = Bench(replace(self.options, program=program), self.servers)
        figures, error, bound = (), "", self._bound(row)
        limit = asyncio.timeout(bound)
        try:
            async with limit, bench:
                figures = await row.measure(bench)
        except TimeoutError as failure:
            error = f"not measured in {bound:.0f} s" if limit.expired() else _said(failure)
        except Exception as failure:  # noqa: BLE001 - whatever it was, the other rows go on
            error = _said(failure)
        measured = replace(empty.measured, servers={name: server.about for name, server in bench.used.items()})
        seconds = round(time.monotonic() - started_at, 1)
        return replace(empty, measured=measured, figures=figures, spent=bench.spent, error=error, seconds=seconds)

    def _bound(self, row: Row) -> float:
        return min(ROW_FACTOR * row.seconds + ROW_SECONDS_MORE, max(1.0, self.until - time.monotonic()))


def _said(failure: Exception) -> str:
    if isinstance(failure, ExceptionGroup):
        group = cast("ExceptionGroup[Exception]", failure)
        return _said(group.exceptions[0])  # the others were cancelled by it
    return f"{type(failure).__name__}: {failure}"


async def run_all(run: Run, rows: Sequence[Row], path: Path, before: Mapping[str, Result]) -> Sequence[str]:
    """Measures the rows, writes the results after each, and returns the names of those for which no time was left."""
    kept = stored.load(path)
    missing: list[str] = []
    for row in rows:
        if time.monotonic() > run.until:
            missing.append(row.name)
            continue
        print(f"{row.name}: {row.what}; about {row.seconds * run.options.form.share:.0f} s …", flush=True)
        await run.row(row)
        _keep(kept, row.name, run.results[row.name])
        stored.save(path, in_order(kept))
        print(table({row.name: run.results[row.name]}, before), flush=True)
    return missing


def _keep(kept: dict[str, Result], name: str, result: Result) -> None:
    """Puts a result among those that are kept. One that failed replaces no figures."""
    if not result.error or name not in kept or kept[name].error:
        kept[name] = result


def in_order(results: Mapping[str, Result]) -> dict[str, Result]:
    """Returns results in the order of the rows, without rows that are no more."""
    return {name: results[name] for name in ROWS if name in results}


def document_with(document: str, results: Mapping[str, Result], before: Mapping[str, Result]) -> str:
    """Returns a document with the results in their place. Raises ValueError if it has none."""
    text = "\n\n".join(
        [
            f"![Each figure in parts of its target]({CHART.name})",
            table(results, before),
            "CPU milliseconds of all processes of each role, for each thing counted while the service was measured:",
            spending(results),
            explained(results),
            circumstances(results),
        ]
    )
    return placed(document, "bench", text)


def placed(document: str, mark: str, text: str) -> str:
    """Returns a document with a text in the place that a mark names. Raises ValueError if it has none."""
    pattern = rf"(<!-- measured: {mark} -->\n).*?(<!-- end -->)"
    replaced, count = re.subn(pattern, lambda match: f"{match[1]}{text}\n{match[2]}", document, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"the document has no place for what `make bench` measured: {mark}")
    return replaced


def write_document(results: Mapping[str, Result], before: Mapping[str, Result]) -> None:
    """Writes the tables and the chart into the docs."""
    DOCUMENT.write_text(document_with(DOCUMENT.read_text(), results, before))
    CHART.write_text(chart(results))
    GROWTH.write_text(placed(GROWTH.read_text(), "steps", steps(results)))


def arguments_of(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="", help="comma-separated; default: all that do not need longer")
    parser.add_argument("--form", choices=list(FORMS), default="full", help="how much each row tries")
    parser.add_argument("--seconds", type=float, default=SECONDS_MAX, help="of the whole run at most")
    parser.add_argument("--results", type=Path, help="the file that results are written to; default: the committed one")
    parser.add_argument("--document", action="store_true", help="write docs/performance.md, too")
    parser.add_argument("--program", type=Path, action="append", default=[], help="another webhook-grpc; repeatable")
    parser.add_argument("--rounds", type=int, default=1, help="of each row and program, in turns")
    parser.add_argument("--server", default=EMBEDDED, help="embedded, distribution, or `database 1` for --database")
    parser.add_argument("--database", action="append", default=[], help="a server where databases may be made")
    parser.add_argument("--log", type=Path, help="a file for the log lines of the services; default: nowhere")
    parser.add_argument("--list", action="store_true", help="list the rows")
    return parser.parse_args(given)


def chosen(names: str) -> list[Row]:
    """Returns the rows with these names, or those of a usual run. Ends the program for a name that is none."""
    if not names:
        return [row for row in ROWS.values() if not row.is_apart]
    if unknown := [name for name in names.split(",") if name not in ROWS]:
        sys.exit(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    return [ROWS[name] for name in names.split(",")]


def is_kept(arguments: argparse.Namespace) -> bool:
    """Returns whether the results are those that are committed: of this program, in full."""
    return arguments.results is None and arguments.form == "full" and not arguments.program


def run_of(arguments: argparse.Namespace) -> Run:
    """Returns the run that arguments describe."""
    named = {f"database {number}": url for number, url in enumerate(arguments.database, 1)}
    options = Options(FORMS[arguments.form], PROGRAM, arguments.server, arguments.log)
    until = time.monotonic() + arguments.seconds
    return Run(options, Servers(named), [path.resolve() for path in arguments.program], arguments.rounds, until)


async def measure(run: Run, rows: Sequence[Row], path: Path, before: Mapping[str, Result]) -> Sequence[str]:
    """As `run_all`; SIGTERM ends it as Ctrl-C does."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run_all(run, rows, path, before)


def main(given: Sequence[str]) -> int:
    """Measures, prints and writes; returns the exit status: 1 if a row failed or is missing."""
    arguments = arguments_of(given)
    rows = chosen(arguments.rows)
    if arguments.list:
        print("\n".join(f"{row.name} ({row.seconds} s): {row.what}" for row in ROWS.values()))
        return 0
    before, run = stored.committed(RESULTS), run_of(arguments)
    path = RESULTS if is_kept(arguments) else arguments.results or BUILD / f"bench-{arguments.form}.json"
    try:
        missing = asyncio.run(measure(run, rows, path, before))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted; the rows that were measured are in the file of results")
        return 130
    finally:
        run.servers.close()
    print(f"\n{table(run.results, before)}\n\n{spending(run.results)}\n\n{circumstances(run.results)}")
    for name, results in run.of_others.items():
        print(f"\n{compared(run.results, results, name)}")
    if arguments.document and is_kept(arguments):
        write_document(in_order(stored.load(path)), before)
    if missing:
        print(f"\nthe time was over before: {', '.join(missing)}")
    return 1 if missing or any(result.error for result in run.results.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

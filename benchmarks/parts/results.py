"""The results of rows, as JSON. They say what machine it was in figures only: no names, no paths."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .children import ROOT
from .cpu import cores
from .figures import Figure, Row, Spent


@dataclass(frozen=True)
class Measured:
    """When and where a row was measured."""

    date: str
    cores: int
    python: str
    load_before: float
    """The load of the last minute, before the row."""
    servers: Mapping[str, str]


@dataclass(frozen=True)
class Result:
    """What came of a row. With an error there are no figures."""

    what: str
    limit: str
    target: str
    form: str
    seconds: float
    measured: Measured
    figures: Sequence[Figure] = ()
    spent: Spent = field(default_factory=Spent)
    error: str = ""


def new_result(row: Row, form: str) -> Result:
    """Returns a result without figures, with the state of the machine before the row."""
    measured = Measured(
        time.strftime("%Y-%m-%d", time.gmtime()), cores(), platform.python_version(), round(os.getloadavg()[0], 2), {}
    )
    return Result(row.what, row.limit, row.target, form, 0.0, measured)


def merged(rounds: Sequence[Result]) -> Result:
    """Returns the medians of several rounds of a row; the last error if none of them had figures."""
    whole = [result for result in rounds if not result.error]
    if len(whole) < 2:
        return whole[0] if whole else rounds[-1]
    figures = [_median([result.figures[number] for result in whole]) for number in range(len(whole[0].figures))]
    spent = Spent()
    for result in whole:
        spent.add(result.spent)
    return replace(whole[-1], figures=figures, spent=spent, seconds=sum(result.seconds for result in whole))


def _median(figures: Sequence[Figure]) -> Figure:
    limits = [figure.limit for figure in figures if figure.limit is not None]
    value = statistics.median(figure.value for figure in figures)
    return replace(figures[-1], value=value, limit=statistics.median(limits) if limits else None)


def to_json(results: Mapping[str, Result]) -> str:
    """Returns the text of a file of results."""
    rows = {
        name: {**asdict(result), "figures": [_figure(one) for one in result.figures]}
        for name, result in results.items()
    }
    return json.dumps({"rows": rows}, indent=2) + "\n"


def _figure(figure: Figure) -> dict[str, Any]:
    rounded = {"value": _rounded(figure.value), "limit": _rounded(figure.limit)}
    return {**asdict(figure), **rounded, "ratio": _rounded(figure.ratio), "is_met": figure.is_met}


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def from_json(text: str) -> dict[str, Result]:
    """Returns the results in the text of a file."""
    rows: dict[str, dict[str, Any]] = json.loads(text)["rows"]
    return {name: _result(row) for name, row in rows.items()}


def _result(row: dict[str, Any]) -> Result:
    figures: Any = [Figure(**{name: one[name] for name in Figure.__dataclass_fields__}) for one in row["figures"]]
    values: dict[str, Any] = {**row, "figures": figures}
    values |= {"spent": Spent(**row["spent"]), "measured": Measured(**row["measured"])}
    return Result(**values)


def load(path: Path) -> dict[str, Result]:
    """Returns the results in a file; none where there is no file."""
    return from_json(path.read_text()) if path.exists() else {}


def save(path: Path, results: Mapping[str, Result]) -> None:
    """Writes results to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_json(results))


def committed(path: Path) -> dict[str, Result]:
    """Returns the results in the file as it was committed last; none if it never was, or without git."""
    name = path.resolve().relative_to(ROOT).as_posix() if path.resolve().is_relative_to(ROOT) else ""
    try:
        show = ["git", "show", f"HEAD:{name}"]
        done = subprocess.run(show, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return {}
    return from_json(done.stdout) if name and done.returncode == 0 else {}

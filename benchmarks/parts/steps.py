"""The table of docs/growth.md: what one and two processes do, out of the results of `make bench`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from .results import Result
from .table import amount

# What it is, the row, and its figures of one process and of two
LINES: Final[Sequence[tuple[str, str, str, str]]] = (
    ("delivered, published in batches of 500: events a second", "end-to-end", "one process, embedded", "two processes"),
    ("delivered, published one a call by 48 callers: events a second", "singly", "one process", "two processes"),
    ("published one a call, nobody listens: events a second", "publish-one", "one process", "two processes"),
    ("published in batches of 100, nobody listens: events a second", "publish-batch", "batches of 100", ""),
    ("CPU of the service for an event in batches", "cpu", "service, CPU an event", ""),
    ("CPU of Postgres for the same event", "cpu", "Postgres, CPU an event", ""),
    ("WAL of the same event", "cpu", "WAL an event", ""),
    ("from PublishEvent to the request at the receiver, 50 a second: median", "latency", "50/s, p50", ""),
    ("the same: 99 of 100 are faster", "latency", "50/s, p99", ""),
)


def steps(results: Mapping[str, Result]) -> str:
    """Returns the table. Raises KeyError if a figure is missing."""
    lines = ["| measured | one process | two processes |", "|---|---|---|"]
    lines.extend(
        f"| {what} | {_cell(results[row], one)} | {_cell(results[row], two)} |" for what, row, one, two in LINES
    )
    return "\n".join(lines)


def _cell(result: Result, name: str) -> str:
    if not name:
        return ""
    figures = {figure.name: figure for figure in result.figures}
    return amount(figures[name].value, figures[name].unit.removeprefix("/s"))

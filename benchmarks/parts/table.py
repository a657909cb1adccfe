"""The tables of `make bench`: pure functions from results to Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from .figures import Figure
from .results import Result

ROLES: Final = ("service", "postgres", "generator", "sink", "client")
STILL_SHARE: Final = 0.03  # less is not called a move


def table(results: Mapping[str, Result], before: Mapping[str, Result]) -> str:
    """Returns every figure beside its limit, its target, and what moved since other results."""
    lines = ["| row | figure | measured | limit | ratio | target | met | moved |", "|---|---|---|---|---|---|---|---|"]
    for name, result in results.items():
        if result.error:
            lines.append(f"| {name} | failed: {_plain(result.error)} | | | | | | |")
        lines.extend(
            f"| {name} | {' | '.join(_cells(figure))} | {moved(figure, before.get(name))} |"
            for figure in result.figures
        )
    return "\n".join(lines)


def _cells(figure: Figure) -> Sequence[str]:
    limit = "" if figure.limit is None else amount(figure.limit, figure.unit)
    ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
    met = {True: "yes", False: "**no**", None: ""}[figure.is_met]
    return figure.name, amount(figure.value, figure.unit), limit, ratio, target(figure), met


def target(figure: Figure) -> str:
    """Returns the target of a figure in words, with its unit where it is not a ratio."""
    unit = f" {figure.unit}" if figure.limit is None else ""
    if figure.at_least is not None:
        return f"≥ {figure.at_least:g}{unit}"
    return f"≤ {figure.at_most:g}{unit}" if figure.at_most is not None else ""


def moved(figure: Figure, before: Result | None) -> str:
    """Returns by how much a figure's ratio differs from that of other results; its value where it has no limit."""
    known = {one.name: one for one in before.figures} if before is not None else {}
    then = known.get(figure.name)
    if then is None or not then.judged or figure.judged is None or (then.limit is None) != (figure.limit is None):
        return "new"
    share = figure.judged / then.judged - 1
    return "same" if abs(share) < STILL_SHARE else f"{100 * share:+.0f} %"


def spending(results: Mapping[str, Result]) -> str:
    """Returns what the processes spent while the service was measured, in CPU milliseconds for each thing counted."""
    head = " | ".join(ROLES)
    lines = [f"| row | counted | {head} | machine idle | load before |", "|---" * (4 + len(ROLES)) + "|"]
    for name, result in results.items():
        spent = result.spent
        if spent.counted:
            each = [f"{1000 * spent.cpu.get(role, 0.0) / spent.counted:.3f}" for role in ROLES]
            idle = f"{100 * spent.idle_share:.0f} %"
            lines.append(
                f"| {name} | {spent.counted:,} | {' | '.join(each)} | {idle} | {result.measured.load_before:.1f} |"
            )
    return "\n".join(lines)


def compared(this: Mapping[str, Result], other: Mapping[str, Result], name: str) -> str:
    """Returns the figures of two programs that were measured in turns."""
    lines = [f"| row | figure | this | {name} | this / {name} |", "|---|---|---|---|---|"]
    for row, result in this.items():
        theirs = {figure.name: figure for figure in other[row].figures} if row in other else {}
        lines.extend(
            f"| {row} | failed: {_plain(one.error)} | | | |" for one in (result, other.get(row)) if one and one.error
        )
        for figure in result.figures:
            if then := theirs.get(figure.name):
                ratio = f"{figure.value / then.value:.2f}" if then.value else ""
                values = f"{amount(figure.value, figure.unit)} | {amount(then.value, then.unit)}"
                lines.append(f"| {row} | {figure.name} | {values} | {ratio} |")
    return "\n".join(lines)


def circumstances(results: Mapping[str, Result]) -> str:
    """Returns on what machines and servers the results were measured, each different one once."""
    found: dict[str, None] = {}
    for result in results.values():
        measured = result.measured
        found[f"{measured.date}, {measured.cores} cores, Python {measured.python}, form “{result.form}”"] = None
        for name, about in measured.servers.items():
            found[f"{name}: {about}"] = None
    return "\n".join(f"- {line}" for line in found)


def explained(results: Mapping[str, Result]) -> str:
    """Returns what each row measures, and what its limit is."""
    return "\n".join(
        f"- `{name}`: {result.what}. Limit: {result.limit}. Target: {result.target}."
        for name, result in results.items()
    )


def amount(value: float, unit: str) -> str:
    """Returns a value with as many digits as matter, and its unit."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 4
    space = " " if unit and not unit.startswith("/") else ""
    return f"{value:,.{digits}f}{space}{unit}"


def _plain(text: str) -> str:
    return " ".join(text.replace("|", "/").split())[:200]

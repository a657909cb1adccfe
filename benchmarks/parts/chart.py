"""The chart of `make bench`: a pure function from results to SVG."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Final

from .figures import Figure
from .results import Result
from .table import target

WIDTH: Final = 900
LEFT: Final = 330  # where bars begin
RIGHT: Final = 150  # for what stands behind bars
LINE: Final = 24
TOP: Final = 46
REACH_MAX: Final = 2.0  # longer bars end there
MET, MISSED = "#2f7d4f", "#c4622d"


def reach(figure: Figure) -> float | None:
    """Returns how near a figure is to its target: 1 meets it, more is better. None where nothing is asked of it."""
    judged = figure.judged
    if judged is None or judged < 0:
        return None
    if figure.at_least is not None:
        return judged / figure.at_least
    if figure.at_most is not None:
        return figure.at_most / judged if judged else REACH_MAX
    return None


def chart(results: Mapping[str, Result]) -> str:
    """Returns a bar for each figure that has a target; the line in the middle is the target."""
    bars = [
        (name, figure, found)
        for name, result in results.items()
        for figure in result.figures
        if (found := reach(figure)) is not None
    ]
    height = TOP + LINE * len(bars) + 20
    line = LEFT + (WIDTH - LEFT - RIGHT) / REACH_MAX
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"',
        ' font-family="sans-serif" font-size="12" role="img">',
        "<title>Each figure in parts of its target</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{line:.0f}" y="20" text-anchor="middle" fill="#333333">target; longer is better</text>',
        *(_bar(number, *bar[1:]) for number, bar in enumerate(bars)),
        f'<line x1="{line:.0f}" y1="28" x2="{line:.0f}" y2="{height - 12}" stroke="#333333" stroke-dasharray="4 3"/>',
        *(_label(number, *bar) for number, bar in enumerate(bars)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _bar(number: int, figure: Figure, found: float) -> str:
    colour = MET if figure.is_met else MISSED
    return f'<rect x="{LEFT}" y="{TOP + LINE * number}" width="{_length(found):.1f}" height="16" fill="{colour}"/>'


def _label(number: int, name: str, figure: Figure, found: float) -> str:
    """Returns what stands before and behind a bar; with a rim, so that it can be read across the line."""
    y, judged = TOP + LINE * number + 12, figure.judged or 0.0
    said = escape(f"{judged:.2f} (target {target(figure)})")
    rim = 'fill="#333333" stroke="#ffffff" stroke-width="3" paint-order="stroke"'
    return (
        f'<text x="{LEFT - 8}" y="{y}" text-anchor="end" {rim}>{escape(f"{name}: {figure.name}")}</text>\n'
        f'<text x="{LEFT + _length(found) + 6:.1f}" y="{y}" {rim}>{said}</text>'
    )


def _length(found: float) -> float:
    return (WIDTH - LEFT - RIGHT) * min(found, REACH_MAX) / REACH_MAX

"""How wide the columns of a table are, so that no word is broken that somebody reads. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .kind import Column

_GAP: Final = 2  # blanks between two columns
_FOLDED_MIN: Final = 12  # cells of a column that may be folded within words


def fitted(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> dict[int, int | None]:
    """Returns the places of the columns that are shown, each with its width; None where there is room for all of it.

    If not even whole words have room, columns are left out as they say. What then still has no room is broken.
    """
    texts = [[column.title, *(row[at] for row in rows)] for at, column in enumerate(columns)]
    whole = [max(map(_cells, cells)) for cells in texts]
    least = [_least(column, cells) for column, cells in zip(columns, texts, strict=True)]
    shown = list(range(len(columns)))
    while _sum(least, shown) > width:
        droppable = [at for at in shown if columns[at].dropped]
        if not droppable:
            break
        shown.remove(max(droppable, key=lambda at: (columns[at].dropped, at)))
    if _sum(whole, shown) <= width or _sum(least, shown) > width:
        return dict.fromkeys(shown)
    return dict(zip(shown, _shared(shown, least, whole, width), strict=True))


def _shared(shown: Sequence[int], least: Sequence[int], whole: Sequence[int], width: int) -> list[int]:
    """Returns the widths: what is left beyond the least goes a cell at a time to the narrowest that wants more."""
    widths = {at: least[at] for at in shown}
    for _ in range(width - _sum(least, shown)):
        wanting = [at for at in shown if widths[at] < whole[at]]
        widths[min(wanting, key=lambda at: (widths[at], at))] += 1
    return [widths[at] for at in shown]


def _least(column: Column, cells: Sequence[str]) -> int:
    if column.is_whole or column.is_number:
        return max(map(_cells, cells))
    words = max((_cells(word) for cell in cells for word in cell.split()), default=1)
    return max(_cells(column.title), min(words, _FOLDED_MIN)) if column.is_foldable else words


def _sum(widths: Sequence[int], shown: Sequence[int]) -> int:
    return sum(widths[at] for at in shown) + _GAP * (len(shown) - 1)


def _cells(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)

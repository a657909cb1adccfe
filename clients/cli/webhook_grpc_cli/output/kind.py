"""What a list of one kind of thing shows: its columns on a terminal, and which field is its id."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from .look import Look

ANY: Final = "*"  # what follows a name is for its owner to choose


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in one place of a table. `style` is one of rich's, and never says what the text does not."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `path` is the field that stands there in a pipe.

    `show` makes the cell for a terminal from a plain value, as `values.plain` returns it.
    """

    title: str
    path: str
    show: Callable[[Mapping[str, Any], Look], Cell | str] | None = None
    is_number: bool = False
    is_whole: bool = False
    """Never folded, so that it can be copied."""
    is_foldable: bool = False
    """May be folded within a word, for words may be longer than any terminal is wide."""
    dropped: int = 0
    """Where there is no room for whole words, columns with the highest number are left out first; 0: never."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of thing."""

    id_field: str
    columns: Sequence[Column]
    message: str = ""
    """The message of the API that is shown; empty for none."""
    more: Mapping[str, str] = field(default_factory=dict[str, str])
    """Names that are shown beside its fields: of which message, ANY, or empty for a single value."""

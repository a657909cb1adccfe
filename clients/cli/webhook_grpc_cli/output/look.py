"""What the reader's terminal can show, and how times and numbers look there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TextIO

WIDTH_USUAL: Final = 100
_ASCII: Final = {
    "✓": "ok", "◷": "..", "✕": "XX", "⊘": "--", "⧖": "><", "●": "o", "■": "#", "▲": "^", "◆": "<>", "\N{EN DASH}": "-",
    "…": "...", "━": "-", "─": "-", "→": "->", "·": "|", "⏻": "off", "⏸": "||",
    "↑": "^", "↓": "v", "⏎": "Enter", "▸": ">",
}  # fmt: skip
_TO_ASCII: Final = str.maketrans(_ASCII)
_WITHOUT_UNICODE: Final = frozenset({"C", "POSIX"})
_COERCED: Final = frozenset({"C.UTF-8", "C.utf8", "UTF-8"})  # what Python writes into LC_CTYPE where the locale is C


@dataclass(frozen=True, slots=True)
class Look:
    """How one stream is written. `now` is when the command started."""

    is_terminal: bool
    has_colour: bool
    has_unicode: bool
    width: int
    is_utc: bool
    now: datetime

    def mark(self, text: str) -> str:
        """Returns marks as they are, or in ASCII where the locale has no UTF-8."""
        return text if self.has_unicode else text.translate(_TO_ASCII)

    def clock(self, at: datetime) -> str:
        """Returns a time of day to the millisecond, with the date if that is not today."""
        shown, today = self._zoned(at), self._zoned(self.now)
        date = "" if shown.date() == today.date() else f"{shown:%Y-%m-%d} "
        return f"{date}{shown:%H:%M:%S}.{shown.microsecond // 1000:03d}"

    def relative(self, at: datetime) -> str:
        """Returns `3 s ago` or `in 58 s`."""
        seconds = (at - self.now).total_seconds()
        return f"in {span_text(seconds)}" if seconds > 0 else f"{span_text(-seconds)} ago"

    def _zoned(self, at: datetime) -> datetime:
        return at.astimezone(UTC if self.is_utc else None)


def is_terminal(stream: TextIO) -> bool:
    """Returns whether a person reads the stream."""
    try:
        return stream.isatty()
    except ValueError:  # it is closed
        return False


def look_of(stream: TextIO, colour: str, environment: Mapping[str, str], *, is_utc: bool) -> Look:
    """Returns how a stream is written: `colour` is always, never or auto; a flag wins over the environment."""
    terminal = is_terminal(stream)
    return Look(
        is_terminal=terminal,
        has_colour=_has_colour(colour, environment, is_terminal=terminal),
        has_unicode=_has_unicode(stream, environment),
        width=width_of(stream, environment),
        is_utc=is_utc,
        now=datetime.now(UTC),
    )


def _has_unicode(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Returns whether marks beyond ASCII are shown. In the locale C Python writes UTF-8 all the same (PEP 538, 540)."""
    encoding = (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "")
    kind = environment.get("LC_CTYPE", "")
    names = [environment.get("LC_ALL"), "" if kind in _COERCED else kind, environment.get("LANG")]
    return encoding.startswith("utf") and next(filter(None, names), "") not in _WITHOUT_UNICODE


def _has_colour(colour: str, environment: Mapping[str, str], *, is_terminal: bool) -> bool:
    if colour != "auto":
        return colour == "always"
    if "NO_COLOR" in environment:
        return False
    if environment.get("FORCE_COLOR"):
        return True
    return is_terminal and environment.get("TERM") != "dumb"


def width_of(stream: TextIO, environment: Mapping[str, str]) -> int:
    """Returns how many characters a line of the stream has now: a window may be made wider or narrower."""
    columns = environment.get("COLUMNS", "")
    if columns.isdigit() and 0 < int(columns) < 10_000:
        return int(columns)
    try:
        return os.get_terminal_size(stream.fileno()).columns or WIDTH_USUAL
    except (OSError, ValueError):
        return WIDTH_USUAL


def span_text(seconds: float) -> str:
    """Returns how long that is: `84 ms`, `15.0 s`, `58 s`, `4 min 12 s`, `3 h 5 min`, `2 d 4 h`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    whole = round(seconds)
    for size, small, unit, below in ((86400, 3600, "d", "h"), (3600, 60, "h", "min"), (60, 1, "min", "s")):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size} {unit}" + (f" {rest} {below}" if rest else "")
    return f"{whole} s"


def latency_text(seconds: float) -> str:
    """Returns how long an answer took: `84 ms` or `15.0 s`."""
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"

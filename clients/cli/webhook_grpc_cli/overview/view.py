"""What a person has chosen to see of `top`, key by key. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from webhook_grpc_cli.output.escaping import escaped
from webhook_grpc_cli.output.look import Look
from webhook_grpc_cli.output.things import time_of
from webhook_grpc_cli.values import field_at

from .asking import ACTS, Asking, Row, Wanted
from .rows import is_trouble

SORTS: Final = ("trouble", "attempts", "pending", "name")
FILTER_CHARACTERS_MAX: Final = 40
_ESCAPES: Final = {b"\x1b[A": "up", b"\x1b[B": "down", b"\x1bOA": "up", b"\x1bOB": "down"}
_NAMES: Final = {"k": "up", "j": "down", "\r": "enter", "\n": "enter", "\x7f": "back", "\b": "back", "\x1b": "escape"}
_UTF8: Final = ((0xF0, 4), (0xE0, 3), (0xC0, 2))  # from which first byte on a character has so many
_SWITCHES: Final = {"enter": "is_open", "p": "is_problems", " ": "is_held", "?": "is_help"}
HELP: Final = (
    "↑↓ or j k  choose a webhook          ⏎  open it, and close it again",
    "/  show only names with these letters (⏎ ends, Esc takes them away)",
    "s  sort by trouble, attempts, pending, name          p  only those with trouble",
    "t  send a test    r  retry the delivery that failed last    P  pause    R  resume: each asks first",
    "e  explain its last delivery    y  copy its id    Space  hold the table, and let it go on    q  quit",
)
_KEYS_OF_ACTS: Final = ("t test", "r retry last", "P pause", "R resume", "e explain", "y copy id")


def keys(data: bytes) -> Iterator[str]:
    """Yields the keys that a terminal has sent: characters, and names such as `up`."""
    while data:
        length = 3 if data[:3] in _ESCAPES else 1
        if length == 3:
            yield _ESCAPES[data[:3]]
        elif data[:2] == b"\x1b[":  # another key, which is passed over up to its last byte
            length = 2 + next((at for at, byte in enumerate(data[2:], 1) if 0x40 <= byte <= 0x7E), len(data))
        else:
            length = next((length for first, length in _UTF8 if data[0] >= first), 1)
            yield data[:length].decode(errors="replace")
        data = data[length:]


@dataclass(slots=True)
class View:
    """What is chosen. `press` changes it; `shown` chooses rows."""

    sort: str = SORTS[0]
    is_problems: bool = False
    is_held: bool = False
    is_help: bool = False
    is_open: bool = False
    is_typing: bool = False
    has_quit: bool = False
    words: str = ""
    """What names have to contain."""
    chosen: int = 0
    """The webhook's id, 0 for none."""
    asking: Asking = field(default_factory=Asking)
    said: str = ""
    """The line about the last act."""

    def press(self, key: str, rows: Sequence[Row]) -> Wanted | None:
        """Takes a key; `rows` are those that it was pressed in front of, in their order.

        Returns an act that is wanted, and agreed to.
        """
        if self.asking.is_open:
            return self.asking.press(key)
        if self.is_typing:
            self._type(_NAMES.get(key, key) if key not in "jk" else key)
        elif key in ACTS:
            return self._wish(key, rows)
        else:
            self._show(_NAMES.get(key, key), rows)
        return None

    def _wish(self, key: str, rows: Sequence[Row]) -> Wanted | None:
        row = self._chosen_of(rows)
        self.said = "" if row else f"{ACTS[key][0]}: no webhook is chosen: ↑↓"
        return self.asking.ask(Wanted(key, row)) if row else None

    def _chosen_of(self, rows: Sequence[Row]) -> Row | None:
        return next((row for row in rows if row["webhook_id"] == self.chosen), None)

    def _show(self, name: str, rows: Sequence[Row]) -> None:
        if name == "enter" and not self.chosen:
            self._choose(0, rows)
        if name == "q":
            self.has_quit = True
        elif name in _SWITCHES:
            setattr(self, _SWITCHES[name], not getattr(self, _SWITCHES[name]))
        elif name in {"up", "down"}:
            self._choose(-1 if name == "up" else 1, rows)
        elif name == "s":
            self.sort = SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)]
        elif name == "/":
            self.is_typing, self.words = True, ""
        elif name == "escape":
            self.is_help, self.is_open, self.words, self.said = False, False, "", ""

    def _type(self, key: str) -> None:
        if key in {"enter", "escape"}:
            self.is_typing = False
            self.words = self.words if key == "enter" else ""
        elif key == "back":
            self.words = self.words[:-1]
        elif len(key) == 1 and key.isprintable() and len(self.words) < FILTER_CHARACTERS_MAX:
            self.words += key

    def _choose(self, step: int, rows: Sequence[Row]) -> None:
        ids = [row["webhook_id"] for row in rows]
        if not ids:
            return
        at = ids.index(self.chosen) + step if self.chosen in ids else 0
        self.chosen = ids[max(0, min(at, len(ids) - 1))]

    def ordered(self, rows: Sequence[Row]) -> list[Row]:
        """Returns the rows that are wanted, in their order; `rows` are by trouble."""
        wanted = [row for row in rows if self.words.lower() in str(row["name"]).lower()]
        wanted = [row for row in wanted if is_trouble(row)] if self.is_problems else wanted
        if self.sort == "attempts":
            wanted.sort(key=lambda row: -row["attempts_per_second"])
        elif self.sort == "pending":
            wanted.sort(key=lambda row: -(field_at(row, "stats.pending_count") or 0))
        elif self.sort == "name":
            wanted.sort(key=lambda row: str(row["name"]).lower())
        return wanted

    def window(self, rows: Sequence[Row], limit: int) -> Sequence[Row]:
        """Returns at most `limit` of ordered rows, the chosen one among them."""
        at = next((number for number, row in enumerate(rows) if row["webhook_id"] == self.chosen), 0)
        first = max(0, at - limit + 1)
        return rows[first : first + limit]

    def footer(self, rows: Sequence[Row], look: Look, last: Sequence[str] = ()) -> list[str]:
        """Returns the lines below the table; `last` are those about the webhook that is chosen."""
        lines = [""]
        chosen = self._chosen_of(rows)
        if self.is_open:
            lines += [_detail(chosen, look), *last, ""] if chosen else ["no webhook is chosen: ↑↓", ""]
        if self.is_help:
            lines += [*HELP, ""]
        if self.asking.is_open:
            return [*lines, *_filled(self.asking.line().split(" "), look.width, " ")]
        if self.is_typing:
            return [*lines, f"/{escaped(self.words)}_"]
        if self.said:
            lines += [*_filled(self.said.split(" "), look.width, " "), ""]
        words = (
            "↑↓ choose",
            "⏎ open",
            f"/ filter: {escaped(self.words)}" if self.words else "/ filter",
            f"s sort: {self.sort}",
            "p all" if self.is_problems else "p problems",
            *_KEYS_OF_ACTS,
            "Space go on" if self.is_held else "Space hold",
            "? help",
            "q quit",
        )
        return [*lines, *_filled(words, look.width, "  ")]


def _filled(words: Sequence[str], width: int, gap: str) -> list[str]:
    """Returns lines of at most so many characters, as far as single words allow."""
    lines = [""]
    for word in words:
        longer = f"{lines[-1]}{gap}{word}" if lines[-1] else word
        if len(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _detail(row: Row, look: Look) -> str:
    """Returns one webhook's outcomes of the hour, and since when it fails."""
    outcomes = field_at(row, "stats.outcomes") or ()
    counts = " · ".join(f"{one['outcome']} {one['count']:,}" for one in outcomes) or "no attempts in the last hour"
    since = time_of(row, "stats.failing_since_time")
    failing = f"   failing since {look.clock(since).partition('.')[0]}" if since else ""
    return f"{escaped(str(row['name']))} #{row['webhook_id']} ─ {counts}{failing}"

"""Where `top` shows its rounds: in their place on a terminal, with keys; elsewhere as a block of lines each."""

from __future__ import annotations

import base64
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from webhook.v1 import delivery_pb2

from webhook_grpc_cli.output.kind import Column
from webhook_grpc_cli.output.look import Look, width_of
from webhook_grpc_cli.output.printing import console_of
from webhook_grpc_cli.session import Session
from webhook_grpc_cli.watching.lines import line_of_one

from .acts import Acts
from .asking import COPY, Asking, Wanted
from .keyboard import Keyboard
from .rows import heading_text, kind
from .view import View

LastOf = Callable[[int], Sequence[delivery_pb2.Delivery]]
"""Returns the last changes of a webhook's deliveries, the newest first."""
_ROWS_MAX: Final = 50  # of a block in a pipe
_LINES_AROUND: Final = 4  # what a terminal shows beside the rows and what stands below them


@dataclass(frozen=True, slots=True)
class Round:
    """What there is to show: the first line, and the rows, those with the most trouble first."""

    head: str
    rows: Sequence[Mapping[str, Any]]
    now: datetime


class Blocks:
    """Writes a block of lines for each round: a table with its heading, or what the chosen form makes of each row."""

    has_quit = False

    def __init__(self, session: Session) -> None:
        self._session = session

    def wait(self, seconds: float, failed: threading.Event) -> None:
        """Waits for the next round, or for a failure."""
        failed.wait(seconds)

    def show(self, found: Round) -> None:
        """Writes a round."""
        printer, look = self._session.printer, self._session.look
        printer.look = replace(look, now=found.now)
        if printer.is_for_people:
            printer.sentence(found.head)
        limit = _lines() if look.is_terminal else _ROWS_MAX
        printer.several(kind(look, is_table=printer.is_for_people), found.rows[:limit])
        sys.stdout.flush()


class Screen:
    """Shows each round in the place of the one before, as the keys have it."""

    def __init__(self, session: Session, live: Any, keyboard: Keyboard, acts: Acts, last_of: LastOf) -> None:
        self._last_of = last_of
        self._printer = session.printer
        self._live = live
        self._keyboard = keyboard
        self._acts = acts
        place = session.place
        asking = Asking(place.profile_name, place.profile.get("confirm") == "always", session.is_yes)
        self._view = View(asking=asking)
        self._round: Round | None = None

    @property
    def has_quit(self) -> bool:
        """Returns whether `q` was pressed."""
        return self._view.has_quit

    def wait(self, seconds: float, failed: threading.Event) -> None:
        """Takes keys until the next round, a failure or `q`."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not (failed.is_set() or self.has_quit):
            for key in self._keyboard.read(left, failed.wait):
                wanted = self._view.press(key, self._view.ordered(self._round.rows if self._round else ()))
                if wanted is not None:
                    self._carry_out(wanted)
                self._draw()
            self._note_act()

    def _carry_out(self, wanted: Wanted) -> None:
        if wanted.key == COPY:
            self._copy(str(wanted.row["webhook_id"]))
        else:
            self._view.said = self._acts.begin(wanted)

    def _note_act(self) -> None:
        """Shows what came of an act that has ended."""
        self._acts.raise_failure()
        if (said := self._acts.take_said()) is not None:
            self._view.said = said
            self._draw()

    def _copy(self, text: str) -> None:
        """Gives a text to the terminal for its clipboard (OSC 52), which is how that is reached over ssh, too."""
        data = base64.b64encode(text.encode()).decode("ascii")
        stream = self._live.console.file
        stream.write(f"\x1b]52;c;{data}\x07")
        stream.flush()
        self._view.said = f"copied {text}, if the terminal lets programs copy"

    def show(self, found: Round) -> None:
        """Shows a round, unless the one before is held."""
        if not self._view.is_held or self._round is None:
            self._round = found
        self._draw()

    def _draw(self) -> None:
        from rich.console import Group
        from rich.text import Text

        if (found := self._round) is None:
            return
        view, printer = self._view, self._printer
        printer.look = self._look_now(found.now)
        rows = view.ordered(found.rows)
        plain = replace(printer.look, has_colour=False)
        last = [f"  {line_of_one(one, plain)}" for one in self._last_of(view.chosen)] if view.is_open else []
        footer = view.footer(rows, printer.look, last) if self._keyboard.is_there else []
        table = printer.table(self._columns(), view.window(rows, max(1, _lines() - len(footer))))
        head = f"{found.head}   held" if view.is_held else found.head
        below = [Text(printer.look.mark(line), no_wrap=True, overflow="crop") for line in footer]
        self._live.update(Group(Text(head, no_wrap=True, overflow="crop"), Text(""), table, *below), refresh=True)

    def _look_now(self, now: datetime) -> Look:
        """Returns how the terminal is written now. One that is wider or narrower than before is wiped first."""
        before, console = self._printer.look, self._live.console
        width = width_of(console.file, os.environ)
        if width != before.width:
            console.width = width
            console.clear()
        return replace(before, now=now, width=width)

    def _columns(self) -> Sequence[Column]:
        """Returns the columns, the first with a mark in front of the webhook that is chosen."""
        first, *others = kind(self._printer.look, is_table=True).columns
        if not self._view.chosen:
            return [first, *others]

        def marked(row: Mapping[str, Any], _: Any) -> str:
            return f"{'▸' if row['webhook_id'] == self._view.chosen else ' '} {heading_text(row)}"

        return [replace(first, show=marked), *others]


def screen_of(session: Session, stack: ExitStack, acts: Acts, last_of: LastOf) -> Screen | Blocks:
    """Returns what rounds are shown with; `stack` takes it down at the end."""
    console = console_of(session.look)
    if not (session.printer.has_own_lines and session.look.is_terminal) or console.is_dumb_terminal:
        return Blocks(session)
    from rich.live import Live

    keyboard = stack.enter_context(Keyboard())
    return Screen(session, stack.enter_context(Live(console=console, auto_refresh=False)), keyboard, acts, last_of)


def _lines() -> int:
    return max(1, shutil.get_terminal_size().lines - _LINES_AROUND)

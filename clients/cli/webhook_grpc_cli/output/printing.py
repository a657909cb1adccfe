"""Writes answers to stdout: a table, tab-separated values, JSON or ids."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice, zip_longest
from typing import Any, Final, Literal, cast

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from webhook_grpc_cli.failures import UsageFailure
from webhook_grpc_cli.values import RawJson, field_at, json_text, plain

from . import fields as names
from .escaping import escaped, escaped_lines
from .fitting import fitted
from .kind import Cell, Column, Kind
from .look import Look

Format = Literal["table", "tsv", "json", "id"]
NOTHING: Final = "\N{EN DASH}"
TABLE_ROWS_MAX: Final = 1000  # a longer list is printed as several tables, so that it need not fit into memory


class Printer:
    """Prints what a command answers."""

    def __init__(
        self, form: Format, look: Look, fields: Sequence[str] = (), say: Callable[[str], None] = lambda _: None
    ) -> None:
        """`say` prints a sentence about the answer for people."""
        self.form = form
        self.look = look
        self._fields = tuple(fields)
        self._say = say
        self._left_out: tuple[str, ...] = ()
        self._widths: dict[str, int] = {}

    @property
    def is_for_people(self) -> bool:
        """Returns whether sentences may stand in the answer."""
        return self.form == "table"

    @property
    def has_own_lines(self) -> bool:
        """Returns whether a command writes lines of its own making, for people, and not the fields that are chosen."""
        return self.is_for_people and not self._fields

    def check(self, kind: Kind) -> None:
        """Raises UsageFailure if --fields names what such a thing does not have, as far as that is known beforehand."""
        known = names.names_of(kind) if self._fields else None
        if known is not None:
            names.check(self._fields, known)

    def check_answer(self, request: Message) -> None:
        """Raises UsageFailure if --fields names what the answer to a request will not have."""
        if self._fields and (
            known := names.names_of_answer(cast("Descriptor", request.DESCRIPTOR))
        ):  # else nothing is printed
            names.check(self._fields, known)

    def _check(self, kind: Kind, value: Message | Mapping[str, Any]) -> None:
        if not self._fields or kind.message or kind.more:
            return
        known = (
            names.members(cast("Descriptor", value.DESCRIPTOR)) if isinstance(value, Message) else names.names_in(value)
        )
        names.check(self._fields, known)

    def several(self, kind: Kind, messages: Iterable[Message | Mapping[str, Any]]) -> int:
        """Prints messages, or plain values, as they come in. Returns how many there were. Raises UsageFailure."""
        self.check(kind)
        if self.form == "table":
            return self._tables(kind, iter(messages))
        count = 0
        for message in messages:
            write_line(self._line(kind, message))
            count += 1
        return count

    def streamed(self, kind: Kind, message: Message | Mapping[str, Any]) -> str:
        """Returns one of many things that come one after the other as a line. Raises UsageFailure.

        As a table that is the fields that are chosen, each as wide as the widest so far.
        """
        self._check(kind, message)
        if self.form != "table":
            return self._line(kind, message)
        value = _plain(message)
        texts = {path: text_of(field_at(value, path)) or NOTHING for path in self._fields}
        self._widths = {path: max(len(text), self._widths.get(path, 0)) for path, text in texts.items()}
        return self.look.mark("  ".join(f"{text:<{self._widths[path]}}" for path, text in texts.items()).rstrip())

    def one(self, kind: Kind, message: Message | Mapping[str, Any]) -> None:
        """Prints one thing: on a terminal, and where it has no columns, all its fields, each on a line of its own.

        Raises UsageFailure.
        """
        self.check(kind)
        self._check(kind, message)
        is_tall = self.form == "table" or (self.form == "tsv" and not (self._fields or kind.columns))
        if not is_tall:
            write_line(self._line(kind, message))
            return
        value = _plain(message)
        paths = self._fields or [path for path, _ in _flat("", value)]
        values = [(path, field_at(value, path)) for path in paths]
        width = max((len(path) for path, _ in values), default=0)
        for path, one in values:
            write_line(f"{path}\t{text_of(one)}" if self.form == "tsv" else f"{path:<{width}}  {text_of(one)}")

    def sentence(self, text: str) -> None:
        """Prints a sentence for people, with marks as the terminal can show them."""
        write_line(escaped_lines(self.look.mark(text)))

    def _line(self, kind: Kind, message: Message | Mapping[str, Any]) -> str:
        value = _plain(message)
        if self.form == "json":
            return json_text(_chosen(value, self._fields) if self._fields else value)
        if self.form == "id" and not (self._fields or kind.id_field):
            raise UsageFailure("-o id: what this prints has no id")
        default = [kind.id_field] if self.form == "id" else [column.path for column in kind.columns]
        return "\t".join(text_of(field_at(value, path)) for path in self._fields or default)

    def _tables(self, kind: Kind, messages: Iterator[Message | Mapping[str, Any]]) -> int:
        count = 0
        columns = [Column(path, path) for path in self._fields] or list(kind.columns)
        while rows := list(islice(messages, TABLE_ROWS_MAX)):
            console_of(self.look).print(self.table(columns, rows))
            count += len(rows)
            self._say_what_is_left_out()
        return count

    def _say_what_is_left_out(self) -> None:
        if self._left_out:
            self._say(f"left out, for {self.look.width} columns: {', '.join(self._left_out)}. All: -o tsv, -o json")
        self._left_out = ()

    def table(self, columns: Sequence[Column], messages: Sequence[Message | Mapping[str, Any]]) -> Any:
        """Returns messages, or plain values, as a table of rich, with as many of the columns as there is room for."""
        from rich.text import Text

        rows = [[self._cell(column, value) for column in columns] for value in map(_plain, messages)]
        fit = fitted(columns, [[cell.text for cell in row] for row in rows], self.look.width)
        self._left_out = tuple(column.title for at, column in enumerate(columns) if at not in fit)
        texts = [
            [Text(row[at].text, style=row[at].style if self.look.has_colour else "") for at in fit] for row in rows
        ]
        return table_of(self.look, [columns[at] for at in fit], texts, list(fit.values()))

    def _cell(self, column: Column, value: Mapping[str, Any]) -> Cell:
        shown = column.show(value, self.look) if column.show else text_of(field_at(value, column.path))
        cell = shown if isinstance(shown, Cell) else Cell(shown)
        return Cell(self.look.mark(escaped(cell.text) or NOTHING), cell.style)


def table_of(
    look: Look, columns: Sequence[Column], rows: Sequence[Sequence[Any]], widths: Sequence[int | None] = ()
) -> Any:
    """Returns rows of rich's texts as the one form of table that there is. A width of None: rich finds one."""
    from rich import box
    from rich.table import Table

    frame = box.SIMPLE_HEAD if look.has_unicode else box.ASCII2
    table = Table(box=frame, show_edge=False, pad_edge=False, collapse_padding=True, header_style="")
    for column, width in zip_longest(columns, widths[: len(columns)]):
        justify = "right" if column.is_number else "left"
        title = look.mark(column.title)
        table.add_column(title, justify=justify, overflow="fold", no_wrap=column.is_whole, width=width)
    for row in rows:
        table.add_row(*row)
    return table


def console_of(look: Look, *, is_stderr: bool = False) -> Any:
    """Returns a console of rich that writes as the look says, and interprets nothing in what it writes."""
    from rich.console import Console

    return Console(
        file=sys.stderr if is_stderr else sys.stdout,
        width=look.width,
        height=None if os.environ.get("TERM") != "dumb" else 25,  # without it rich takes a dumb terminal for 80 wide
        force_terminal=look.has_colour or look.is_terminal,
        color_system="auto" if look.has_colour and look.is_terminal else "standard" if look.has_colour else None,
        no_color=not look.has_colour,
        highlight=False,
        markup=False,
        emoji=False,
    )


def write_line(text: str) -> None:
    """Writes a line to stdout; characters that its encoding lacks are escaped."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def text_of(value: Any) -> str:
    """Returns a plain value as text on one line, with nothing in it that drives a terminal."""
    if value is None:
        return ""
    if isinstance(value, list) and not any(isinstance(item, list | dict) for item in value):  # pyright: ignore[reportUnknownVariableType]
        return ",".join(map(text_of, value))  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, str) and not isinstance(value, RawJson):
        return escaped(value)
    return escaped(json_text(value))


def _plain(message: Message | Mapping[str, Any]) -> Mapping[str, Any]:
    return plain(message) if isinstance(message, Message) else message


def _flat(prefix: str, value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, one in value.items():
        if isinstance(one, dict) and one and prefix == "":
            yield from _flat(f"{name}.", one)  # pyright: ignore[reportUnknownArgumentType]
        else:
            yield prefix + name, one


def _chosen(value: Mapping[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    """Returns the fields at some paths, each where it was."""
    chosen: dict[str, Any] = {}
    for path in paths:
        *folders, name = path.split(".")
        place = chosen
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = field_at(value, path)
    return chosen

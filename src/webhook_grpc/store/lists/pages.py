"""Pages of lists that are filtered by what no index knows.

A list is read in steps: narrow rows in the order of an index, judged by the database; those that fit are fetched whole
afterwards. A page ends when it is full, in number or in bytes, or when so many rows were read that the caller should
have an answer first: then it may be short, or empty, and says where it goes on. So no filter, however rare what it
wants, runs into the statement's deadline, and nothing large is fetched to be thrown away.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

STEP_ROWS_MAX: Final = 5_000
ROWS_READ_MAX: Final = 100_000  # for one page; about a quarter of a second

Key = TypeVar("Key")
Key_co = TypeVar("Key_co", covariant=True)
Item = TypeVar("Item")


class StepRow(Protocol[Key_co]):
    """A row of a step: one that belongs to the list, or the one at which the step ends; without what is large of it."""

    @property
    def key(self) -> Key_co:
        """Its place in the list."""
        ...

    @property
    def fits(self) -> bool:
        """Whether it belongs to the list."""
        ...

    @property
    def size_bytes(self) -> int:
        """About how large it is as a whole."""
        ...


AnyStepRow = TypeVar("AnyStepRow", bound=StepRow[Any])


@dataclass(frozen=True, slots=True)
class Step(Generic[Key, AnyStepRow]):
    """The next rows of a list, at the most one of which does not fit. `rows_read` were read to find them."""

    rows: Sequence[AnyStepRow]
    rows_read: int
    next_key: Key | None  # after which the list goes on; None: these were the last


@dataclass(frozen=True, slots=True)
class Page(Generic[Key, Item]):
    """Items with the key of each."""

    items: Sequence[Item]
    keys: Sequence[Key]
    next_key: Key | None  # after which the list goes on; None on the last page

    def key_after(self, count: int) -> Key | None:
        """After which key the list goes on if only the first so many items are taken."""
        return self.next_key if count == len(self.items) else self.keys[count - 1]


@dataclass(frozen=True, slots=True)
class PageBounds:
    """How much a page may hold: at least one item, whatever its size."""

    items_max: int
    bytes_max: int


async def fill_page(
    read: Callable[[Key, int], Awaitable[Step[Key, AnyStepRow]]],
    before: Key,
    bounds: PageBounds,
) -> tuple[list[AnyStepRow], Key | None]:
    """The rows of one page, and after which key the list goes on, None if that was all.

    `read` returns the step after a key, of about so many rows.
    """
    chosen: list[AnyStepRow] = []
    room_bytes = bounds.bytes_max
    rows_read = 0
    step_rows = bounds.items_max + 1  # one more tells whether there is a next page
    while True:
        step = await read(before, step_rows)
        for row in step.rows:
            if row.fits:
                room_bytes -= row.size_bytes
                if len(chosen) == bounds.items_max or (chosen and room_bytes < 0):
                    return chosen, before
                chosen.append(row)
            before = row.key
        rows_read += step.rows_read
        if step.next_key is None or rows_read >= ROWS_READ_MAX:
            return chosen, step.next_key
        before = step.next_key
        step_rows = min(step_rows * 4, STEP_ROWS_MAX)

"""Pages of lists with filters that no index knows.

A list is read in steps: the database reads narrow rows in the order of an index and says which fit the filter; only
those are then fetched whole. A page ends when it is full, in number or in bytes, or when ROWS_READ_MAX rows were read:
then it may be short, or empty, and has the key where the list goes on. So no filter, however little fits it, misses the
statement's deadline, and nothing large is fetched to be thrown away.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from webhook_grpc.domain.record import record

STEP_ROWS_MAX: Final = 5_000
ROWS_READ_MAX: Final = 100_000  # for one page; about a quarter of a second

ListKey = TypeVar("ListKey")
ListKey_co = TypeVar("ListKey_co", covariant=True)
ListItem = TypeVar("ListItem")


class StepRow(Protocol[ListKey_co]):
    """A narrow row of a step: one that fits the filter, or the one at which the step ends."""

    @property
    def key(self) -> ListKey_co:
        """Returns the row's place in the list."""
        ...

    @property
    def fits(self) -> bool:
        """Returns whether the row fits the filter."""
        ...

    @property
    def size_bytes(self) -> int:
        """Returns about how large the whole row is."""
        ...


AnyStepRow = TypeVar("AnyStepRow", bound=StepRow[Any])


@record
class ListStep(Generic[ListKey, AnyStepRow]):
    """The next rows of a list; at most one of them does not fit. `rows_read` were read to find them."""

    rows: Sequence[AnyStepRow]
    rows_read: int
    next_key: ListKey | None  # the list goes on after it; None: these were the last rows


@record
class Page(Generic[ListKey, ListItem]):
    """The items of a page, and the key of each."""

    items: Sequence[ListItem]
    keys: Sequence[ListKey]
    next_key: ListKey | None  # the list goes on after it; None on the last page

    def key_after(self, count: int) -> ListKey | None:
        """Returns the key after which the list goes on if only the first `count` items are used."""
        return self.next_key if count == len(self.items) else self.keys[count - 1]


@record
class PageBounds:
    """How much a page may hold: at least one item, whatever its size."""

    items_max: int
    bytes_max: int


async def fill_page(
    read: Callable[[ListKey, int], Awaitable[ListStep[ListKey, AnyStepRow]]],
    before: ListKey,
    bounds: PageBounds,
) -> tuple[list[AnyStepRow], ListKey | None]:
    """Returns the rows of one page, and the key after which the list goes on, None if it ends here.

    `read` returns the step after a key; its second argument says how many rows it may have.
    """
    chosen: list[AnyStepRow] = []
    room_bytes = bounds.bytes_max
    rows_read = 0
    step_rows = bounds.items_max + 1  # one more shows whether there is a next page
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

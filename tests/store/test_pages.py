"""How a page is filled: step by step, until it is full, too large, or has cost enough."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from webhook_grpc.store.lists import pages
from webhook_grpc.store.lists.pages import ListStep, Page, PageBounds, fill_page


@dataclass(frozen=True)
class Number:
    """A candidate: its key is itself, backwards from a hundred."""

    key: int
    fits: bool
    size_bytes: int = 1


class Numbers:
    """A list of the numbers below 100, of which those fit that a divisor divides."""

    def __init__(self, divisor: int = 1, size_bytes: int = 1) -> None:
        self._divisor = divisor
        self._size_bytes = size_bytes
        self.steps: list[int] = []

    async def read(self, before: int, step_rows: int) -> ListStep[int, Number]:
        self.steps.append(step_rows)
        keys = range(before - 1, max(before - 1 - step_rows, -1), -1)
        rows = [Number(key, key % self._divisor == 0, self._size_bytes) for key in keys]
        sent = [row for row in rows if row.fits or row is rows[-1]]
        return ListStep(sent, len(rows), rows[-1].key if len(rows) == step_rows else None)


async def whole(numbers: Numbers, bounds: PageBounds) -> list[list[int]]:
    before: int | None = 100
    found: list[list[int]] = []
    while before is not None:
        rows, before = await fill_page(numbers.read, before, bounds)
        found.append([row.key for row in rows])
    return found


async def test_a_full_page_takes_one_step() -> None:
    numbers = Numbers()
    rows, next_key = await fill_page(numbers.read, 100, PageBounds(10, 1000))
    assert [row.key for row in rows] == list(range(99, 89, -1))
    assert next_key == 90
    assert numbers.steps == [11]


@pytest.mark.parametrize("items_max", [1, 3, 10, 33, 34, 100])
@pytest.mark.parametrize("divisor", [1, 3, 7, 100])
async def test_pages_join_and_only_the_last_is_short(items_max: int, divisor: int) -> None:
    found = await whole(Numbers(divisor), PageBounds(items_max, 10**6))
    assert [key for page in found for key in page] == [key for key in range(99, -1, -1) if key % divisor == 0]
    assert all(len(page) == items_max for page in found[:-1])
    assert found[-1]


async def test_the_steps_of_a_page_grow_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "STEP_ROWS_MAX", 20)
    numbers = Numbers(divisor=1000)
    assert await whole(numbers, PageBounds(1, 10**6)) == [[0]]
    assert numbers.steps[:4] == [2, 8, 20, 20]


async def test_a_page_that_cost_enough_goes_on_from_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "ROWS_READ_MAX", 30)
    found = await whole(Numbers(divisor=40), PageBounds(5, 10**6))
    assert [key for page in found for key in page] == [80, 40, 0]
    assert len(found) > 2


async def test_a_page_ends_before_it_is_too_large_but_holds_one_item() -> None:
    assert (await whole(Numbers(size_bytes=10), PageBounds(50, 35)))[0] == [99, 98, 97]
    assert (await whole(Numbers(size_bytes=10), PageBounds(50, 5)))[:2] == [[99], [98]]


async def test_a_page_that_is_cut_goes_on_after_what_was_taken() -> None:
    page = Page(("a", "b", "c"), (9, 8, 7), 5)
    assert page.key_after(3) == 5
    assert page.key_after(1) == 9
    empty: Page[int, str] = Page((), (), None)
    assert empty.key_after(0) is None

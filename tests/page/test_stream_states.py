"""What the live list says of a stream that breaks, is refused, or begins again: a door that misbehaves is played."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Locator, Page, expect

from tests.page.door import Door, Opening, away, deliveries, delivery, refuses

pytestmark = [pytest.mark.slow(2), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(loop_scope="module")
async def door() -> AsyncGenerator[Door]:
    """A door with three deliveries."""
    door = Door()
    door.listed = deliveries(range(3))
    await door.start()
    yield door
    await door.stop()


async def show(page: Page, door: Door) -> None:
    """Opens the live page; returns when its list is there and its stream is open."""
    await page.goto(door.url)
    await is_live(page)
    await expect(rows(page)).to_have_count(3)


async def is_live(page: Page) -> None:
    await expect(page.locator("wg-app .live")).to_contain_text("Live")


def rows(page: Page) -> Locator:
    return page.locator("webhook-deliveries .row")


def bar(page: Page) -> Locator:
    return page.locator("webhook-deliveries .bar > span")


async def test_an_empty_list_says_whether_a_filter_is_the_reason(page: Page, door: Door) -> None:
    door.listed = []
    note = page.locator("webhook-deliveries .note")
    await page.goto(door.url)
    await expect(note).to_have_text("Nothing here yet.")
    await page.goto(f"{door.url}?statuses=failed")
    await expect(note).to_have_text("Nothing fits these filters")


def says(text: str) -> Opening:
    """Returns an opening that says this and ends."""

    async def answer(_: Door, request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        await stream.write(text.encode())
        return stream

    return answer


def keeps_silent(until: asyncio.Event) -> Opening:
    """Returns an opening that answers nothing at all."""

    async def answer(door: Door, request: web.Request) -> web.StreamResponse:
        await until.wait()
        return await door.open(request)

    return answer


async def test_a_stream_that_is_cut_says_since_when_and_then_that_nothing_was_missed(page: Page, door: Door) -> None:
    await show(page, door)
    back = asyncio.Event()
    door.openings.append(away(back, refuses(503, "STORAGE_UNAVAILABLE")))
    door.cut()
    await expect(bar(page)).to_contain_text(re.compile(r"Stream interrupted \d+ s ago; resuming from where it stopped"))
    await expect(bar(page)).to_contain_text("detail of STORAGE_UNAVAILABLE")
    await expect(page.locator("wg-app .live")).to_contain_text("Stream interrupted")
    back.set()
    await expect(bar(page)).to_have_text("Nothing was missed")
    await expect(bar(page)).to_be_hidden()
    assert (door.cursors[0], set(door.cursors[1:])) == ("", {"c0"})
    assert door.list_count == 1


@pytest.mark.parametrize("reason", ["CURSOR_EXPIRED", "CURSOR_OF_OTHER_LOG", "CURSOR_INVALID"])
async def test_a_cursor_that_is_refused_leads_to_a_divider_and_the_list(page: Page, door: Door, reason: str) -> None:
    await show(page, door)
    door.openings.append(refuses({"CURSOR_EXPIRED": 410, "CURSOR_INVALID": 400}.get(reason, 409), reason))
    door.listed = deliveries(range(4))
    door.cut()
    divider = page.locator("webhook-deliveries .row.divider")
    await expect(divider).to_contain_text("The log no longer reaches back to ")
    await expect(divider).to_contain_text("; what happened between is in the list below")
    await expect(rows(page)).to_have_count(5)
    await is_live(page)
    await door.send(delivery(9))
    await expect(rows(page).nth(0)).to_contain_text("job.n9")
    await expect(rows(page).nth(1)).to_contain_text("The log no longer reaches back")
    assert door.cursors == ["", "c0", ""]


async def test_a_page_that_was_too_slow_is_told_that_a_filter_helps(page: Page, door: Door) -> None:
    await show(page, door)
    back = asyncio.Event()
    door.openings.append(away(back, refuses(503, "X")))
    await door.write('event: problem\ndata: {"status": 409, "reason": "WATCHER_TOO_SLOW", "detail": "slow"}\n\n')
    await expect(page.locator("webhook-deliveries [role=status]")).to_contain_text("A filter helps", ignore_case=True)
    back.set()
    await expect(bar(page)).to_have_text("Nothing was missed")


async def test_a_token_that_expires_leaves_the_rows_and_the_next_one_goes_on_at_the_cursor(
    page: Page, door: Door
) -> None:
    await page.goto(f"{door.url}?statuses=succeeded")
    await expect(rows(page)).to_have_count(3)
    await door.send(delivery(7))
    await expect(rows(page)).to_have_count(4)
    door.openings.append(refuses(401, "TOKEN_EXPIRED"))
    door.cut()
    dialog = page.locator("wg-app dialog[open]")
    await expect(dialog).to_contain_text("The token was refused")
    await expect(rows(page)).to_have_count(4)
    await expect(page.locator("webhook-deliveries.refused")).to_have_count(1)
    await dialog.get_by_label("Token").fill("wk_next")
    await dialog.get_by_role("button").click()
    await is_live(page)
    await expect(rows(page)).to_have_count(4)
    await expect(page.locator("webhook-deliveries.refused")).to_have_count(0)
    await expect(page).to_have_url(re.compile(r"/\?statuses=succeeded$"))
    assert (door.cursors[-1], door.tokens[-1], door.list_count) == ("c1", "wk_next", 1)


async def test_the_rows_of_a_customer_are_not_shown_to_another_one(page: Page, door: Door) -> None:
    await show(page, door)
    door.openings.append(refuses(401, "TOKEN_EXPIRED"))
    door.cut()
    door.caller, door.listed = {**door.caller, "customer_id": 7}, deliveries(range(50, 51))
    dialog = page.locator("wg-app dialog[open]")
    await dialog.get_by_label("Token").fill("wk_other")
    await dialog.get_by_role("button").click()
    await expect(rows(page)).to_have_count(1)
    await expect(rows(page)).to_contain_text("job.n50")
    assert door.cursors[-1] == ""


async def test_what_is_not_allowed_is_said_with_its_reason_and_tried_again_by_the_reader(
    page: Page, door: Door
) -> None:
    door.openings.append(refuses(403, "PERMISSION_MISSING"))
    await page.goto(door.url)
    await expect(bar(page)).to_contain_text("detail of PERMISSION_MISSING · PERMISSION_MISSING")
    await expect(page.locator("wg-app .live")).to_contain_text("Stopped")
    assert len(door.cursors) == 1
    await page.get_by_role("button", name="Try again").click()
    await is_live(page)
    await expect(rows(page)).to_have_count(3)


@pytest.mark.parametrize(("status", "reason"), [(429, "TOO_MANY_STREAMS"), (500, "INTERNAL"), (409, "CONFLICT")])
async def test_a_stream_that_can_not_be_opened_now_leaves_the_list_and_is_tried_again(
    page: Page, door: Door, status: int, reason: str
) -> None:
    back = asyncio.Event()
    door.openings.append(away(back, refuses(status, reason)))
    await page.goto(door.url)
    await expect(rows(page)).to_have_count(3)
    await expect(bar(page)).to_contain_text("The stream could not be opened ")
    await expect(bar(page)).to_contain_text(f"detail of {reason}")
    back.set()
    await is_live(page)
    await expect(bar(page)).to_be_hidden()


async def test_a_server_that_asks_for_time_gets_it(own_page: Page, door: Door) -> None:
    await own_page.clock.install()
    door.openings.append(refuses(429, "TOO_MANY_STREAMS", retry_seconds=30))
    await own_page.goto(door.url)
    await expect(bar(own_page)).to_contain_text("detail of TOO_MANY_STREAMS")
    await own_page.clock.fast_forward(20_000)
    assert len(door.cursors) == 1
    await own_page.clock.fast_forward(12_000)
    await is_live(own_page)


async def test_a_server_that_answers_nothing_leaves_the_list_and_is_a_cut_after_a_while(
    own_page: Page, door: Door
) -> None:
    answered = asyncio.Event()
    door.openings += [keeps_silent(answered)] * 2  # the second time too, or the bar would be gone after a second
    await own_page.clock.install()
    await own_page.goto(door.url)
    await expect(own_page.locator("wg-app .live")).to_contain_text("Connecting")
    await own_page.clock.fast_forward(3_000)
    await expect(rows(own_page)).to_have_count(3)
    await own_page.clock.fast_forward(46_000)
    await expect(bar(own_page)).to_contain_text("The stream could not be opened")
    await own_page.clock.fast_forward(5_000)
    answered.set()
    await is_live(own_page)


async def test_half_a_message_is_taken_with_the_next_stream(page: Page, door: Door) -> None:
    door.openings.append(says('id: c0\n\nid: c5\ndata: {"deliveries": [{"delivery_id": "dlv_'))
    await page.goto(door.url)
    await expect(bar(page)).to_have_text("Nothing was missed")
    await door.send(delivery(5))
    await expect(rows(page)).to_have_count(4)
    assert door.cursors == ["", "c0"]


async def test_a_tab_that_is_hidden_for_a_minute_gives_its_connection_back(own_page: Page, door: Door) -> None:
    await own_page.clock.install()
    await show(own_page, door)
    await hide(own_page, is_hidden=True)
    await own_page.clock.fast_forward(61_000)
    await expect(own_page.locator("wg-app .live")).to_contain_text("Connecting")
    await hide(own_page, is_hidden=False)
    await is_live(own_page)
    assert (door.cursors, door.list_count) == (["", "c0"], 1)
    await hide(own_page, is_hidden=True)
    await own_page.clock.fast_forward(61_000)
    await own_page.clock.fast_forward(600_000)
    await hide(own_page, is_hidden=False)
    await expect(own_page.locator("webhook-deliveries .row.divider")).to_contain_text("This tab was hidden at ")
    await is_live(own_page)
    assert (door.cursors, door.list_count) == (["", "c0", ""], 2)


async def hide(page: Page, *, is_hidden: bool) -> None:
    """Hides the tab, or shows it, as far as the page can see."""
    await page.evaluate(
        """(isHidden) => {
          Object.defineProperty(document, "hidden", { configurable: true, get: () => isHidden });
          document.dispatchEvent(new Event("visibilitychange"));
        }""",
        is_hidden,
    )

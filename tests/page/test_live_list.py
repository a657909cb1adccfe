"""The live list: what holds it still, what is said of what waits, its bounds, and its roles. The door is played."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, expect

from tests.page.door import Door, deliveries, delivery
from tests.page.keyboard import has_keys

pytestmark = [pytest.mark.slow(2), pytest.mark.asyncio(loop_scope="module")]
NODES_MAX = 60
SCROLL = """(node, top) => new Promise((scrolled) => {
  node.addEventListener("scroll", scrolled, { once: true });
  node.scrollTop = top;
})"""  # returns after the list has heard of the scroll: the browser reports scrolls with its next frame


@pytest_asyncio.fixture(loop_scope="module")
async def door() -> AsyncGenerator[Door]:
    """A door with twenty deliveries."""
    door = Door()
    door.listed = deliveries(range(20))
    await door.start()
    yield door
    await door.stop()


async def show(page: Page, door: Door, query: str = "") -> None:
    """Opens the live page; returns when its list is there, its stream is open, and its keys are."""
    await page.goto(door.url + query)
    await expect(page.locator("wg-app .live")).to_contain_text("Live")
    await expect(rows(page).first).to_be_visible()
    await has_keys(page)


def rows(page: Page) -> Locator:
    return page.locator("webhook-deliveries .row")


def pill(page: Page) -> Locator:
    return page.locator("webhook-deliveries .pill")


async def first_is(page: Page, number: int) -> None:
    await expect(rows(page).first).to_contain_text(f"job.n{number}")


async def focused(page: Page) -> str:
    """Returns the text of the row that has the focus."""
    return await page.evaluate(
        """() => document.querySelector("wg-app").shadowRoot.querySelector("webhook-deliveries")
          .shadowRoot.activeElement?.innerText ?? "" """
    )


async def test_what_waits_while_the_pointer_rests_is_counted_and_released_after_it_leaves(
    page: Page, door: Door
) -> None:
    await show(page, door)
    await rows(page).nth(2).hover()
    await door.send(*deliveries(range(100, 135)), *(delivery(n, "failed", "timeout") for n in (200, 201)))
    await expect(pill(page)).to_have_text("▲ 37 new deliveries · 2 failed")
    await first_is(page, 19)
    await page.locator("wg-app h1").hover()
    await first_is(page, 201)
    await expect(pill(page)).to_be_hidden()


async def test_cells_go_on_changing_while_positions_are_held(page: Page, door: Door) -> None:
    await show(page, door)
    await rows(page).nth(2).hover()
    await expect(rows(page).nth(3)).to_contain_text("Succeeded")
    await door.send(delivery(16, "failed", "http_error", 2))
    await expect(rows(page).nth(3)).to_contain_text("Failed")
    await expect(rows(page).nth(3)).to_contain_text("job.n16")
    await expect(rows(page).nth(3).locator(".trail svg")).to_have_count(2)
    await expect(pill(page)).to_be_hidden()


async def test_a_scroll_holds_the_list_and_the_pill_leads_to_the_top(page: Page, door: Door) -> None:
    door.listed = deliveries(range(100))
    await show(page, door)
    window = page.locator("webhook-deliveries .window")
    await window.evaluate(SCROLL, 720)
    await door.send(delivery(500))
    await expect(pill(page)).to_contain_text("1 new delivery")
    assert await window.evaluate("(node) => node.scrollTop") == 720
    await pill(page).click()
    await first_is(page, 500)
    assert await window.evaluate("(node) => node.scrollTop") == 0


async def test_the_focus_and_an_open_dialog_hold_the_list(page: Page, door: Door) -> None:
    await show(page, door)
    await page.keyboard.press("j")
    await door.send(delivery(500))
    await expect(pill(page)).to_be_visible()
    await page.get_by_label("Status", exact=True).focus()
    await first_is(page, 500)
    await page.get_by_role("button", name="Keyboard shortcuts").click()
    await expect(page.locator("wg-app dialog[open]")).to_be_visible()
    await door.send(delivery(501))
    await expect(pill(page)).to_be_visible()
    await first_is(page, 500)
    await page.keyboard.press("Escape")
    await first_is(page, 501)


async def test_space_holds_the_list_until_space_and_the_head_says_so(page: Page, door: Door) -> None:
    await show(page, door)
    await page.keyboard.press("Space")
    await expect(page.locator("wg-app .live")).to_contain_text("Paused by you")
    await door.send(delivery(500))
    await pill(page).click()
    await first_is(page, 500)
    await expect(page.locator("wg-app .live")).to_contain_text("Paused by you")
    await page.locator("wg-app h1").hover()
    await door.send(delivery(501))
    await expect(pill(page)).to_be_visible()
    await page.keyboard.press("Space")
    await first_is(page, 501)
    await expect(page.locator("wg-app .live")).to_contain_text("Live")


async def test_a_row_with_the_focus_stays_that_row_wherever_the_list_is_scrolled(page: Page, door: Door) -> None:
    door.listed = deliveries(range(200))
    await show(page, door)
    for _ in range(4):
        await page.keyboard.press("j")
    node = await page.evaluate_handle(
        """() => document.querySelector("wg-app").shadowRoot.querySelector("webhook-deliveries")
          .shadowRoot.activeElement"""
    )
    assert "job.n196" in await focused(page)
    await page.locator("webhook-deliveries .window").evaluate("(node) => (node.scrollTop = node.scrollHeight)")
    await expect(page.locator('webhook-deliveries .row[aria-rowindex="201"]')).to_be_visible()
    assert "job.n196" in await focused(page)
    assert await node.evaluate("(node) => node.isConnected && node.getAttribute('aria-rowindex')") == "5"
    assert await rows(page).count() <= NODES_MAX


async def test_ten_thousand_rows_of_the_stream_are_the_bound_and_few_of_them_are_nodes(page: Page, door: Door) -> None:
    await show(page, door)
    for start in range(1000, 13_000, 1000):
        await door.send(*deliveries(range(start, start + 1000)))
    grid = page.locator("webhook-deliveries .grid")
    await expect(grid).to_have_attribute("aria-rowcount", "10001")
    await first_is(page, 12_999)
    assert await rows(page).count() <= NODES_MAX


async def test_problems_only_says_that_it_works_on_what_arrives(page: Page, door: Door) -> None:
    door.listed = [*deliveries(range(5)), delivery(50, "failed", "timeout")]
    await show(page, door, "?problems=true")
    await expect(rows(page)).to_have_count(1)
    await expect(page.locator("wg-app .filter")).to_contain_text("of what arrives, and of the latest 200")
    await door.send(delivery(60), delivery(61, "pending", "http_error"))
    await expect(rows(page)).to_have_count(2)
    await first_is(page, 61)


async def test_one_status_says_what_came_and_rows_are_never_live_regions(page: Page, door: Door) -> None:
    await show(page, door)
    await door.send(*deliveries(range(100, 137)), *(delivery(n, "failed", "timeout") for n in (200, 201)))
    said = page.locator("webhook-deliveries [role=status]")
    await expect(said).to_have_count(1)
    await expect(said).to_have_text("39 new, 2 failed")
    await expect(
        page.locator("webhook-deliveries .grid [aria-live], webhook-deliveries .grid [role=alert]")
    ).to_have_count(0)


async def test_the_list_is_a_grid_whose_heads_and_rows_are_counted(page: Page, door: Door) -> None:
    await show(page, door)
    grid = page.get_by_role("grid", name="Deliveries")
    await expect(grid).to_have_attribute("aria-rowcount", "21")
    await expect(grid.get_by_role("columnheader")).to_have_count(7)
    await expect(grid.get_by_role("row").first).to_have_attribute("aria-rowindex", "1")
    await expect(rows(page).first).to_have_attribute("aria-rowindex", "2")
    await expect(rows(page).first.get_by_role("gridcell")).to_have_count(7)
    await expect(page.locator("webhook-deliveries .row[tabindex='0']")).to_have_count(1)


async def test_a_row_is_a_link_that_a_browser_opens_elsewhere(page: Page, door: Door) -> None:
    await show(page, door)
    link = rows(page).first.get_by_role("link")
    await expect(link).to_have_attribute("href", f"/deliveries/{delivery(19)['delivery_id']}?customer_id=42")
    async with page.context.expect_page() as opened:
        await link.click(modifiers=["ControlOrMeta"])
    await expect(await opened.value).to_have_url(re.compile("/deliveries/dlv_"))
    assert page.url == door.url
    await link.click()
    await expect(page).to_have_url(re.compile("/deliveries/dlv_"))


async def test_a_new_row_is_tinted_for_a_moment_unless_motion_is_reduced(page: Page, door: Door) -> None:
    await show(page, door)
    await page.evaluate(
        """() => void (window.tinted = new Promise((resolve) => {
          const list = document.querySelector("wg-app").shadowRoot.querySelector("webhook-deliveries");
          const seen = new MutationObserver(() => list.shadowRoot.querySelector(".row.new") && resolve(true));
          seen.observe(list.shadowRoot, { subtree: true, attributes: true, childList: true });
        }))"""
    )
    await door.send(delivery(500))
    assert await page.evaluate("window.tinted")
    await expect(page.locator("webhook-deliveries .row.new")).to_have_count(0)

"""Every page for readers with a screen reader, a keyboard, a small window, weak eyes: see accessibility.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.page.accessibility import wrong
from tests.page.door import Door, attempt, away, deliveries, delivery, explains, refuses
from tests.page.keyboard import has_keys

pytestmark = [pytest.mark.slow(3), pytest.mark.asyncio(loop_scope="module")]
WIDE, NARROW = {"width": 1280, "height": 720}, {"width": 320, "height": 640}
ZOOMED = {"width": 640, "height": 360}  # what 200 % leaves of the wide one (WCAG 1.4.4)
LIVE, DELIVERY, WEBHOOKS = "", "delivery", "webhooks"


@pytest_asyncio.fixture(loop_scope="module")
async def door() -> AsyncGenerator[Door]:
    """A door with deliveries of every status."""
    door = Door()
    door.listed = [
        *deliveries(range(20)),
        delivery(30, "failed", "timeout", 12),
        delivery(31, "pending", "http_error", 2, next_attempt_time="2030-01-01T00:00:00Z"),
        delivery(32, "cancelled", "", 0),
        delivery(33, "expired", "blocked"),
    ]
    await door.start()
    yield door
    await door.stop()


async def show(page: Page, door: Door, place: str) -> None:
    """Opens one of the pages; returns when it is there."""
    attempts = [attempt(2), attempt(1, "timeout", error_message="The receiver did not answer in time.")]
    path = explains(door, delivery(30, "failed", "timeout", 2), attempts, '{"a":' * 9 + "1" + "}" * 9)
    await page.goto(door.url + (path if place == DELIVERY else place))
    shown = {LIVE: "webhook-deliveries .row", DELIVERY: "wg-app .attempts details", WEBHOOKS: "wg-app main a"}[place]
    await expect(page.locator(shown).first).to_be_visible()


@pytest.mark.parametrize(
    ("size", "scheme"),
    [(WIDE, "light"), (NARROW, "dark"), (ZOOMED, "light")],
    ids=["wide", "narrow and dark", "zoomed to 200 %"],
)
@pytest.mark.parametrize("place", [LIVE, DELIVERY, WEBHOOKS], ids=["live", "delivery", "webhooks"])
async def test_nothing_is_wrong_with(page: Page, door: Door, place: str, size: dict[str, int], scheme: str) -> None:
    await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    await page.set_viewport_size({"width": size["width"], "height": size["height"]})
    await show(page, door, place)
    assert await wrong(page) == []


async def test_nothing_is_wrong_with_the_dialogs_a_pill_and_a_bar(page: Page, door: Door) -> None:
    await show(page, door, LIVE)
    await has_keys(page)
    await page.keyboard.press("Space")
    await door.send(delivery(500), delivery(501, "failed", "timeout"))
    await expect(page.locator("webhook-deliveries .pill")).to_be_visible()
    door.openings.append(away(asyncio.Event(), refuses(503, "X")))  # else the bar is there for some seconds only
    door.cut()
    await expect(page.locator("webhook-deliveries .bar")).to_be_visible()
    assert await wrong(page) == []
    await page.get_by_role("button", name="Keyboard shortcuts").click()
    await expect(page.locator("wg-app dialog[open]")).to_be_visible()
    assert await wrong(page) == []


async def test_at_200_percent_rows_are_seen_after_a_scroll_of_the_page(page: Page, door: Door) -> None:
    await page.set_viewport_size({"width": ZOOMED["width"], "height": ZOOMED["height"]})
    await show(page, door, LIVE)
    await page.evaluate("scrollTo(0, 1e6)")
    rows = page.locator("webhook-deliveries .row")
    await expect(rows.nth(2)).to_be_in_viewport(ratio=1)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_at_320_pixels_a_row_is_a_card_of_two_lines_that_names_the_webhook(page: Page, door: Door) -> None:
    await page.set_viewport_size({"width": 320, "height": 640})
    await show(page, door, LIVE)
    first = page.locator("webhook-deliveries .row").first
    tops: list[int] = await first.evaluate(
        """(row) => {
          const shown = [...row.children].filter((cell) => cell.checkVisibility());
          return [...new Set(shown.map((cell) => cell.offsetTop > 25))];
        }"""
    )
    assert sorted(tops) == [False, True]
    await expect(first.get_by_text("hook-1 #1")).to_be_visible()
    assert (await first.bounding_box() or {})["height"] == 64


async def test_fingers_get_larger_targets(browser: Browser, door: Door) -> None:
    context = await browser.new_context(has_touch=True, is_mobile=True, viewport={"width": 800, "height": 800})
    page = await context.new_page()
    await show(page, door, LIVE)
    assert await page.evaluate("matchMedia('(pointer: coarse)').matches")
    assert await wrong(page) == []
    assert (await page.locator("webhook-deliveries .row").first.bounding_box() or {})["height"] == 44
    await context.close()


async def test_the_focus_is_seen_with_a_ring_of_two_pixels(page: Page, door: Door) -> None:
    await show(page, door, LIVE)
    for key in ("Tab", "Tab", "Tab"):
        await page.keyboard.press(key)
    ring = """() => {
      let at = document.activeElement;
      while (at.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;
      const { outlineWidth, outlineStyle } = getComputedStyle(at);
      return [outlineWidth, outlineStyle];
    }"""
    assert await page.evaluate(ring) == ["2px", "solid"]
    await has_keys(page)
    await page.keyboard.press("j")
    assert await page.evaluate(ring) == ["2px", "solid"]


async def test_who_wants_less_motion_gets_none_and_forced_colours_keep_shapes(page: Page, door: Door) -> None:
    await page.emulate_media(reduced_motion="reduce", forced_colors="active")
    await show(page, door, LIVE)
    await door.send(delivery(500))
    await expect(page.locator("webhook-deliveries .row").first).to_contain_text("job.n500")
    moving: int = await page.evaluate(
        "document.querySelector('wg-app').shadowRoot.querySelector('webhook-deliveries').shadowRoot.getAnimations().length"
    )
    assert moving == 0
    colours: list[str] = await page.locator("webhook-deliveries .row svg").evaluate_all(
        "(all) => [...new Set(all.map((svg) => getComputedStyle(svg).color))]"
    )
    assert len(colours) == 1, "all shapes have the colour of the reader's text"

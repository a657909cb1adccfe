"""The bounds of the page, by counts: `make bench-page` has the times, which depend on the machine."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.page.door import Door, deliveries, delivery

pytestmark = [pytest.mark.slow(4), pytest.mark.asyncio(loop_scope="module")]
NODES_MAX = 60
ROWS_MAX = 10_000
LISTENERS = """() => {
  const list = document.querySelector("wg-app").shadowRoot.querySelector("webhook-deliveries");
  window.most = { nodes: 0, rows: 0, paints: 0 };
  list.addEventListener("change", () => {
    most.paints += 1;
    most.nodes = Math.max(most.nodes, list.shadowRoot.querySelectorAll(".row").length);
    most.rows = Math.max(most.rows, list.store.size);
  });
}"""


@pytest_asyncio.fixture(loop_scope="module")
async def door() -> AsyncGenerator[Door]:
    """A door with a page of deliveries."""
    door = Door()
    door.listed = deliveries(range(200))
    await door.start()
    yield door
    await door.stop()


@pytest.mark.parametrize(("width", "height"), [(1280, 1440), (320, 640), (640, 360)])
async def test_whatever_comes_rows_and_nodes_are_bounded_and_paints_are_few(
    page: Page, door: Door, width: int, height: int
) -> None:
    await page.set_viewport_size({"width": width, "height": height})
    await page.goto(door.url)
    await expect(page.locator("webhook-deliveries .row").first).to_be_visible()
    await page.evaluate(LISTENERS)
    count, messages = 12_000, 240
    for number in range(messages):
        first = 1000 + number * (count // messages)
        await door.send(*deliveries(range(first, first + count // messages)))
    await door.send(delivery(99_999))
    await expect(page.locator("webhook-deliveries .row").first).to_contain_text("job.n99999")
    await page.locator("webhook-deliveries .window").evaluate("(node) => (node.scrollTop = node.scrollHeight / 2)")
    await expect(page.locator(f'webhook-deliveries .row[aria-rowindex="{ROWS_MAX // 2}"]')).to_be_visible()
    most: dict[str, int] = await page.evaluate("most")
    assert most["nodes"] <= NODES_MAX
    assert most["rows"] == ROWS_MAX
    assert most["paints"] < messages, "messages that come together are painted together"


async def test_a_page_has_one_stream_and_asks_for_its_list_once(page: Page, door: Door) -> None:
    asked = list[str]()
    page.on("request", lambda request: asked.append(request.url.removeprefix(door.url)))
    await page.goto(door.url)
    await expect(page.locator("webhook-deliveries .row").first).to_contain_text("hook-1")
    assert asked.count("api/deliveries:watch") == 1
    assert asked.count("api/deliveries?page_size=200") == 1
    assert asked.count("api/webhooks/1?customer_id=42") == 1, "a name is asked for once, however many rows have it"

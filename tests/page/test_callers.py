"""What callers see who may not do everything, whatever they try: the permissions that GET /api/caller names."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, Route, expect

from tests.page.door import CUSTOMER, Door, deliveries, now

pytestmark = [pytest.mark.slow(2), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(loop_scope="module")
async def door() -> AsyncGenerator[Door]:
    """A door with ten deliveries, no event and no type, for one customer who may read."""
    door = Door()
    door.listed = deliveries(range(10))
    door.caller = {"name": "x", "customer_id": CUSTOMER, "permissions": ["read"]}
    door.answers["/api/eventTypes"] = json.dumps({"event_types": []})
    door.answers["/api/events"] = json.dumps({"events": []})
    await door.start()
    yield door
    await door.stop()


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


async def is_refused(button: Locator, why: str | re.Pattern[str]) -> None:
    await expect(button).to_be_disabled()
    await expect(button).to_have_attribute("title", why)


async def test_who_may_only_read_sees_why_nothing_can_be_restarted_or_made(page: Page, door: Door) -> None:
    await page.goto(f"{door.url}deliveries")
    await page.locator("wg-app .list .row").first.get_by_role("checkbox").check()
    await is_refused(button(page, "Retry selected"), "Needs permission manage")
    await page.goto(f"{door.url}event-types")
    await is_refused(button(page, "Create event type"), re.compile("only a caller for all customers"))


async def test_who_may_only_read_sees_why_nothing_can_be_counted(page: Page, door: Door) -> None:
    await page.goto(f"{door.url}replays/new")
    for name in ("Count", "Start replay"):
        await is_refused(button(page, name), "Needs permission manage")
    await expect(page.locator("wg-app main").get_by_label("Customer")).to_be_hidden()


async def test_a_customer_has_no_customer_box_and_no_customer_column(page: Page, door: Door) -> None:
    await page.goto(f"{door.url}events")
    await expect(page.locator("wg-app .foot")).to_contain_text("Nothing here yet.")
    await expect(page.get_by_label("Customer", exact=True)).to_be_hidden()
    await expect(page.get_by_role("columnheader", name="Customer")).to_have_count(0)
    await page.goto(door.url)
    await expect(page.locator("webhook-deliveries .row").first).to_be_visible()
    await expect(page.get_by_role("columnheader", name="Customer")).to_have_count(0)


async def test_who_may_see_all_customers_sees_whose_a_row_is(page: Page, door: Door) -> None:
    door.caller = {"name": "operator", "permissions": ["read"]}
    await page.goto(door.url)
    await expect(page.get_by_role("columnheader", name="Customer")).to_be_visible()
    await expect(page.locator("webhook-deliveries .row").first.get_by_role("gridcell").last).to_have_text(str(CUSTOMER))


async def test_who_may_not_read_is_not_bothered_by_the_banner(page: Page, door: Door) -> None:
    door.caller = {"name": "publisher", "permissions": ["publish"]}
    asked = list[str]()
    page.on("request", lambda request: asked.append(urlsplit(request.url).path))
    await page.goto(f"{door.url}webhooks/new")
    await is_refused(button(page, "Create webhook"), "Needs permission manage")
    assert "/api/webhooks" not in asked


FAILS = {"attempt_count": 16, "success_rate": 0.25, "breaker_state": "closed"}


@pytest.mark.parametrize(
    ("standing", "said"),
    [
        ({"breaker_state": "open"}, "● ActiveBreaker open"),
        ({"failing_since_time": "2026-11-28T14:09:30Z"}, re.compile(r"^● ActiveFailing since 28 Nov \d\d:09:30$")),
        ({}, "● Active"),
    ],
)
async def test_a_webhook_whose_receiver_fails_is_seen_in_the_list(
    page: Page, door: Door, standing: dict[str, str], said: str | re.Pattern[str]
) -> None:
    door.answers["/api/webhooks/1/stats"] = json.dumps({**FAILS, **standing})
    await page.goto(f"{door.url}webhooks")
    cells = page.locator("wg-app .list tbody td")
    await expect(cells.nth(4)).to_have_text("25.0 %")
    await expect(cells.nth(4)).to_have_class("bad")
    await expect(cells.first).to_have_text(said)


async def test_a_token_that_is_refused_leaves_what_was_filled_in(page: Page, door: Door) -> None:
    door.caller = {"name": "x", "customer_id": CUSTOMER, "permissions": ["read", "manage"]}
    refusal = json.dumps({"status": 401, "reason": "TOKEN_INVALID", "title": "Unauthorized"})
    refused, until = list[str](), now()

    async def answer(route: Route) -> None:
        if refused:
            await route.fulfill(json={"delivery_count": 0, "progress_time": until, "end_time": until})
        else:
            refused.append(route.request.url)
            await route.fulfill(status=401, content_type="application/problem+json", body=refusal)

    await page.route("**/api/replays", answer)
    await page.goto(f"{door.url}replays/new")
    await page.get_by_label("Expired").check()
    await button(page, "Count").click()
    dialog = page.locator("wg-app dialog[open]")
    await dialog.get_by_label("Token").fill("wk_x")
    await dialog.get_by_role("button").click()
    await expect(dialog).to_have_count(0)
    await expect(page.get_by_label("Expired")).to_be_checked()
    await button(page, "Count").click()
    await expect(page.locator("wg-app output")).to_have_text("Would send 0 deliveries to all webhooks")
    await expect(button(page, "Start replay")).to_be_disabled()

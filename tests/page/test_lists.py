"""The lists of the history in a real browser: far back, by filter, page by page, and what is done with many rows."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from playwright.async_api import Browser, Error, Locator, Page, Route, expect

from tests.page.keyboard import at_once, has_keys
from tests.support.receiver import Receiver, answer
from tests.support.service import CUSTOMER, Service
from webhook_grpc.store.lists import pages as store_pages

pytestmark = [pytest.mark.slow(3), pytest.mark.asyncio(loop_scope="module")]
HOSTILE = "<img src=x onerror=alert(1)></script>\u202egnp.exe"
LISTS = ("deliveries", "attempts", "events", "event-types")
PAGE_SIZE = 50


@pytest.fixture(scope="module")
def shared_settings() -> Mapping[str, Any]:
    return {"http_address": "127.0.0.1:0", "retry_delays_seconds": ()}


def address(service: Service, path: str = "") -> str:
    return f"http://127.0.0.1:{service.app.http_port}/{path}"


def rows(page: Page) -> Locator:
    return page.locator("wg-app .list .rows > .row:not(.grey)")


def foot(page: Page) -> Locator:
    return page.locator("wg-app .foot")


async def ended(service: Service, count: int, **event: Any) -> None:
    """Publishes events and waits until their deliveries have ended."""
    async with service.watching(customer_id=event.get("customer_id", CUSTOMER)) as watch:
        await service.publish_many(count, **event)
        await watch.until_ended(count)


# --- rows ------------------------------------------------------------------------------------------------------------


async def test_a_row_says_what_became_of_a_delivery_and_is_a_link_to_it(
    page: Page, service: Service, receiver: Receiver
) -> None:
    await service.create_webhook(receiver.on("/bad", answer(503)), name=HOSTILE)
    await ended(service, 2)
    await page.goto(address(service, "deliveries"))
    await expect(rows(page)).to_have_count(2)
    for said in ("Failed", "job.completed", "503", "<img src=x", "\\u202e", "ms", "ago", str(CUSTOMER)):
        await expect(rows(page).first).to_contain_text(said)
    link = rows(page).first.locator("a.open")
    href = await link.get_attribute("href")
    assert re.fullmatch(rf"/deliveries/dlv_[0-9a-z]{{26}}_\d+\?customer_id={CUSTOMER}", href or "")
    async with page.context.expect_page() as opened:
        await rows(page).first.click(button="middle")
    await expect(await opened.value).to_have_url(address(service, (href or "")[1:]))
    await rows(page).first.click()
    await expect(page).to_have_url(address(service, (href or "")[1:]))
    await expect(page.locator("wg-app .story")).to_contain_text("Failed")


async def test_keys_go_from_row_to_row_open_one_in_a_new_tab_and_choose_it(
    page: Page, service: Service, receiver: Receiver
) -> None:
    await service.create_webhook(receiver.url())
    await ended(service, 3)
    await page.goto(address(service, "deliveries"))
    await expect(rows(page)).to_have_count(3)
    await has_keys(page)
    for key in ("j", "j", "ArrowDown", "k"):
        await page.keyboard.press(key)
    await expect(rows(page).nth(1).locator("a.open")).to_be_focused()
    async with page.context.expect_page() as opened:
        await page.keyboard.press("o")
    href = await rows(page).nth(1).locator("a.open").get_attribute("href") or "-"
    await expect(await opened.value).to_have_url(address(service, href[1:]))
    await page.bring_to_front()
    await page.keyboard.press("x")
    await rows(page).nth(1).locator("a.open").focus()
    await expect(page.locator("wg-app .selected")).to_contain_text("1 selected")
    tabbable = await rows(page).locator("a.open").evaluate_all("nodes => nodes.map((node) => node.tabIndex)")
    assert tabbable == [-1, 0, -1], "Tab goes to one row, not through all of them"
    await page.keyboard.press("Escape")
    await expect(page.locator("wg-app .selected")).to_be_hidden()
    await expect(rows(page).get_by_role("checkbox", checked=True)).to_have_count(0)


async def test_a_list_is_a_grid_for_screen_readers(page: Page, service: Service, receiver: Receiver) -> None:
    await service.create_webhook(receiver.url())
    await ended(service, 2)
    await page.goto(address(service, "deliveries"))
    grid = page.get_by_role("grid", name="Deliveries")
    await expect(grid).to_have_attribute("aria-rowcount", "3")
    await expect(grid).to_have_attribute("aria-busy", "false")
    await expect(grid.get_by_role("columnheader")).to_have_count(9)
    await expect(grid.get_by_role("row")).to_have_count(3)
    await expect(rows(page).nth(1)).to_have_attribute("aria-rowindex", "3")
    await expect(rows(page).first.get_by_role("gridcell")).to_have_count(9)


# --- pages -----------------------------------------------------------------------------------------------------------


async def test_the_next_page_comes_near_the_end_and_the_last_one_says_what_is_kept(
    page: Page, service: Service, receiver: Receiver
) -> None:
    await service.create_webhook(receiver.url())
    await ended(service, 2 * PAGE_SIZE + 5)
    await page.goto(address(service, "deliveries"))
    await expect(rows(page)).to_have_count(PAGE_SIZE)
    await foot(page).get_by_role("button", name="Show more").dispatch_event("click")
    await expect(rows(page)).to_have_count(2 * PAGE_SIZE)
    await foot(page).scroll_into_view_if_needed()
    await expect(rows(page)).to_have_count(2 * PAGE_SIZE + 5)
    await expect(foot(page)).to_contain_text("Older than 30 days is not kept")
    shown = await rows(page).locator("a.open").evaluate_all("nodes => nodes.map((node) => node.href)")
    assert len(set(shown)) == len(shown) == 2 * PAGE_SIZE + 5


async def test_a_filter_that_fits_little_is_looked_for_further_back_by_itself_then_on_demand(
    own_page: Page, service: Service
) -> None:
    """Ten pages each time; it would be fewer after five seconds, which a busy machine may need: here none pass."""
    page, asked = own_page, list[str]()
    await page.add_init_script("performance.now = () => 0")

    async def answer_empty(route: Route) -> None:
        asked.append(route.request.url)
        await route.fulfill(json={"deliveries": [], "next_page_token": f"t{len(asked)}"})

    await page.route("**/api/deliveries?*", answer_empty)
    await page.goto(address(service, "deliveries?statuses=expired"))
    await expect(foot(page)).to_contain_text("Little fits these filters so far.")
    assert len(asked) == 10
    assert [parse_qs(urlsplit(url).query).get("page_token") for url in asked[:3]] == [None, ["t1"], ["t2"]]
    await foot(page).get_by_role("button", name="Look further back").click()
    await page.wait_for_function("true")
    await expect(foot(page).get_by_role("button", name="Look further back")).to_be_visible()
    assert len(asked) == 20


async def test_the_time_up_to_which_was_looked_is_said_also_where_nothing_was_found(
    page: Page, service: Service, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_pages, "ROWS_READ_MAX", 20)
    monkeypatch.setattr(store_pages, "STEP_ROWS_MAX", 10)
    await service.create_webhook(receiver.url())
    await service.publish(event_type="quota.exceeded")
    for _ in range(2):
        await ended(service, 280)  # eleven pages in all, of which the page reads ten by itself
    for path in ("deliveries", "attempts", "events"):
        await page.goto(address(service, f"{path}?event_types=quota.*"))
        await expect(foot(page)).to_contain_text(re.compile(r"Looked back to \d+ \w+ \d\d:\d\d:\d\d\."))
        await expect(rows(page)).to_have_count(0)
        further = foot(page).get_by_role("button", name="Look further back")
        while not await rows(page).count():
            await expect(further.or_(rows(page)).first).to_be_visible()
            if await further.is_visible():
                await further.click()
        await expect(rows(page)).to_have_count(1)


async def test_rows_are_bounded_and_the_reader_is_asked_to_narrow_the_filter(page: Page, service: Service) -> None:
    count = 0

    async def answer_many(route: Route) -> None:
        nonlocal count
        types = [{"event_type": f"a.b{count + n}", "description": ""} for n in range(1500)]
        count += 1500
        await route.fulfill(json={"event_types": types, "next_page_token": "t"})

    await page.route("**/api/eventTypes?*", answer_many)
    await page.goto(address(service, "event-types"))
    await expect(rows(page)).to_have_count(1500)
    await foot(page).get_by_role("button", name="Show more").dispatch_event("click")
    await expect(foot(page)).to_contain_text("The newest 2,000 are shown; narrow the filter")
    await expect(rows(page)).to_have_count(2000)


# --- states ----------------------------------------------------------------------------------------------------------


async def test_ten_grey_rows_stand_in_for_the_first_answer_and_old_rows_for_the_next_ones(
    page: Page, service: Service, receiver: Receiver
) -> None:
    await service.create_webhook(receiver.url())
    await ended(service, 2)
    async with holding(page, "**/api/deliveries?*") as let_go:
        await page.goto(address(service, "deliveries"))
        await expect(page.locator("wg-app .list .columnheader, wg-app .list [role=columnheader]").first).to_be_visible()
        await expect(page.locator("wg-app .row.grey")).to_have_count(10)
        let_go()
        await expect(rows(page)).to_have_count(2)
        await expect(page.locator("wg-app .row.grey")).to_have_count(0)
    async with holding(page, "**/api/deliveries?*") as let_go:
        await choose(page, "Status", "Failed")
        await expect(page.locator("wg-app .list.stale")).to_have_count(1)
        await expect(rows(page)).to_have_count(2)
        let_go()
        await expect(rows(page)).to_have_count(0)
        await expect(foot(page)).to_contain_text("Nothing fits these filters")


async def test_where_nothing_fits_the_filters_can_be_cleared_and_the_window_widened(
    page: Page, service: Service, receiver: Receiver
) -> None:
    await service.create_webhook(receiver.url())
    await ended(service, 1)
    await page.goto(
        address(service, f"deliveries?customer_id={CUSTOMER}&statuses=failed&start_time=2099-01-01T00:00:00Z")
    )
    await expect(foot(page)).to_contain_text("Nothing fits these filters since 1 Jan")
    await foot(page).get_by_role("button", name="Last 7 days").click()
    await expect(page).to_have_url(
        re.compile(r"\?customer_id=42&statuses=failed&start_time=20\d\d-\d\d-\d\dT[\d:]{8}Z$")
    )
    await expect(foot(page).get_by_role("button", name="Last 30 days")).to_be_visible()
    await expect(foot(page).get_by_role("button", name="Last 7 days")).to_have_count(0)
    await foot(page).get_by_role("button", name="Clear filters").click()
    await expect(page).to_have_url(address(service, f"deliveries?customer_id={CUSTOMER}"))
    await expect(rows(page)).to_have_count(1)


async def test_a_list_that_fails_says_why_keeps_its_rows_and_is_read_again(
    page: Page, service: Service, receiver: Receiver
) -> None:
    await service.create_webhook(receiver.url())
    await ended(service, PAGE_SIZE + 1)
    await page.goto(address(service, "deliveries"))
    await expect(rows(page)).to_have_count(PAGE_SIZE)
    problem = {"status": 503, "title": "Unavailable", "detail": "the store rests", "reason": "STORAGE_UNAVAILABLE"}
    await page.route("**/api/deliveries?*", lambda route: route.fulfill(status=503, json=problem))
    await foot(page).scroll_into_view_if_needed()
    await expect(foot(page).get_by_role("alert")).to_contain_text("the store rests")
    await expect(rows(page)).to_have_count(PAGE_SIZE)
    await page.unroute("**/api/deliveries?*")
    await foot(page).get_by_role("button", name="Try again").click()
    await expect(rows(page)).to_have_count(PAGE_SIZE + 1)


# --- filters ---------------------------------------------------------------------------------------------------------


async def test_what_is_typed_is_one_request_and_stands_in_the_address(
    own_page: Page, service: Service, receiver: Receiver
) -> None:
    await service.create_webhook(receiver.url())
    await ended(service, 1)
    await ended(service, 2, event_type="job.failed")
    await own_page.clock.install()
    await own_page.goto(address(service, "deliveries"))
    await expect(rows(own_page)).to_have_count(3)
    asked = list[str]()
    own_page.on("request", lambda request: asked.append(request.url) if "/api/deliveries?" in request.url else None)
    await own_page.clock.pause_at(datetime.now(UTC) + timedelta(minutes=1))  # a busy machine pauses between two keys
    await own_page.get_by_label("Event type").press_sequentially("job.failed")
    assert asked == []
    await own_page.clock.resume()
    await expect(rows(own_page)).to_have_count(2)
    assert len(asked) == 1, asked
    await choose(own_page, "Status", "Succeeded")
    await expect(own_page).to_have_url(address(service, "deliveries?event_types=job.failed&statuses=succeeded"))
    await choose(own_page, "Status", "Pending")
    await expect(own_page).to_have_url(address(service, "deliveries?event_types=job.failed&statuses=pending,succeeded"))
    await own_page.reload()
    await expect(rows(own_page)).to_have_count(2)
    await expect(own_page.get_by_label("Event type")).to_have_value("job.failed")
    await expect(own_page.locator("wg-app summary", has_text="Status: Pending, Succeeded")).to_be_visible()
    await own_page.go_back()
    await expect(own_page).to_have_url(address(service, "deliveries?event_types=job.failed&statuses=succeeded"))


async def test_two_fields_that_are_typed_quickly_are_both_sent(page: Page, service: Service) -> None:
    await page.goto(address(service, "deliveries"))
    await page.get_by_label("Event type").fill("job.*")
    await page.get_by_label("Webhook").fill("12, 15")
    await page.get_by_label("Webhook").press("Enter")
    await expect(page).to_have_url(address(service, "deliveries?webhook_ids=12,15&event_types=job.*"))
    await page.goto(address(service, "attempts"))
    for value in ("timeout", "failed"):
        await page.locator(f"wg-app .many input[value={value}]").evaluate("(box) => setTimeout(() => box.click(), 300)")
    await expect(page).to_have_url(address(service, "attempts?statuses=failed&outcomes=timeout"))


async def test_a_superseded_request_is_aborted(page: Page, service: Service) -> None:
    failed = list[str]()
    page.on("requestfailed", lambda request: failed.append(request.url))
    async with holding(page, "**/api/deliveries?*") as let_go:
        await page.goto(address(service, "deliveries?event_types=first"))
        await page.get_by_label("Event type").fill("second")
        await page.get_by_label("Event type").press("Enter")
        await expect(page).to_have_url(address(service, "deliveries?event_types=second"))
        let_go()
        await expect(foot(page)).to_contain_text("Nothing fits these filters")
    assert [url for url in failed if "event_types=first" in url]


async def test_a_window_is_chosen_by_preset_or_by_two_fields(page: Page, service: Service, receiver: Receiver) -> None:
    await service.create_webhook(receiver.url())
    await ended(service, 1)
    await page.goto(address(service, "attempts"))
    await page.get_by_label("Zone").select_option("utc")
    await page.get_by_label("Window").select_option(label="Last hour")
    await expect(page).to_have_url(re.compile(r"/attempts\?start_time=20\d\d-[\d-]+T[\d:]{8}Z$"))
    await expect(rows(page)).to_have_count(1)
    await expect(foot(page)).to_contain_text("These are all since")
    await page.get_by_label("To", exact=True).fill("2026-01-02T03:04")
    await page.get_by_label("From", exact=True).fill("2026-01-01T00:00")
    await expect(page).to_have_url(
        address(service, "attempts?start_time=2026-01-01T00:00:00Z&end_time=2026-01-02T03:04:00Z")
    )
    await expect(rows(page)).to_have_count(0)


async def test_a_filter_that_is_refused_is_marked_and_says_why(page: Page, service: Service) -> None:
    await page.goto(address(service, "deliveries?webhook_ids=abc"))
    await expect(foot(page).get_by_role("alert")).to_contain_text("webhook_ids")
    await expect(page.get_by_label("Webhook")).to_have_attribute("aria-invalid", "true")
    await page.get_by_label("Webhook").fill("7")
    await page.get_by_label("Webhook").press("Enter")
    await expect(foot(page)).to_contain_text("Nothing fits these filters")
    await expect(page.get_by_label("Webhook")).to_have_attribute("aria-invalid", "false")


# --- the other lists -------------------------------------------------------------------------------------------------


async def test_attempts_are_found_by_outcome_and_lead_to_their_delivery(
    page: Page, service: Service, receiver: Receiver
) -> None:
    bad = await service.create_webhook(receiver.on("/bad", answer(500)), events=["job.failed"], name="billing-eu")
    await service.create_webhook(receiver.url(), events=["job.completed"])
    await ended(service, 2, event_type="job.failed")
    await ended(service, 3)
    await page.goto(address(service, f"webhooks/{bad.webhook_id}?customer_id={CUSTOMER}"))
    await page.get_by_role("link", name="All attempts").click()
    await expect(rows(page)).to_have_count(2)
    await page.goto(address(service, "attempts"))
    await expect(rows(page)).to_have_count(5)
    await choose(page, "Outcomes", "Answered with an error")
    await expect(rows(page)).to_have_count(2)
    await expect(page).to_have_url(address(service, "attempts?outcomes=http_error"))
    for said in ("answered 500", "1 · Scheduled", "job.failed", "billing-eu", "Failed"):
        await expect(rows(page).first).to_contain_text(said)
    await rows(page).first.click()
    await expect(page).to_have_url(re.compile(r"/deliveries/dlv_\w+\?customer_id=42#attempt-1$"))


async def test_events_are_found_by_type_by_attribute_and_by_request_id(page: Page, service: Service) -> None:
    for region in ("eu", "us"):
        body = {"customer_id": CUSTOMER, "event_type": "job.completed", "data": {}, "attributes": {"region": region}}
        await post(service, "/api/events", {"event": body}, {"Idempotency-Key": f"order-{region}"})
    await service.publish(event_type="job.failed")
    await page.goto(address(service, "events"))
    await expect(rows(page)).to_have_count(3)
    await page.get_by_label("Attributes").fill("region=eu")
    await expect(rows(page)).to_have_count(1)
    await expect(rows(page).first).to_contain_text("region=eu")
    await expect(page).to_have_url(address(service, "events?attributes[region]=eu"))
    await page.goto(address(service, f"events?customer_id={CUSTOMER}"))
    await page.get_by_label("Request id").fill("order-us")
    await expect(rows(page)).to_have_count(1)
    await expect(rows(page).first).to_contain_text("region=us")
    await rows(page).first.click()
    await expect(page).to_have_url(re.compile(rf"/events/evt_\w+\?customer_id={CUSTOMER}$"))
    await expect(page.locator("wg-app main.detail .facts").first).to_contain_text("Published by anonymous")


# --- retry selected --------------------------------------------------------------------------------------------------


async def test_chosen_deliveries_are_restarted_each_with_its_result(
    page: Page, service: Service, receiver: Receiver
) -> None:
    await service.create_webhook(receiver.on("/bad", answer(500)), events=["job.failed"])
    paused = await service.create_webhook(receiver.url(), events=["job.completed"])
    await service.pause_webhook(paused.webhook_id)
    await ended(service, 6, event_type="job.failed")
    await service.publish()
    await page.goto(address(service, "deliveries"))
    await expect(rows(page)).to_have_count(7)
    await page.get_by_label("Select all that are shown").check()
    bar = page.locator("wg-app .selected")
    await expect(bar).to_contain_text("7 selected")
    await bar.get_by_role("button", name="Retry selected").click()
    dialog = page.locator("wg-app dialog[open]")
    await expect(dialog).to_contain_text("Restarts 7 deliveries: one attempt each, not repeated if it fails.")
    await dialog.get_by_role("button", name="Cancel").click()
    await bar.get_by_role("button", name="Retry selected").click()
    async with service.watching() as watch:
        await dialog.get_by_role("button", name="Retry selected").click()
        await watch.until_ended(6)
    await expect(page.locator("wg-app .toast")).to_have_text("6 of 7 restarted")
    await expect(rows(page).locator(".result.ok")).to_have_count(6)
    await expect(rows(page).locator(".result.bad")).to_have_count(1)
    await expect(bar).to_be_hidden()
    await expect(rows(page).filter(has_text="Failed")).to_have_count(6)  # as it is after the attempt
    await expect(rows(page).filter(has_text="Failed").first.locator(".trail svg")).to_have_count(2)
    assert len(receiver.at("/bad")) == 12, "cancelling has restarted nothing"


async def test_more_than_fifty_are_the_work_of_a_replay_that_takes_over_the_filter(
    page: Page, service: Service, receiver: Receiver
) -> None:
    await service.create_webhook(receiver.on("/bad", answer(500)))
    await ended(service, PAGE_SIZE + 1)
    window = "start_time=2026-01-01T00:00:00Z"
    await page.goto(address(service, f"deliveries?customer_id={CUSTOMER}&event_types=job.*&statuses=failed&{window}"))
    await expect(rows(page)).to_have_count(PAGE_SIZE)
    await page.get_by_label("Select all that are shown").check()
    bar = page.locator("wg-app .selected")
    await expect(bar.get_by_role("button", name="Retry selected")).to_be_enabled()
    await foot(page).scroll_into_view_if_needed()
    await expect(rows(page)).to_have_count(PAGE_SIZE + 1)
    await rows(page).last.get_by_role("checkbox").check()
    link = bar.get_by_role("link", name="Use a replay: it counts first and is paced")
    await expect(bar.get_by_role("button", name="Retry selected")).to_have_count(0)
    assert await link.get_attribute("href") == (
        f"/replays/new?customer_id={CUSTOMER}&event_types=job.*&statuses=failed&start_time=2026-01-01T00:00:00Z"
    )


# --- event types -----------------------------------------------------------------------------------------------------


async def test_an_operator_creates_changes_and_archives_an_event_type(page: Page, service: Service) -> None:
    await page.goto(address(service, "event-types"))
    await expect(rows(page)).to_have_count(7)
    await page.get_by_role("button", name="Create event type").click()
    form = page.locator("wg-app form.type-form")
    await form.get_by_label("Event type").fill("order.paid")
    await form.get_by_label("JSON Schema").fill('{"type": "nonsense"}')
    await form.get_by_role("button", name="Create event type").click()
    await expect(form.locator("#wrong-json_schema")).to_contain_text("/type the value is not valid")
    await expect(form.get_by_label("JSON Schema")).to_be_focused()
    await form.get_by_label("JSON Schema").fill('{"type":"object","required":["total"]}')
    await form.get_by_role("button", name="Create event type").click()
    await expect(page).to_have_url(address(service, "event-types/order.paid"))
    detail = page.locator("wg-app main.detail")
    await expect(detail.locator("pre")).to_have_text('{\n  "type": "object",\n  "required": [\n    "total"\n  ]\n}')
    await detail.get_by_role("button", name="Edit").click()
    await form.get_by_label("Description").fill("An order was paid.")
    await form.get_by_role("button", name="Save").click()
    await expect(detail.locator(".story")).to_have_text("An order was paid.")
    await detail.get_by_role("button", name="Archive").click()
    dialog = page.locator("wg-app dialog[open]")
    await expect(dialog).to_contain_text("Who subscribes to it stays subscribed; publishing is refused.")
    await dialog.get_by_role("button", name="Archive").click()
    await expect(detail.get_by_role("button", name="Bring back")).to_be_visible()
    await page.goto(address(service, "event-types"))
    await expect(rows(page)).to_have_count(7)
    await page.get_by_label("Archived ones too").check()
    await expect(rows(page)).to_have_count(8)
    await page.goto(address(service, "event-types/job.completed"))
    await expect(detail.get_by_role("button", name="Archive")).to_be_disabled()


async def test_an_event_type_that_somebody_changed_meanwhile_is_not_overwritten(page: Page, service: Service) -> None:
    await page.goto(address(service, "event-types/job.completed"))
    await page.get_by_role("button", name="Edit").click()
    form = page.locator("wg-app form.type-form")
    await form.get_by_label("Description").fill("mine")
    await send(service, "PATCH", "/api/eventTypes/job.completed", {"description": "theirs"}, {})
    await form.get_by_role("button", name="Save").click()
    await expect(form.get_by_role("alert")).to_have_text("Somebody changed it meanwhile")
    await expect(form.get_by_label("Description")).to_have_value("mine")


# --- the head --------------------------------------------------------------------------------------------------------


async def test_an_operator_chooses_a_customer_and_all_lists_keep_it(
    page: Page, service: Service, receiver: Receiver
) -> None:
    other = CUSTOMER + 1
    for customer in (CUSTOMER, other):
        await service.create_webhook(receiver.url(), customer_id=customer)
        await ended(service, 2, customer_id=customer)
    await page.goto(address(service, "deliveries?statuses=succeeded"))
    await expect(rows(page)).to_have_count(4)
    box = page.get_by_label("Customer", exact=True)
    await box.fill(str(other))
    await box.press("Enter")
    await expect(page).to_have_url(address(service, f"deliveries?customer_id={other}&statuses=succeeded"))
    await expect(rows(page)).to_have_count(2)
    await page.get_by_role("navigation").get_by_role("link", name="Events").click()
    await expect(page).to_have_url(address(service, f"events?customer_id={other}"))
    await expect(rows(page)).to_have_count(2)
    await expect(page.get_by_role("link", name="Events")).to_have_attribute("aria-current", "page")
    assert await page.evaluate("localStorage.getItem('webhook-grpc customers')") == str(other)
    await page.get_by_role("heading", name="Events").click()  # no field has the focus
    await at_once(page, "g", "a")
    await expect(page).to_have_url(address(service, f"attempts?customer_id={other}"))
    await box.fill("")
    await box.press("Enter")
    await expect(page).to_have_url(address(service, "attempts"))
    await rows(page).first.click()
    await expect(page).to_have_url(re.compile("customer_id="))
    await page.get_by_role("navigation").get_by_role("link", name="Deliveries").click()
    await expect(page).to_have_url(address(service, "deliveries"))
    await expect(rows(page)).to_have_count(4)


async def test_the_last_ten_customers_are_remembered_and_nothing_else_of_them(page: Page, service: Service) -> None:
    await page.goto(address(service, "events"))
    box = page.get_by_label("Customer", exact=True)
    for number in [*range(1, 13), 5]:
        await box.fill(str(number))
        await box.press("Enter")
        await expect(page).to_have_url(address(service, f"events?customer_id={number}"))
    options = page.locator("wg-app #customers option")
    await expect(options.first).to_have_attribute("value", "5")
    offered = await options.evaluate_all("nodes => nodes.map((node) => node.value)")
    assert offered == ["5", "12", "11", "10", "9", "8", "7", "6", "4", "3"]
    await box.fill("abc")
    await box.press("Enter")
    assert page.url.endswith("customer_id=5")


# --- everywhere ------------------------------------------------------------------------------------------------------


async def test_a_narrow_page_has_cards_and_no_sideways_scroll(
    browser: Browser, service: Service, receiver: Receiver
) -> None:
    await service.create_webhook(receiver.on("/bad", answer(500)), name="long " * 20)
    await ended(service, 3)
    context = await browser.new_context(locale="en-GB", viewport={"width": 320, "height": 640}, has_touch=True)
    page = await context.new_page()
    for path in (*LISTS, "event-types/job.completed"):
        await page.goto(address(service, path))
        if path in LISTS:
            await expect(rows(page).first).to_be_visible()
            await page.locator("wg-app summary.fold").click()
            await expect(page.get_by_role("button", name="Clear filters")).to_be_visible()
        await expect(page.locator("wg-app main h2")).to_be_visible()
        assert await page.evaluate("document.documentElement.scrollWidth") == 320, path
    await context.close()


async def test_in_chinese_no_word_of_the_lists_is_missing(
    browser: Browser, service: Service, receiver: Receiver
) -> None:
    await service.create_webhook(receiver.on("/bad", answer(500)))
    await ended(service, 1)
    context = await browser.new_context(locale="zh-CN")
    page = await context.new_page()
    missing = list[str]()
    page.on("console", lambda said: missing.append(said.text) if said.type == "warning" else None)
    for path in LISTS:
        await page.goto(address(service, path))
        await expect(rows(page).first).to_be_visible()
        await page.goto(
            address(service, f"{path}?start_time=2099-01-01T00:00:00Z&statuses=expired&include_archived=true")
        )
        await expect(foot(page)).not_to_contain_text("…")
    await page.goto(address(service, "deliveries"))
    await rows(page).first.get_by_role("checkbox").check()
    await page.get_by_role("button", name="重试所选").click()
    await expect(page.locator("wg-app dialog[open]")).to_contain_text("将重新开始 1 个投递")
    assert missing == []
    await context.close()


# --- parts -----------------------------------------------------------------------------------------------------------


async def choose(page: Page, field: str, *words: str) -> None:
    """Sets boxes of a filter with several values, and closes it."""
    summary = page.locator("wg-app .many summary", has_text=re.compile(f"^{field}"))
    await summary.click()
    for word in words:
        await page.locator("wg-app .many[open]").get_by_label(word, exact=True).check()
    await page.keyboard.press("Escape")


class holding:  # noqa: N801 - used like a function
    """Holds answers back until the test lets them go."""

    def __init__(self, page: Page, pattern: str) -> None:
        self._page, self._pattern = page, pattern
        self._free = asyncio.Event()

    async def __aenter__(self) -> Callable[[], None]:
        await self._page.route(self._pattern, self._hold)
        return self._free.set

    async def __aexit__(self, *_: object) -> None:
        self._free.set()
        await self._page.unroute(self._pattern, self._hold)

    async def _hold(self, route: Route) -> None:
        await self._free.wait()
        with contextlib.suppress(Error):  # the page has aborted it
            await route.continue_()


async def post(service: Service, path: str, body: dict[str, Any], headers: dict[str, str]) -> None:
    await send(service, "POST", path, body, headers)


async def send(service: Service, verb: str, path: str, body: dict[str, Any], headers: dict[str, str]) -> None:
    """Calls the API as another client."""
    async with aiohttp.ClientSession() as session:
        url = address(service, path[1:])
        async with session.request(verb, url, json=body, headers=headers) as response:
            assert response.status < 300, await response.text()

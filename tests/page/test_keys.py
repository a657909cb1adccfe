"""The keys of the page: where they lead, what they do once, and how they are turned off."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, Route, expect

from tests.page.door import Door, attempt, deliveries, delivery, explains, refuses
from tests.page.keyboard import at_once, has_keys

pytestmark = [pytest.mark.slow(2), pytest.mark.asyncio(loop_scope="module")]
PLACES = {
    "w": ("webhooks", "Webhooks"),
    "d": ("deliveries", "Deliveries"),
    "a": ("attempts", "Attempts"),
    "e": ("events", "Events"),
    "r": ("replays", "Replays"),
    "t": ("event-types", "Types"),
    "u": ("audit", "Audit"),
    "l": ("", "Live"),
}


@pytest_asyncio.fixture(loop_scope="module")
async def door() -> AsyncGenerator[Door]:
    """A door with ten deliveries."""
    door = Door()
    door.listed = deliveries(range(10))
    await door.start()
    yield door
    await door.stop()


async def show(page: Page, door: Door) -> None:
    """Opens the live page; returns when its list is there, its stream is open, and its keys are."""
    await page.goto(door.url)
    await expect(page.locator("wg-app .live")).to_contain_text("Live")
    await expect(page.locator("webhook-deliveries .row").first).to_be_visible()
    await has_keys(page)


def focused(page: Page) -> Locator:
    return page.locator("webhook-deliveries .row:focus")


def dialog(page: Page) -> Locator:
    return page.locator("wg-app dialog[open]")


async def test_g_and_a_letter_lead_to_each_page_which_a_tab_is_known_by(page: Page, door: Door) -> None:
    await show(page, door)
    for letter, (place, title) in PLACES.items():
        await at_once(page, "g", letter)
        await expect(page).to_have_url(door.url + place)
        await expect(page).to_have_title(f"{title} · webhook-grpc")
    for place, title in (("webhooks/new", "Create webhook"), ("webhooks/1/edit", "1 · Edit"), ("webhooks/1", "1")):
        await page.goto(door.url + place)
        await expect(page).to_have_title(f"{title} · Webhooks · webhook-grpc")


async def test_rows_are_gone_through_opened_and_found_again(page: Page, door: Door) -> None:
    await show(page, door)
    for key, number in (
        ("j", 9),
        ("j", 8),
        ("ArrowDown", 7),
        ("k", 8),
        ("ArrowUp", 9),
        ("End", 0),
        ("Home", 9),
        ("j", 8),
    ):
        await page.keyboard.press(key)
        await expect(focused(page)).to_contain_text(f"job.n{number}")
    explains(door, delivery(8), [attempt(1)])
    await page.keyboard.press("Enter")
    await expect(page.locator("wg-app main.detail .story")).to_be_visible()
    await expect(page).to_have_url(re.compile(delivery(8)["delivery_id"]))
    await page.keyboard.press("Escape")
    await expect(page).to_have_url(door.url)
    await expect(focused(page)).to_contain_text("job.n8")


async def test_a_row_is_opened_in_a_new_tab_without_a_second_sign_in(page: Page, door: Door) -> None:
    door.openings.append(refuses(401, "TOKEN_MISSING"))
    await page.goto(door.url)
    await dialog(page).get_by_label("Token").fill("wk_mine")
    await dialog(page).get_by_role("button").click()
    await expect(page.locator("webhook-deliveries .row").first).to_be_visible()
    await has_keys(page)
    await page.keyboard.press("j")
    await expect(focused(page)).to_contain_text("job.n9")
    explains(door, delivery(9), [attempt(1)])
    asked = list[str | None]()
    page.context.on("request", lambda request: asked.append(request.headers.get("authorization")))
    async with page.context.expect_page() as opened:
        await page.keyboard.press("o")
    other = await opened.value
    await expect(other.locator("wg-app main.detail .story")).to_be_visible()
    await expect(dialog(other)).to_have_count(0)
    assert "Bearer wk_mine" in asked
    await other.close()


async def test_arrows_show_and_hide_the_attempts_of_a_row(page: Page, door: Door) -> None:
    await show(page, door)
    explains(door, delivery(9), [attempt(2, "succeeded"), attempt(1)])
    await page.keyboard.press("j")
    await page.keyboard.press("ArrowRight")
    unfolded = page.get_by_role("list", name="Attempts").get_by_role("listitem")
    await expect(unfolded).to_have_count(2)
    await expect(unfolded.first).to_contain_text("2answered 200 · 31 ms")
    await expect(focused(page)).to_have_attribute("aria-expanded", "true")
    await page.keyboard.press("ArrowLeft")
    await expect(unfolded).to_have_count(0)


async def test_brackets_go_from_attempt_to_attempt_and_arrows_fold_the_headers(page: Page, door: Door) -> None:
    path = explains(door, delivery(9), [attempt(3), attempt(2), attempt(1)])
    await page.goto(door.url + path)
    shown = page.locator("wg-app .attempts [aria-current=true]")
    await expect(shown).to_contain_text("3")
    await has_keys(page)
    for key, number in (("]", 2), ("]", 1), ("]", 1), ("[", 2)):
        await page.keyboard.press(key)
        await expect(shown.locator("span").first).to_have_text(str(number))
    await expect(page).to_have_url(re.compile("#attempt-2$"))
    await page.keyboard.press("ArrowLeft")
    await expect(page.locator("wg-app .attempts details[open]")).to_have_count(0)


async def test_r_twice_restarts_a_row_once(page: Page, door: Door) -> None:
    door.listed = [delivery(1, "failed", "timeout")]
    await show(page, door)
    await page.keyboard.press("j")
    await at_once(page, "r", "r")
    await expect(page.locator("wg-app .toast")).to_contain_text("Restarted")
    assert {path for path, _ in door.posts} == {f"/api/deliveries/{delivery(1)['delivery_id']}:retry"}
    assert len({request_id for _, request_id in door.posts}) == 1, "the service acts once on a request_id"


async def test_what_could_not_be_loaded_says_so_and_is_loaded_when_it_is_wanted_again(page: Page, door: Door) -> None:
    """A part of the page that is first wanted while the service is away."""
    door.listed = [delivery(1, "failed", "timeout")]
    await show(page, door)
    await page.keyboard.press("j")
    await page.route("**/lists/row-acts.js", lambda route: route.abort())
    await page.keyboard.press("r")
    await expect(page.locator("wg-app .toast")).to_contain_text("The service is away")
    assert door.posts == []
    await page.unroute("**/lists/row-acts.js")
    await page.keyboard.press("r")
    await expect(page.locator("wg-app .toast")).to_contain_text("Restarted")


async def test_r_restarts_what_is_selected_after_a_question(page: Page, door: Door) -> None:
    door.listed = [delivery(n, "failed", "timeout") for n in range(3)]
    await show(page, door)
    for key in ("j", "x", "j", "x", "r"):
        await page.keyboard.press(key)
    await expect(dialog(page)).to_contain_text("Restarts 2 deliveries")
    await dialog(page).get_by_role("button", name="Retry selected").click()
    await expect(page.locator("wg-app .toast")).to_contain_text("2 of 2 restarted")
    assert {path for path, _ in door.posts} == {f"/api/deliveries/{delivery(n)['delivery_id']}:retry" for n in (1, 2)}


async def test_r_on_a_delivery_that_succeeded_asks_first(page: Page, door: Door) -> None:
    await show(page, door)
    await page.keyboard.press("j")
    await page.keyboard.press("r")
    await expect(dialog(page)).to_contain_text("The receiver has answered 200 already")
    assert door.posts == []
    await page.keyboard.press("Escape")
    await expect(dialog(page)).to_have_count(0)


async def test_problems_zone_search_and_selection_have_keys(page: Page, door: Door) -> None:
    await show(page, door)
    await page.keyboard.press("p")
    await expect(page).to_have_url(f"{door.url}?problems=true")
    await page.keyboard.press("p")
    await expect(page.locator("webhook-deliveries .row")).to_have_count(10)
    await page.keyboard.press("j")
    await page.keyboard.press("x")
    selected = page.locator("webhook-deliveries .row[aria-selected=true]")
    await expect(selected).to_have_count(1)
    await page.keyboard.press("Escape")
    await expect(selected).to_have_count(0)
    await page.keyboard.press("u")
    await expect(page.get_by_label("Zone")).to_have_value("utc")
    await expect(page.locator("webhook-deliveries .row")).to_have_count(10)
    await page.keyboard.press("/")
    await expect(page.get_by_label("Search")).to_be_focused()


async def test_no_key_works_while_a_field_has_the_focus(page: Page, door: Door) -> None:
    await show(page, door)
    await page.get_by_label("Search").focus()
    await page.keyboard.type("gwpu?x")
    await expect(page.get_by_label("Search")).to_have_value("gwpu?x")
    await expect(dialog(page)).to_have_count(0)
    assert page.url == door.url


async def test_the_help_lists_the_keys_and_turns_them_off_for_good(page: Page, door: Door) -> None:
    await show(page, door)
    await page.keyboard.press("?")
    await expect(dialog(page)).to_contain_text("Show and hide the attempts of a row")
    await dialog(page).get_by_label("Keys are on").uncheck()
    await page.keyboard.press("Escape")
    await page.reload()
    await has_keys(page)
    await page.keyboard.press("g")
    await page.keyboard.press("w")
    await page.keyboard.press("?")
    assert page.url == door.url
    await expect(dialog(page)).to_have_count(0)
    await page.get_by_role("button", name="Keyboard shortcuts").click()
    await dialog(page).get_by_label("Keys are on").check()
    await dialog(page).get_by_role("button", name="Close").click()
    await at_once(page, "g", "w")
    await expect(page).to_have_url(f"{door.url}webhooks")


async def test_what_is_selected_is_counted_in_a_bar_that_restarts_it_and_clears_it(page: Page, door: Door) -> None:
    await show(page, door)
    bar = page.locator("wg-app .selected")
    for key in ("j", "x", "j", "x"):
        await page.keyboard.press(key)
    await expect(bar).to_contain_text("2 selected")
    await bar.get_by_role("button", name="Retry selected").click()
    await expect(dialog(page)).to_contain_text("Restarts 2 deliveries")
    await page.keyboard.press("Escape")
    await bar.get_by_role("button", name="Select none").click()
    await expect(bar).to_be_hidden()
    await expect(page.locator("webhook-deliveries .row[aria-selected=true]")).to_have_count(0)
    assert door.posts == []


async def test_t_opens_the_data_of_a_row_for_a_test_and_y_what_can_be_copied_of_it(page: Page, door: Door) -> None:
    shown = door.listed[0]
    explains(door, shown, [attempt(1)], '{"a":1.0}')
    await show(page, door)
    row = page.locator("webhook-deliveries .row", has_text="job.n0")
    await row.focus()
    await page.keyboard.press("t")
    await expect(dialog(page).get_by_label("Data")).to_have_value('{"a":1.0}')
    await page.keyboard.press("Escape")
    await expect(row).to_be_focused()
    await page.keyboard.press("y")
    await expect(dialog(page)).to_contain_text(shown["delivery_id"])
    for name in ("Copy as curl", "grpcurl", "webhook-id", "Data", "As it was sent"):
        await expect(dialog(page).get_by_role("button", name=name, exact=True)).to_be_enabled()
    await page.keyboard.press("Escape")
    await expect(row).to_be_focused()


async def test_what_was_restarted_is_a_link_of_the_toast(page: Page, door: Door) -> None:
    shown = delivery(99, "failed", "http_error")
    door.listed = [shown]
    await show(page, door)
    await page.keyboard.press("j")
    await page.keyboard.press("r")
    link = page.locator("wg-app .toast").get_by_role("link", name="Open the delivery")
    await expect(link).to_have_attribute("href", f"/deliveries/{shown['delivery_id']}?customer_id=42")


async def test_a_row_that_is_due_says_what_holds_it(page: Page, door: Door) -> None:
    """Its webhook is asked about only then; what that takes is loaded when the service is back."""
    requests = list[Route]()

    async def be_away_first(route: Route) -> None:
        requests.append(route)
        await (route.abort() if len(requests) == 1 else route.continue_())

    await page.route("**/shared/holds.js", be_away_first)
    door.listed = [delivery(1, "pending", "http_error", next_attempt_time="2020-01-01T00:00:00Z")]
    held = {"breaker_state": "closed", "hold_until_time": "2999-01-01T00:00:00Z"}
    door.answers["/api/webhooks/1/stats"] = json.dumps(held)
    await show(page, door)
    await expect(page.locator("webhook-deliveries .row time")).to_contain_text("held, ")
    assert len(requests) == 2
    await page.unroute("**/shared/holds.js")

"""The page of one delivery: its attempts, what was answered, and data of any size. The door is played."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, expect

from tests.page.door import Door, attempt, delivery, explains

pytestmark = [pytest.mark.slow(2), pytest.mark.asyncio(loop_scope="module")]
KIB = 1024


@pytest_asyncio.fixture(loop_scope="module")
async def door() -> AsyncGenerator[Door]:
    """A door."""
    door = Door()
    await door.start()
    yield door
    await door.stop()


def shown_attempt(page: Page) -> Locator:
    return page.locator("wg-app .attempts > div")


def data(page: Page) -> Locator:
    return page.locator("wg-app #data")


async def test_attempts_are_newest_first_and_headers_that_are_not_kept_say_so(page: Page, door: Door) -> None:
    path = explains(door, delivery(1, "failed", "http_error", 3), [attempt(3), attempt(2, "timeout"), attempt(1)])
    await page.goto(door.url + path)
    numbers = page.locator("wg-app .attempts li > button > span:first-child")
    await expect(numbers).to_have_text(["3", "2", "1"])
    await expect(shown_attempt(page)).to_contain_text("POST, 97 bytes")
    await expect(shown_attempt(page).locator("dl").first).to_contain_text("webhook-signature… not kept, not shown")
    await expect(shown_attempt(page).locator("dl").last).to_have_text("servernginx")


async def test_an_open_breaker_and_the_next_attempt_name_the_same_time(page: Page, door: Door) -> None:
    shown = delivery(1, "pending", "http_error", 1, next_attempt_time="2030-01-01T10:00:00Z")
    path = explains(door, shown, [attempt(1)])
    entry = {"webhook_id": 1, "verdict": "matched", "standing": "breaker_open", "until_time": "2030-01-01T11:00:00Z"}
    explanation = json.dumps({"webhooks": [{**entry, "delivery": shown}]})
    door.answers[f"/api/events/{shown['event_id']}:explain"] = explanation
    await page.goto(door.url + path)
    story = page.locator("wg-app .story")
    await expect(story).to_contain_text("Nothing is sent until")
    found = re.search(r"\d\d:00:00\.000", await story.inner_text())
    assert found
    await expect(page.locator("wg-app .attempts ol")).to_contain_text(found[0])


async def test_an_answer_is_shown_as_text_and_in_hexadecimal(page: Page, door: Door) -> None:
    await page.goto(door.url + explains(door, delivery(1), [attempt(1)]))
    answer = page.get_by_label("Response")
    await expect(answer).to_have_text("upstream unavailable\\x00")
    await expect(shown_attempt(page)).to_contain_text("21 bytes")
    await page.get_by_role("button", name="hex").click()
    await expect(answer).to_contain_text("0000  75 70 73 74 72 65 61 6d")
    await expect(answer).to_contain_text("0010  61 62 6c 65 00")


async def test_a_long_answer_and_an_event_that_is_gone_are_said(page: Page, door: Door) -> None:
    body = base64.b64encode(b"x" * 16 * KIB).decode()
    one = attempt(1, response_body=body, response_text="x" * 16 * KIB, request_bytes=0)
    await page.goto(door.url + explains(door, delivery(1), [one], None))
    await expect(shown_attempt(page)).to_contain_text("first 16 KiB of the answer")
    await expect(shown_attempt(page)).to_contain_text("POST, its event is no longer kept")
    await expect(data(page)).to_have_text("Its event is no longer kept.")


async def test_what_is_nested_beyond_six_levels_is_folded(page: Page, door: Door) -> None:
    nested = '{"a":' * 20 + "1.0" + "}" * 20
    await page.goto(door.url + explains(door, delivery(1), [attempt(1)], nested))
    await expect(data(page).locator("summary")).to_have_text("… 27 lines")
    await expect(data(page).locator("pre")).not_to_contain_text("1.0")
    for _ in range(2):
        await data(page).locator("details:not([open]) > summary").click()
    await expect(data(page).locator("pre")).to_contain_text('"a": 1.0')
    await page.get_by_role("button", name="Raw").click()
    await expect(data(page).locator("pre")).to_have_text(nested)


async def test_large_data_is_shown_in_pieces_and_downloaded_to_the_byte(page: Page, door: Door, tmp_path: Path) -> None:
    text = json.dumps({"text": "é" * 100 * KIB}, ensure_ascii=False)
    await page.goto(door.url + explains(door, delivery(1), [attempt(1)], text))
    await expect(data(page)).to_contain_text("Showing 16 of 200 KiB")
    await expect(page.get_by_role("button", name="Pretty")).to_be_disabled()
    await data(page).get_by_role("button", name="More").click()
    await expect(data(page)).to_contain_text("Showing 32 of 200 KiB")
    assert await data(page).locator("pre").evaluate("(node) => node.textContent") == text[: 16 * KIB + 5]
    async with page.expect_download() as download:
        await data(page).get_by_role("button", name="Download").click()
    await (await download.value).save_as(tmp_path / "data.txt")
    assert (tmp_path / "data.txt").read_text() == text


@pytest.mark.parametrize(
    ("fragment", "wanted"), [("attempt-1", ".attempts"), ("headers", "#headers"), ("data", "#data")]
)
async def test_a_fragment_names_what_is_opened(page: Page, door: Door, fragment: str, wanted: str) -> None:
    path = explains(door, delivery(1), [attempt(n) for n in range(40, 0, -1)], '{"a": 1}')
    await page.set_viewport_size({"width": 400, "height": 400})
    await page.goto(f"{door.url}{path}#{fragment}")
    await expect(page.locator(f"wg-app {wanted}").first).to_be_in_viewport()
    number = "1" if fragment == "attempt-1" else "40"
    await expect(page.locator("wg-app .attempts [aria-current=true] > span").first).to_have_text(number)


async def test_a_change_keeps_what_the_reader_has_chosen_and_the_focus(page: Page, door: Door) -> None:
    one = delivery(1, "pending", "http_error", 2)
    await page.goto(door.url + explains(door, one, [attempt(2), attempt(1)]))
    await page.locator("wg-app .attempts li > button").last.click()
    await page.get_by_role("button", name="Raw").click()
    explains(door, delivery(1, "failed", "http_error", 3), [attempt(3), attempt(2), attempt(1)])
    await door.send(delivery(1, "failed", "http_error", 3))
    await expect(page.locator("wg-app .attempts li > button")).to_have_count(3)
    await expect(page.locator("wg-app .attempts [aria-current=true] > span").first).to_have_text("1")
    await expect(page.get_by_role("button", name="Raw")).to_have_attribute("aria-pressed", "true")
    await expect(page.get_by_role("button", name="Raw")).to_be_focused()


async def test_hostile_data_of_256_kib_on_one_line_and_64_levels_is_text_and_shown_in_parts(
    page: Page, door: Door
) -> None:
    hostile = "<img src=x onerror=alert(1)>\u202e" * 9000
    text = '{"a":[' * 32 + json.dumps(hostile[: 255 * KIB], ensure_ascii=False) + "]}" * 32
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    await page.goto(door.url + explains(door, delivery(1), [attempt(1, response_text=hostile[: 16 * KIB])], text))
    await expect(data(page)).to_contain_text("Showing 16 of ")
    await data(page).get_by_role("button", name="More").click()
    await expect(data(page)).to_contain_text("Showing 32 of ")
    await expect(data(page)).to_contain_text("\\u202e")
    assert await page.locator("wg-app img").count() == 0


async def test_why_an_attempt_failed_is_said_in_chinese_too(page: Page, door: Door) -> None:
    failed = attempt(1, "timeout", error_message="The receiver did not answer within the webhook's timeout.")
    await page.goto(door.url + explains(door, delivery(1, "failed", "timeout"), [failed]))
    await expect(page.locator("wg-app .attempts")).to_contain_text("The receiver did not answer within")
    await page.get_by_label("Language").select_option("zh")
    await expect(page.locator("wg-app .attempts")).to_contain_text("接收方没有在超时时间内响应。")

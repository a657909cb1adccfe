"""Replays on the page: counted before they start, started once, followed while they run, cancelled with the figures."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.async_api import Browser, Locator, Page, Route, expect
from webhook.v1 import replay_pb2, service_pb2

from tests.support.receiver import Receiver, answer, answers
from tests.support.service import CUSTOMER, Service

pytestmark = [pytest.mark.slow(3), pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def shared_settings() -> Mapping[str, Any]:
    """A service whose deliveries have one attempt."""
    return {"http_address": "127.0.0.1:0", "retry_delays_seconds": ()}


async def opened(page: Page, service: Service, path: str) -> Locator:
    """Returns the page at a path, as it is shown."""
    await page.goto(f"http://127.0.0.1:{service.app.http_port}/{path}")
    return page.locator("wg-app main")


async def ended(service: Service, count: int) -> None:
    """Publishes events and waits until their deliveries have ended."""
    async with service.watching() as watch:
        await service.publish_many(count)
        await watch.until_ended(count)


async def replays(service: Service) -> list[replay_pb2.Replay]:
    return list((await service.stub.ListReplays(service_pb2.ListReplaysRequest(customer_id=CUSTOMER))).replays)


def button(shown: Locator, name: str) -> Locator:
    return shown.get_by_role("button", name=name, exact=True)


def question(page: Page) -> Locator:
    return page.locator("wg-app dialog[open]")


NEW = f"replays/new?customer_id={CUSTOMER}"


# --- the wizard ------------------------------------------------------------------------------------------------------


async def test_what_was_counted_arrives_and_a_double_click_starts_one_replay(
    page: Page, service: Service, receiver: Receiver
) -> None:
    webhook = await service.create_webhook(receiver.on("/x", answers(*[500] * 3, 200)), name="billing-eu")
    await ended(service, 3)
    shown = await opened(page, service, f"{NEW}&webhook_ids={webhook.webhook_id}")
    await expect(shown.get_by_label(f"billing-eu #{webhook.webhook_id}")).to_be_checked()
    await expect(button(shown, "Start replay")).to_be_disabled()
    await button(shown, "Count").click()
    await expect(shown.locator("output")).to_have_text("Would send 3 deliveries to 1 webhook")
    await button(shown, "Start replay").dblclick()
    await expect(shown.locator("h2")).to_contain_text("Completed")
    await expect(shown.locator(".sum")).to_have_text("delivery_count3=3 Succeeded0 Failed0 Cancelled0 Skipped0 Waiting")
    rows = shown.locator(".replayed tbody tr")
    await expect(rows).to_have_count(3)
    await expect(rows.first).to_contain_text("Succeeded")
    [replay] = await replays(service)
    await expect(page).to_have_url(re.compile(rf"/replays/{replay.replay_id}(\?|$)"))
    assert len(receiver.requests) == 6, "three attempts that failed, and one more for each of them"


async def test_changing_anything_withdraws_the_count_and_stands_in_the_address(
    page: Page, service: Service, receiver: Receiver
) -> None:
    webhook = await service.create_webhook(receiver.on("/x", answer(500)), name="billing-eu")
    await ended(service, 1)
    shown = await opened(page, service, NEW)
    changes = [
        lambda: button(shown, "Last 24 hours").click(),
        lambda: shown.get_by_label("To", exact=True).fill("2126-01-01T00:00:00"),
        lambda: shown.get_by_label("Expired").check(),
        lambda: shown.get_by_label("Events that were never delivered").check(),
        lambda: shown.get_by_label("billing-eu").check(),
        lambda: shown.get_by_label("Event types").fill("job.*"),
    ]
    for change in changes:
        await button(shown, "Count").click()
        await expect(shown.locator("output")).to_contain_text("Would send 1 delivery to")
        await expect(button(shown, "Start replay")).to_be_enabled()
        await change()
        await expect(button(shown, "Start replay")).to_be_disabled()
        await expect(shown.locator("output")).to_be_empty()
    await button(shown, "Count").click()
    await expect(shown.locator("output")).to_contain_text("Would send 1 delivery to 1 webhook")
    filled = parse_qs(urlsplit(page.url).query)
    assert filled["statuses"] == ["failed,cancelled,expired"]
    assert filled["event_types"] == ["job.*"]
    assert filled["webhook_ids"] == [str(webhook.webhook_id)]
    assert filled["never_delivered"] == ["true"]
    await page.reload()
    await expect(shown.get_by_label("Expired")).to_be_checked()
    await expect(shown.get_by_label("Event types")).to_have_value("job.*")
    assert await replays(service) == []


async def test_a_start_whose_answer_was_lost_is_made_again_without_a_second_replay(
    page: Page, service: Service, receiver: Receiver
) -> None:
    await service.create_webhook(receiver.on("/x", answers(500, 200)))
    await ended(service, 1)
    shown = await opened(page, service, NEW)
    await button(shown, "Count").click()
    await expect(button(shown, "Start replay")).to_be_enabled()

    async def lost(route: Route) -> None:
        await route.fetch()
        await route.abort()

    await page.route("**/api/replays", lost, times=1)
    await button(shown, "Start replay").click()
    await expect(shown.get_by_role("alert").last).to_contain_text("Failed to fetch")
    await button(shown, "Start replay").click()
    await expect(shown.locator(".sum")).to_contain_text("1 Succeeded")
    assert len(await replays(service)) == 1


async def test_what_is_wrong_is_said_in_its_step_and_nothing_is_counted(
    page: Page, service: Service, receiver: Receiver
) -> None:
    await service.create_webhook(receiver.url())
    shown = await opened(page, service, f"{NEW}&statuses=failed")
    await shown.get_by_label("Failed").uncheck()
    await expect(shown.get_by_role("alert")).to_have_text("Choose at least one.")
    await expect(button(shown, "Count")).to_be_disabled()
    await shown.get_by_label("Failed").check()
    await shown.get_by_label("From", exact=True).fill("2020-01-01T00:00:00")
    await expect(shown.get_by_role("alert")).to_have_text("A window has at most 31 days.")
    await expect(button(shown, "Count")).to_be_disabled()
    await button(shown, "Last hour").click()
    await expect(button(shown, "Count")).to_be_enabled()


async def test_the_number_is_typed_where_receivers_had_everything_already(
    page: Page, service: Service, receiver: Receiver
) -> None:
    await service.create_webhook(receiver.url())
    await ended(service, 2)
    shown = await opened(page, service, f"{NEW}&statuses=succeeded")
    await button(shown, "Count").click()
    await button(shown, "Start replay").click()
    await expect(question(page)).to_contain_text("Would send 2 deliveries to all webhooks")
    start = button(question(page), "Start replay")
    await expect(start).to_be_disabled()
    await question(page).get_by_role("textbox").fill("3")
    await expect(start).to_be_disabled()
    await question(page).get_by_role("textbox").fill("2")
    await start.click()
    await expect(shown.locator("h2")).to_contain_text("Completed")
    await expect(shown.locator(".sum")).to_contain_text("2 Succeeded")


async def test_while_another_count_is_in_progress_it_waits_and_counts_by_itself(page: Page, service: Service) -> None:
    busy = {"status": 429, "reason": "TOO_MANY_DRY_RUNS", "detail": "retry later", "retry_seconds": 0.3}
    part = {"delivery_count": 8412, "end_time": "2026-11-28T06:00:00Z", "progress_time": "2026-11-28T04:12:00Z"}
    documents = [busy, busy, part]

    async def answered(route: Route) -> None:
        document = documents.pop(0)
        kind = "application/problem+json" if "reason" in document else "application/json"
        await route.fulfill(status=int(document.get("status", 200)), content_type=kind, body=json.dumps(document))

    await page.route("**/api/replays", answered)
    shown = await opened(page, service, NEW)
    await button(shown, "Count").click()
    await expect(shown.locator("output")).to_contain_text("Another count is in progress")
    await expect(shown.locator("output")).to_contain_text(
        "Would send 8,412 deliveries to all webhooks, at least; counted"
    )
    assert documents == []


# --- the list, and one replay ----------------------------------------------------------------------------------------


async def test_a_replay_says_what_waits_and_its_deliveries_follow_live(
    page: Page, service: Service, receiver: Receiver
) -> None:
    webhook = await service.create_webhook(receiver.on("/x", answers(500, 500, 200)), name="billing-eu")
    await ended(service, 2)
    await service.pause_webhook(webhook.webhook_id)
    replay = await started(service)
    shown = await opened(page, service, f"replays?customer_id={CUSTOMER}")
    row = shown.locator(".list .row:not(.grey)")
    await expect(row).to_contain_text("Running")
    await expect(row).to_contain_text("Failed, Cancelled, Expired · all webhooks")
    await expect(row).to_contain_text("2 Waiting")
    await service.publish()  # is not of the replay
    async with page.expect_request(f"**/api/deliveries:watch?customer_id={CUSTOMER}&replay_id={replay.replay_id}"):
        await row.get_by_role("link").click()
    await expect(page).to_have_url(re.compile(rf"/replays/{replay.replay_id}(\?|$)"))
    await expect(shown.locator(".why-it-waits")).to_have_text(f"billing-eu #{webhook.webhook_id}: paused, waits")
    rows = shown.locator(".replayed tbody tr")
    await expect(rows).to_have_count(2)
    await expect(rows.first).to_contain_text("Pending")
    await service.resume_webhook(webhook.webhook_id)
    await expect(shown.locator("h2")).to_contain_text("Completed")
    await expect(rows.nth(1)).to_contain_text("Succeeded")
    await expect(shown.locator(".sum")).to_contain_text("2 Succeeded")
    await expect(button(shown, "Cancel replay")).to_be_hidden()


async def test_the_list_goes_on_by_itself(page: Page, service: Service, receiver: Receiver) -> None:
    webhook = await service.create_webhook(receiver.on("/x", answers(500, 200)))
    await ended(service, 1)
    await service.pause_webhook(webhook.webhook_id)
    await started(service)
    shown = await opened(page, service, "replays")
    await expect(shown.locator(".list .row:not(.grey)")).to_contain_text("Running")
    await service.resume_webhook(webhook.webhook_id)
    await expect(shown.locator(".list .row:not(.grey)")).to_contain_text("Completed")
    await expect(shown.locator(".list .row:not(.grey)")).to_contain_text("1 Succeeded")


async def test_cancelling_says_the_figures_first(page: Page, service: Service, receiver: Receiver) -> None:
    webhook = await service.create_webhook(receiver.on("/x", answer(500)))
    await ended(service, 2)
    await service.pause_webhook(webhook.webhook_id)
    replay = await started(service)
    shown = await opened(page, service, f"replays/{replay.replay_id}?customer_id={CUSTOMER}")
    await expect(shown.locator(".sum")).to_contain_text("2 Waiting")
    await button(shown, "Cancel replay").click()
    await expect(question(page)).to_contain_text(f"Replay {replay.replay_id}")
    await expect(question(page)).to_contain_text("2 that wait are cancelled; 0 were sent and stay sent.")
    await button(question(page), "Cancel replay").click()
    await expect(shown.locator("h2")).to_contain_text("Cancelled")
    await expect(shown.locator(".sum")).to_contain_text("2 Cancelled")
    assert (await service.replay(replay.replay_id)).status == replay_pb2.REPLAY_STATUS_CANCELLED
    again = shown.get_by_role("link", name="New replay like this one")
    assert "statuses=failed,cancelled,expired" in (await again.get_attribute("href") or "")


async def test_in_chinese_no_word_is_missing(browser: Browser, service: Service, receiver: Receiver) -> None:
    webhook = await service.create_webhook(receiver.on("/x", answer(500)))
    await ended(service, 1)
    await service.pause_webhook(webhook.webhook_id)
    replay = await started(service)
    context = await browser.new_context(locale="zh-CN")
    page = await context.new_page()
    missing = list[str]()
    page.on("console", lambda said: missing.append(said.text) if "no translation" in said.text else None)
    shown = await opened(page, service, f"replays/{replay.replay_id}?customer_id={CUSTOMER}")
    await expect(shown.locator(".why-it-waits")).to_contain_text("已暂停，等待中")
    shown = await opened(page, service, "replays")
    await expect(shown.locator(".list .row:not(.grey)")).to_contain_text("进行中")
    shown = await opened(page, service, NEW)
    await button(shown, "统计数量").click()
    await expect(shown.locator("output")).to_have_text("将补发 0 条投递，目标：全部 Webhook")
    await context.close()
    assert missing == []


async def started(service: Service) -> replay_pb2.Replay:
    """Starts a replay of everything that did not succeed."""
    replay = replay_pb2.Replay(customer_id=CUSTOMER)
    replay.start_time.FromDatetime(datetime.now(UTC) - timedelta(hours=1))
    return await service.stub.CreateReplay(service_pb2.CreateReplayRequest(replay=replay))

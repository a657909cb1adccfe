"""What a person may do with a webhook and with a delivery: what is asked first, what is said, and what happens then."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.async_api import Locator, Page, Request, Route, expect
from webhook.v1 import delivery_pb2, webhook_pb2

from tests.support import slowness
from tests.support.distribution import need
from tests.support.receiver import Receiver, answer, answers
from tests.support.service import CUSTOMER, SECRET, Service

pytestmark = [pytest.mark.slow(3), pytest.mark.asyncio(loop_scope="module")]
HOSTILE = "<img src=x onerror=alert(1)>\u202e"


@pytest.fixture(scope="module")
def shared_settings() -> Mapping[str, Any]:
    return {"http_address": "127.0.0.1:0", "retry_delays_seconds": (1.0, 1.0, 1.0), "default_customer_id": CUSTOMER}


async def opened(page: Page, service: Service, path: str = "") -> Locator:
    """Returns the page at a path, as it is shown."""
    await page.goto(f"http://127.0.0.1:{service.app.http_port}/{path}")
    return page.locator("wg-app main.detail")


def question(page: Page) -> Locator:
    return page.locator("wg-app dialog[open]")


async def test_a_question_rests_on_cancel_and_escape_leaves_everything_as_it_is(
    page: Page, service: Service, receiver: Receiver
) -> None:
    webhook = await service.create_webhook(receiver.url(), name="billing-eu")
    detail = await opened(page, service, f"webhooks/{webhook.webhook_id}")
    await detail.get_by_role("button", name="Pause").click()
    await expect(question(page).get_by_role("button", name="Cancel")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(question(page)).to_have_count(0)
    await expect(detail).to_contain_text("billing-eu")
    assert (await service.webhook(webhook.webhook_id)).status == webhook_pb2.WEBHOOK_STATUS_ACTIVE


# --- webhooks ---------------------------------------------------------------------------------------------------------


async def open_webhook(page: Page, service: Service, webhook: webhook_pb2.Webhook) -> Locator:
    detail = await opened(page, service, f"webhooks/{webhook.webhook_id}?customer_id={CUSTOMER}")
    await expect(detail.get_by_role("button", name="Send test")).to_be_visible()
    return detail


async def disabled(service: Service, receiver: Receiver, name: str) -> webhook_pb2.Webhook:
    """Returns a webhook that the service has disabled, because its receiver said that it is gone."""
    webhook = await service.create_webhook(receiver.on(f"/{name}", answers(410, 200)), name=name)
    async with service.watching(webhook_ids=[webhook.webhook_id]) as watch:
        await service.publish()
        await watch.until_ended()
    return webhook


async def test_a_test_is_answered_in_place_as_text(page: Page, service: Service, receiver: Receiver) -> None:
    url = receiver.on("/bad", answer(503, "<b>down</b>", Retry_After="300"))
    detail = await open_webhook(page, service, await service.create_webhook(url))
    await detail.get_by_role("button", name="Send test").dblclick()
    result = detail.locator(".answer")
    await expect(result).to_contain_text(re.compile(r"503 in \d+ ms"))
    await expect(result).to_contain_text("retry-after")
    await expect(result.locator("pre")).to_have_text("<b>down</b>")
    assert len(receiver.requests) == 1, "a double click acts once"


async def test_a_rotation_shows_the_new_secret_once_and_until_when_both_sign(
    page: Page, service: Service, receiver: Receiver
) -> None:
    webhook = await service.create_webhook(receiver.url(), name="billing-eu")
    detail = await open_webhook(page, service, webhook)
    await detail.get_by_role("button", name="Rotate secret…").click()
    await expect(question(page).get_by_role("button", name="Cancel")).to_be_focused()
    await question(page).get_by_role("button", name="Rotate secret").click()
    shown = page.locator("wg-app dialog.secret")
    await expect(shown).to_contain_text("Both secrets sign until")
    await expect(shown).to_contain_text("X-Webhook-Signature changes over then.")
    secret = await shown.get_by_label("Secret", exact=True).input_value()
    await shown.get_by_label("I have stored it").check()
    await shown.get_by_role("button", name="Close").click()
    await expect(detail).to_contain_text(f"Secret …{secret[-4:]} · Both secrets sign until")
    await service.publish()
    [request] = await receiver.wait_for(1)
    assert len(request.headers["webhook-signature"].split()) == 2
    # An earlier rotation overlaps: the old secrets can only stop at once, which the name confirms.
    await detail.get_by_role("button", name="Rotate secret…").click()
    await expect(question(page).get_by_role("radio")).to_have_count(1)
    await expect(question(page)).to_contain_text("The old secret stops within a second.")
    verb = question(page).get_by_role("button", name="Rotate secret")
    await expect(verb).to_be_disabled()
    await question(page).get_by_label("Type the name to confirm").fill("billing-eu")
    await expect(verb).to_be_enabled()
    await page.keyboard.press("Escape")
    assert (await service.webhook(webhook.webhook_id)).secret_hint == secret[-4:]


async def test_deleting_names_what_is_cancelled_and_wants_the_name(
    page: Page, service: Service, receiver: Receiver
) -> None:
    webhook = await service.create_webhook(receiver.on("/bad", answer(500)), name="old-crm")
    await service.pause_webhook(webhook.webhook_id)
    await service.publish_many(3)
    detail = await open_webhook(page, service, webhook)
    await detail.get_by_role("button", name="Delete…").click()
    await expect(question(page)).to_contain_text(f"Delete: old-crm #{webhook.webhook_id}")
    await expect(question(page)).to_contain_text("3 pending deliveries are cancelled. History stays.")
    verb = question(page).get_by_role("button", name="Delete")
    await question(page).get_by_label("Type the name to confirm").fill("old")
    await expect(verb).to_be_disabled()
    await question(page).get_by_label("Type the name to confirm").fill("old-crm")
    await verb.click()
    await expect(page.locator("wg-app")).to_contain_text("No webhook yet")


async def test_what_a_customer_wrote_is_text_in_questions_and_forms(
    page: Page, service: Service, receiver: Receiver
) -> None:
    url = receiver.url("/<img%20src=x>")
    webhook = await service.create_webhook(
        url, name=HOSTILE, description=HOSTILE, labels={HOSTILE: HOSTILE}, headers={"X-Key": "<b>"}
    )
    detail = await open_webhook(page, service, webhook)
    await expect(detail).to_contain_text("<img src=x onerror=alert(1)>\\u202e")
    await detail.get_by_role("button", name="Delete…").click()
    await expect(question(page).get_by_label("Type the name to confirm")).to_be_visible()
    await expect(question(page).locator("code")).to_have_text(str(webhook.webhook_id))  # nobody can type that name
    await page.keyboard.press("Escape")
    await detail.get_by_role("button", name="Edit").click()
    await expect(detail.get_by_label("Name", exact=True).first).to_have_value(HOSTILE)
    await expect(page.locator("wg-app img")).to_have_count(0)


async def test_a_question_that_is_refused_says_why_and_can_be_repeated_with_the_same_request_id(
    page: Page, service: Service, receiver: Receiver
) -> None:
    webhook = await service.create_webhook(receiver.url())
    detail = await open_webhook(page, service, webhook)
    asked = list[str]()

    async def lose(route: Route, request: Request) -> None:
        asked.append(request.headers["idempotency-key"])
        answered = await route.fetch()
        await (route.fulfill(response=answered) if len(asked) > 1 else route.fulfill(status=503, body="{}"))

    await page.route("**/*:rotateSecret", lose)
    await detail.get_by_role("button", name="Rotate secret…").click()
    await question(page).get_by_role("button", name="Rotate secret").click()
    await expect(question(page).get_by_role("alert").last).to_contain_text("503")
    await question(page).get_by_role("button", name="Rotate secret").click()
    shown = page.locator("wg-app dialog.secret").get_by_label("Secret", exact=True)
    secret = await shown.input_value()
    assert asked[0] == asked[1]
    assert (await service.webhook(webhook.webhook_id)).secret_hint == secret[-4:], "the first answer"


async def test_the_banner_names_disabled_webhooks_and_resume_leads_to_the_replay_of_what_was_missed(
    page: Page, service: Service, receiver: Receiver
) -> None:
    webhook = await disabled(service, receiver, "old-crm")
    lists = list[str]()
    page.on("request", lambda request: lists.append(request.url) if "statuses=disabled" in request.url else None)
    await opened(page, service)
    banner = page.locator("wg-app .banner")
    text = f"1 webhook is disabled: old-crm #{webhook.webhook_id} (The receiver answered 410 Gone)."
    await expect(banner).to_contain_text(text)
    await page.locator("wg-app").get_by_role("link", name="Webhooks").click()
    await expect(banner).to_contain_text(text)
    await banner.get_by_role("link", name="old-crm").click()
    detail = page.locator("wg-app main.detail")
    await expect(detail).to_contain_text("Disabled because the receiver answered 410 Gone.")
    assert len(lists) == 1, "asked at most once a minute"
    await detail.get_by_role("button", name="Resume").click()
    await expect(question(page)).to_contain_text("It starts with one request at a time.")
    await question(page).get_by_label("then replay what was missed").check()
    await question(page).get_by_role("button", name="Resume").click()
    await page.wait_for_url("**/replays/new?*")
    query = parse_qs(urlsplit(page.url).query)
    assert query.pop("start_time")
    assert query == {
        "webhook_ids": [str(webhook.webhook_id)],
        "statuses": ["failed,cancelled"],
        "never_delivered": ["true"],
        "customer_id": [str(CUSTOMER)],
    }
    assert (await service.webhook(webhook.webhook_id)).status == webhook_pb2.WEBHOOK_STATUS_ACTIVE
    await expect(banner).to_have_count(0)


async def test_the_list_shows_how_webhooks_have_been_doing_and_a_number_says_what_it_counts(
    page: Page, service: Service, receiver: Receiver
) -> None:
    webhook = await service.create_webhook(receiver.url(), name="ci-bot", events=["a.*", "b.*", "c.*", "job.*", "d.*"])
    async with service.watching() as watch:
        await service.publish_many(3)
        await watch.until_ended(3)

    async def truncate(route: Route) -> None:
        found = await (await route.fetch()).json()
        await route.fulfill(json={**found, "truncated": True})

    await page.route("**/stats?*", truncate)
    await opened(page, service, "webhooks")
    row = page.locator("wg-app tbody tr")
    await expect(row).to_contain_text("a.*, b.*, c.* +2")
    await expect(row).to_contain_text("100.0 %")
    await row.get_by_role("link", name="ci-bot").click()
    detail = page.locator("wg-app main.detail")
    await expect(detail).to_contain_text("100.0 % of 3 attempts of the latest million attempts")
    await expect(detail.locator("section", has_text="Now").last).to_contain_text("≤ 10")
    bins = detail.get_by_role("slider").first
    await bins.focus()
    await bins.press("End")
    await expect(detail.locator(".read").first).to_contain_text("Succeeded")
    await bins.press("ArrowLeft")
    before = await bins.get_attribute("aria-valuetext")
    await bins.press("ArrowRight")
    await expect(bins).not_to_have_attribute("aria-valuetext", before or "")
    await bins.press("Enter")
    await page.wait_for_url("**/attempts?*")
    query = parse_qs(urlsplit(page.url).query)
    assert query["webhook_ids"] == [str(webhook.webhook_id)]
    assert query["start_time"] < query["end_time"]


async def printed(line: str) -> str:
    """Runs a line in a shell; returns what it prints."""
    process = await asyncio.create_subprocess_shell(
        line, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with slowness.timeout(20):
        return (await process.communicate())[0].decode()


async def test_the_first_run_says_how_to_begin_and_its_lines_publish(page: Page, service: Service) -> None:
    curl = need("curl")
    await opened(page, service)
    first = page.locator("wg-app .first-run")
    await expect(first).to_contain_text("No webhook yet")
    lines = await first.locator("pre").all_text_contents()
    assert [line.split()[0] for line in lines] == ["curl", "grpcurl", "webhook-grpc"]
    assert json.loads(await printed(lines[0].replace("curl", curl, 1)))["event_id"].startswith("evt_")
    own = re.sub(r"-a \S+", f"-a 127.0.0.1:{service.app.port}", lines[2])  # the page shows the port of the settings
    assert (await printed(str(Path(sys.executable).with_name(own)))).startswith("evt_")
    await first.get_by_role("button", name="Create webhook").click()
    await page.wait_for_url("**/webhooks/new")


# --- deliveries -------------------------------------------------------------------------------------------------------


async def delivered(service: Service, data: str = "{}") -> delivery_pb2.Delivery:
    """Publishes an event and returns its delivery when it has ended."""
    async with service.watching() as watch:
        await service.publish(data)
        [delivery] = await watch.until_ended()
    return delivery


async def open_delivery(page: Page, service: Service, delivery: delivery_pb2.Delivery) -> Locator:
    detail = await opened(page, service, f"deliveries/{delivery.delivery_id}?customer_id={CUSTOMER}")
    await expect(detail.locator(".story")).to_be_visible()
    return detail


async def test_what_has_succeeded_is_sent_once_more_only_after_a_question(
    page: Page, service: Service, receiver: Receiver
) -> None:
    await service.create_webhook(receiver.url())
    delivery = await delivered(service)
    detail = await open_delivery(page, service, delivery)
    await detail.get_by_role("button", name="Retry").click()
    text = f"The receiver has answered 200 already; it gets webhook-id {delivery.event_id} once more."
    await expect(question(page)).to_contain_text(text)
    await expect(question(page)).to_contain_text(delivery.delivery_id)
    await question(page).get_by_role("button", name="Retry").dblclick()
    await expect(detail.locator(".attempts li > button")).to_have_count(2)
    assert len(receiver.requests) == 2


async def test_an_act_that_is_not_possible_is_disabled_with_its_reason(
    page: Page, service: Service, receiver: Receiver
) -> None:
    webhook = await disabled(service, receiver, "old-crm")
    [sent] = receiver.at("/old-crm")
    delivery = delivery_pb2.Delivery(delivery_id=sent.headers["X-Webhook-Delivery"])
    detail = await open_delivery(page, service, delivery)
    retry = detail.get_by_role("button", name="Retry")
    await expect(retry).to_be_disabled()
    await expect(retry).to_have_attribute("title", "Its webhook is disabled; resume it first.")
    cancel = detail.get_by_role("button", name="Cancel delivery")
    await expect(cancel).to_have_attribute("title", "It has ended already.")
    await service.resume_webhook(webhook.webhook_id)
    await page.reload()
    await expect(retry).to_be_enabled()


async def test_an_event_is_sent_as_a_test_with_its_data_changed(
    page: Page, service: Service, receiver: Receiver
) -> None:
    webhook = await service.create_webhook(receiver.url())
    detail = await open_delivery(page, service, await delivered(service, '{"price":1.0,"id":12345678901234567890}'))
    await detail.get_by_role("button", name="Test with this event").click()
    await expect(question(page)).to_contain_text(f"to webhook #{webhook.webhook_id}")
    data = question(page).get_by_label("Data")
    await expect(data).to_have_value('{"price":1.0,"id":12345678901234567890}')
    await data.fill('{"price":2.0,"id":12345678901234567890')
    send = question(page).get_by_role("button", name="Send test")
    await send.click()
    await expect(question(page).get_by_role("alert").last).to_contain_text("is not valid JSON")
    await data.fill('{"price":2.0,"id":12345678901234567890}')
    await send.click()
    await expect(question(page).locator(".answer")).to_contain_text("200 in")
    assert receiver.requests[-1].body.endswith(b'"data":{"price":2.0,"id":12345678901234567890}}')
    receiver.requests[-1].verify(SECRET)
    await question(page).get_by_role("button", name="Close").click()
    await expect(question(page)).to_have_count(0)


async def test_a_delivery_is_copied_as_commands_that_work(page: Page, service: Service, receiver: Receiver) -> None:
    curl = need("curl")
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await service.create_webhook(receiver.url())
    delivery = await delivered(service, """{"text": "it's $HOME `id`", "price": 1.0}""")
    detail = await open_delivery(page, service, delivery)

    async def copied(name: str) -> str:
        await page.locator("wg-app .toast").evaluate("(node) => node.replaceChildren()")  # it keeps what it said last
        await detail.locator(".menu summary").click()
        await detail.locator(".menu").get_by_role("button", name=name, exact=True).click()
        await expect(page.locator("wg-app .toast")).to_have_text("Copied")
        return await page.evaluate("navigator.clipboard.readText()")

    assert await copied("webhook-id") == delivery.event_id
    assert await copied("Data") == """{"text": "it's $HOME `id`", "price": 1.0}"""
    process = await asyncio.create_subprocess_shell(
        (await copied("As it was sent")).replace("curl", curl, 1),
        env={"URL": receiver.url("/copy")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    [original] = receiver.at("/ok")
    [again] = await receiver.wait_for(1, "/copy")
    await process.communicate()
    assert again.body == original.body
    assert again.headers["webhook-id"] == delivery.event_id
    assert "webhook-signature" not in again.headers
    process = await asyncio.create_subprocess_shell(
        (await copied("Copy as curl")).replace("curl", curl, 1), env={"TOKEN": ""}, stdout=asyncio.subprocess.PIPE
    )
    answered, _ = await process.communicate()
    assert b"delivery_id" in answered or b"TOKEN" in answered

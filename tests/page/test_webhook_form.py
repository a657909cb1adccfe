"""A webhook is created and changed: judged as it is typed, sent as what has changed, its secret shown once."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect
from webhook.v1 import service_pb2, webhook_pb2

from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER, SECRET, Service

pytestmark = [pytest.mark.slow(3), pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def shared_settings() -> Mapping[str, Any]:
    return {"http_address": "127.0.0.1:0", "default_customer_id": CUSTOMER}


async def form(page: Page, service: Service, path: str = "webhooks/new") -> Locator:
    """Returns the form at a path, as it is shown."""
    await page.goto(f"http://127.0.0.1:{service.app.http_port}/{path}")
    detail = page.locator("wg-app main.detail")
    await expect(detail.locator(".form").first).to_be_visible()
    return detail


async def fill(detail: Locator, name: str, url: str, *patterns: str) -> None:
    await detail.get_by_label("Name", exact=True).fill(name)
    await detail.get_by_label("URL").fill(url)
    for pattern in patterns:
        await detail.get_by_label("Event type").fill(pattern)
        await detail.get_by_label("Event type").press("Enter")


async def all_webhooks(service: Service) -> list[webhook_pb2.Webhook]:
    return list((await service.stub.ListWebhooks(service_pb2.ListWebhooksRequest(customer_id=CUSTOMER))).webhooks)


def secret_dialog(page: Page) -> Locator:
    return page.locator("wg-app dialog.secret")


async def test_a_secret_that_the_service_made_is_shown_once_and_then_nowhere(
    page: Page, service: Service, receiver: Receiver
) -> None:
    detail = await form(page, service)
    await fill(detail, "billing-eu", receiver.url(), "job.*", "alert.triggered")
    await expect(detail).to_contain_text("matches 3 of 7 types")
    await detail.get_by_role("button", name="Create webhook").dblclick()
    shown = secret_dialog(page).get_by_label("Secret", exact=True)
    await expect(shown).to_have_attribute("type", "password")
    secret = await shown.input_value()
    assert secret.startswith("whsec_")
    await secret_dialog(page).get_by_role("button", name="Reveal").click()
    await expect(shown).to_have_attribute("type", "text")
    close = secret_dialog(page).get_by_role("button", name="Close")
    await expect(close).to_be_disabled()
    await page.keyboard.press("Escape")
    await page.keyboard.press("Escape")
    await expect(secret_dialog(page)).to_be_visible()
    await secret_dialog(page).get_by_label("I have stored it").check()
    await close.click()
    await expect(secret_dialog(page)).to_have_count(0)
    [webhook] = await all_webhooks(service)
    assert (webhook.name, list(webhook.events)) == ("billing-eu", ["job.*", "alert.triggered"])
    await expect(detail).to_contain_text(f"Secret …{secret[-4:]}")
    await expect(page).to_have_url(re.compile(rf"/webhooks/{webhook.webhook_id}\?customer_id={CUSTOMER}$"))
    assert not await page.evaluate(EVERYTHING_HAS, secret), "neither text nor value of any element has it"
    await service.publish()
    [request] = await receiver.wait_for(1)
    request.verify(secret)


# Whether a text is in the text or the value of any element of the page, open shadow roots too.
EVERYTHING_HAS = """text => {
  const has = (root) => [...root.querySelectorAll("*")].some((node) =>
    (node.value ?? "").toString().includes(text) || [...node.attributes].some((one) => one.value.includes(text)) ||
    [...node.childNodes].some((child) => child.nodeType === 3 && child.data.includes(text)) ||
    (node.shadowRoot && has(node.shadowRoot)));
  return has(document);
}"""


async def test_a_secret_of_ones_own_signs_with_an_ed25519_key_if_chosen_and_is_not_shown(
    page: Page, service: Service, receiver: Receiver
) -> None:
    detail = await form(page, service)
    await fill(detail, "mine", receiver.url(), "*")
    await detail.get_by_label("My own").check()
    await detail.get_by_label("Secret", exact=True).last.fill(SECRET)
    await detail.get_by_text("Advanced").click()
    await detail.get_by_label("Signatures").select_option("Secret, and an Ed25519 key")
    await detail.get_by_role("button", name="Create webhook").click()
    await expect(detail).to_contain_text(f"Secret …{SECRET[-4:]}")
    await expect(secret_dialog(page)).to_have_count(0)
    await service.publish()
    [request] = await receiver.wait_for(1)
    request.verify(SECRET)
    assert " v1a," in request.headers["webhook-signature"]

    await detail.get_by_role("button", name="Edit").click()
    await expect(detail.get_by_label("Signatures")).to_have_value("ed25519")
    await detail.get_by_label("Signatures").select_option("Secret (HMAC)")
    await detail.get_by_role("button", name="Save").click()
    # The list of the webhook's page: the form has the same text.
    await expect(detail.locator("dl", has_text="SignaturesSecret (HMAC)").first).to_be_visible()
    [webhook] = await all_webhooks(service)
    assert webhook.signature_type == webhook_pb2.SIGNATURE_TYPE_HMAC


async def test_what_is_wrong_stands_under_its_field(page: Page, service: Service) -> None:
    detail = await form(page, service)
    url = detail.locator(".field", has=page.get_by_label("URL"))
    await detail.get_by_label("URL").fill("https://user:pw@hooks.example.com/")
    await expect(url).to_contain_text("No user name and no password in it.")
    await detail.get_by_label("URL").fill("https://hooks.example.com/in")
    await expect(url).not_to_contain_text("No user name")
    await detail.get_by_label("Event type").fill("Job completed!")
    await detail.get_by_label("Event type").press("Enter")
    await expect(detail.locator(".field", has_text="Subscribed events")).to_contain_text("neither a type nor a prefix")
    await detail.get_by_label("Event type").fill("job.*")
    await detail.get_by_text("Advanced").click()
    await detail.get_by_label("Retry schedule").fill("5 s, 2 min, 10 h")
    await expect(detail).to_contain_text("4 attempts over 10 h 2 min")
    await detail.get_by_label("Retry schedule").fill("5 s, 2 d")
    await detail.get_by_label("Timeout").fill("99")
    await detail.get_by_role("button", name="Create webhook").click()
    name = detail.locator(".field", has=page.get_by_label("Name", exact=True)).first
    await expect(name).to_contain_text("name: must not be empty")
    await expect(detail.locator(".field", has_text="Timeout")).to_contain_text("timeout: must be 1 s to 30 s")
    schedule = detail.locator(".field", has_text="Retry schedule")
    await expect(schedule).to_contain_text("retry_policy.delays[1]: must be 1 s to 86400 s")
    await expect(detail.get_by_label("Name", exact=True).first).to_be_focused()
    assert await all_webhooks(service) == []


async def test_what_can_not_be_read_is_said_and_nothing_is_sent(page: Page, service: Service) -> None:
    detail = await form(page, service)
    await fill(detail, "x", "https://hooks.example.com/in", "*")
    await detail.get_by_text("Advanced").click()
    await detail.get_by_label("Timeout").press_sequentially("1e")
    labels = detail.locator(".field", has_text="Labels")
    for name in ("team", "team"):
        await labels.get_by_role("button", name="Add").click()
        await labels.get_by_label("Name").last.fill(name)
    await detail.get_by_role("button", name="Create webhook").click()
    await expect(detail.locator(".field", has_text="Timeout")).to_contain_text("A number is needed.")
    await expect(labels).to_contain_text("A name stands there twice.")
    await expect(detail.get_by_label("Timeout")).to_be_focused()
    assert await all_webhooks(service) == []


async def test_a_type_that_is_not_known_stands_under_the_events(page: Page, service: Service) -> None:
    detail = await form(page, service)
    await fill(detail, "x", "https://hooks.example.com/in", "nobody.knows")
    await detail.get_by_role("button", name="Create webhook").click()
    await expect(detail.locator(".field", has_text="Subscribed events")).to_contain_text("nobody.knows")
    await expect(detail.locator(".field", has_text="Subscribed events")).to_contain_text("CreateEventType")


async def test_save_sends_only_what_has_changed_and_only_on_what_was_seen(
    page: Page, service: Service, receiver: Receiver
) -> None:
    created = await service.create_webhook(
        receiver.url(), name="old", headers={"X-Key": "key-of-the-receiver"}, labels={"team": "eu"}
    )
    detail = await form(page, service, f"webhooks/{created.webhook_id}/edit?customer_id={CUSTOMER}")
    assert not await page.evaluate(EVERYTHING_HAS, "key-of-the-receiver"), "of headers the names only"
    await detail.get_by_label("Name", exact=True).first.fill("new")
    await detail.get_by_label("Requests at once").fill("3")
    async with page.expect_request(lambda request: request.method == "PATCH") as patched:
        await detail.get_by_role("button", name="Save").click()
    request = await patched.value
    assert json.loads(request.post_data or "") == {"name": "new", "max_in_flight": 3, "customer_id": CUSTOMER}
    assert request.headers["if-match"] == f'"{created.etag}"'
    await expect(detail).to_contain_text(f"new #{created.webhook_id}")
    now = await service.webhook(created.webhook_id)
    assert (now.name, now.max_in_flight) == ("new", 3)
    assert dict(now.headers) == {"X-Key": "…"}


async def test_a_header_is_added_and_the_hidden_value_of_another_one_stays(
    page: Page, service: Service, receiver: Receiver
) -> None:
    created = await service.create_webhook(receiver.url(), headers={"X-Key": "kept"})
    detail = await form(page, service, f"webhooks/{created.webhook_id}/edit?customer_id={CUSTOMER}")
    headers = detail.locator(".field", has_text="Headers")
    await headers.get_by_role("button", name="Add").click()
    await headers.get_by_label("Name").last.fill("X-Region")
    await headers.get_by_label("Value").last.fill("eu")
    await detail.get_by_role("button", name="Save").click()
    await expect(detail).to_contain_text("X-Key, X-Region")
    assert dict((await service.webhook(created.webhook_id)).headers) == {"X-Key": "…", "X-Region": "…"}
    await service.publish()
    await receiver.wait_for(1)
    sent = receiver.requests[0].headers
    assert (sent["X-Key"], sent["X-Region"]) == ("kept", "eu")


async def test_two_edits_at_once_are_shown_side_by_side_with_a_choice(
    page: Page, service: Service, receiver: Receiver
) -> None:
    created = await service.create_webhook(receiver.url(), name="old")
    detail = await form(page, service, f"webhooks/{created.webhook_id}/edit?customer_id={CUSTOMER}")
    await detail.get_by_label("Name", exact=True).first.fill("mine")
    await detail.get_by_text("Advanced").click()
    await detail.get_by_label("Requests at once").fill("3")
    theirs = webhook_pb2.Webhook(
        webhook_id=created.webhook_id, customer_id=CUSTOMER, name="theirs", max_in_flight=7, description="by another"
    )
    await service.stub.UpdateWebhook(service_pb2.UpdateWebhookRequest(webhook=theirs))
    await detail.get_by_role("button", name="Save").click()
    question = page.locator("wg-app dialog[open]")
    await expect(question).to_contain_text("Somebody changed it meanwhile")
    sides = question.locator("fieldset")
    await expect(sides).to_have_count(3)
    await expect(sides.nth(0)).to_contain_text("mine")
    await expect(sides.nth(0)).to_contain_text("theirs")
    await expect(sides.filter(has_text="description").get_by_label("Theirs")).to_be_checked()
    await sides.filter(has_text="max_in_flight").get_by_label("Theirs").check()
    await question.get_by_role("button", name="Save").click()
    await expect(detail).to_contain_text(f"mine #{created.webhook_id}")
    now = await service.webhook(created.webhook_id)
    assert (now.name, now.max_in_flight, now.description) == ("mine", 7, "by another")

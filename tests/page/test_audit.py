"""The audit in a real browser: who changed what, for those who may read it, whatever callers call themselves."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, Route, expect

from tests.page.accessibility import wrong
from tests.page.door import CUSTOMER, Door, now
from tests.page.keyboard import has_keys
from tests.support.receiver import Receiver
from tests.support.service import Service

pytestmark = [pytest.mark.slow(3), pytest.mark.asyncio(loop_scope="module")]
HOSTILE = "<img src=x onerror=alert(1)></script>\u202egnp.exe"
WHO_MAY = "Only a caller with the permission admin may see the audit."


@pytest.fixture(scope="module")
def shared_settings() -> Mapping[str, Any]:
    return {"http_address": "127.0.0.1:0"}


@pytest_asyncio.fixture(loop_scope="module")
async def door() -> AsyncGenerator[Door]:
    """A door for a caller of all customers who may do everything, with no entry."""
    door = Door()
    door.caller = {"name": "operator", "permissions": ["admin", "manage", "publish", "read"]}
    has_entries(door)
    await door.start()
    yield door
    await door.stop()


def has_entries(door: Door, *entries: dict[str, Any], token: str = "") -> None:
    door.answers["/api/auditEntries"] = json.dumps({"entries": entries, "next_page_token": token})


def entry(number: int, **fields: Any) -> dict[str, Any]:
    """Returns an entry as the API writes it."""
    return {
        "entry_id": number,
        "create_time": now(),
        "method": "UpdateWebhook",
        "caller": "operator",
        "caller_token_id": 3,
        "source_address": "10.0.0.7",
        "call_id": f"call-{number}",
        "customer_id": CUSTOMER,
        "resources": [f"webhook:{number}"],
        "fields": ["description", "url"],
        "result": "OK",
        "reason": "",
        **fields,
    }


def rows(page: Page) -> Locator:
    return page.locator("wg-app .list .rows > .row:not(.grey)")


def audit_link(page: Page) -> Locator:
    return page.get_by_role("link", name="Audit", exact=True)


async def test_what_was_changed_is_listed_and_leads_to_where_it_is_shown(
    page: Page, service: Service, receiver: Receiver
) -> None:
    webhook_id = (await service.create_webhook(receiver.url("/audit"))).webhook_id
    await page.goto(f"http://127.0.0.1:{service.app.http_port}/")
    await audit_link(page).click()
    created = rows(page).first
    for said in ("Create webhook", f"webhook:{webhook_id}", "url", "anonymous", "127.0.0.1", "Done", str(CUSTOMER)):
        await expect(created).to_contain_text(said)
    await expect(audit_link(page)).to_have_attribute("aria-current", "page")
    await created.get_by_role("link", name="Create webhook").click()
    await expect(page).to_have_url(
        f"http://127.0.0.1:{service.app.http_port}/webhooks/{webhook_id}?customer_id={CUSTOMER}"
    )


async def test_whatever_a_caller_is_called_it_is_text(page: Page, door: Door) -> None:
    hostile = dict.fromkeys(("method", "caller", "source_address", "reason"), HOSTILE)
    resources = [f"webhook:{HOSTILE}", "webhook:1/../x"]
    has_entries(
        door,
        entry(2, **hostile, result=HOSTILE, resources=resources, fields=[HOSTILE]),
        entry(1, resources=resources[:1]),
        entry(0, result="constructor"),
    )
    await page.goto(f"{door.url}audit")
    await expect(rows(page)).to_have_count(3)
    said = await rows(page).first.get_by_role("gridcell").all_inner_texts()
    assert ["<img src=x onerror=alert(1)>" in text for text in said] == [*[True] * 6, False, False]
    assert "\u202e" not in "".join(said)
    await expect(rows(page).locator("img, script, a")).to_have_count(0)


async def test_the_audit_is_read_page_by_page_and_by_customer(page: Page, door: Door) -> None:
    asked = list[str]()

    async def answer(route: Route) -> None:
        asked.append(route.request.url.partition("auditEntries")[2])
        is_first = "page_token" not in asked[-1]
        numbers = range(100, 50, -1) if is_first else range(50, 48, -1)
        await route.fulfill(
            json={"entries": [entry(n) for n in numbers], "next_page_token": "more" if is_first else ""}
        )

    await page.route("**/api/auditEntries*", answer)
    await page.goto(f"{door.url}audit")
    await expect(rows(page)).to_have_count(50)
    await page.locator("wg-app .foot").get_by_role("button", name="Show more").scroll_into_view_if_needed()
    await expect(rows(page)).to_have_count(52)
    await expect(rows(page).last).to_contain_text("webhook:49")
    await page.get_by_label("Customer", exact=True).fill("7")
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(f"{door.url}audit?customer_id=7")
    await expect(rows(page)).to_have_count(50)
    assert asked == ["?page_size=50", "?page_size=50&page_token=more", "?customer_id=7&page_size=50"]


async def test_who_may_not_read_the_audit_sees_no_link_and_by_its_address_one_sentence(page: Page, door: Door) -> None:
    door.caller = {"name": "viewer", "permissions": ["manage", "publish", "read"]}
    asked = list[str]()
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(f"{door.url}audit")
    await expect(page.locator("wg-app main")).to_have_text(WHO_MAY)
    await expect(audit_link(page)).to_be_hidden()
    assert not [url for url in asked if "auditEntries" in url]


async def test_rows_that_lead_nowhere_are_gone_through_with_the_keys(page: Page, door: Door) -> None:
    refused = entry(2, method="RevokeToken", result="PERMISSION_DENIED", reason="PERMISSION_MISSING", resources=[])
    has_entries(door, entry(3, method="CreateToken", resources=["token:4"], customer_id=0), refused, entry(1))
    await page.goto(f"{door.url}audit")
    await expect(rows(page)).to_have_count(3)
    await has_keys(page)
    for name in ("Create token", "Revoke token", "Update webhook"):
        await page.keyboard.press("j")
        await expect(page.get_by_role("link", name=name)).to_be_focused()
    await page.keyboard.press("k")
    await page.keyboard.press("Enter")
    await page.keyboard.press("o")
    await expect(page).to_have_url(f"{door.url}audit")
    assert len(page.context.pages) == 1
    await expect(rows(page).nth(1)).to_contain_text("Not allowed PERMISSION_MISSING")
    await expect(rows(page).nth(0).get_by_role("gridcell").last).to_have_text("–")


@pytest.mark.parametrize(("width", "scheme", "language"), [(1280, "light", "en"), (320, "dark", "zh")])
async def test_nothing_is_wrong_with_the_audit(page: Page, door: Door, width: int, scheme: str, language: str) -> None:
    said = list[str]()
    page.on("console", lambda message: said.append(message.text))
    refused = entry(2, method="RevokeToken", result="NOT_FOUND", reason="TOKEN_NOT_FOUND", resources=["token:9"])
    has_entries(door, refused, entry(1, caller="o" * 120))
    await page.route("**/api/webhooks?*", lambda route: route.fulfill(json={"webhooks": []}))
    await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    await page.set_viewport_size({"width": width, "height": 640})
    await page.goto(f"{door.url}audit")
    await page.get_by_label("Language").select_option(language)
    await expect(page.get_by_text({"en": "Revoke token", "zh": "吊销访问令牌"}[language])).to_be_visible()
    await expect(page.get_by_text({"en": "Not found", "zh": "不存在"}[language])).to_be_visible()
    assert await wrong(page) == []
    assert [text for text in said if "no translation" in text] == []

"""What a person may do with a webhook and with a delivery: what is asked first, what is said, and what happens then."""

from __future__ import annotations

import pytest
from playwright.async_api import Locator, Page, expect
from webhook.v1 import webhook_pb2

from tests.support import slowness
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER, Service, ServiceFactory

pytestmark = pytest.mark.slow(3)


@pytest.fixture(autouse=True)
def patience() -> None:
    """What the page shows is waited for as long as this machine needs."""
    expect.set_options(timeout=slowness.scaled(10) * 1000)


@pytest.fixture
async def service(services: ServiceFactory) -> Service:
    return await services.start(
        http_address="127.0.0.1:0", retry_delays_seconds=(1.0, 1.0, 1.0), default_customer_id=CUSTOMER
    )


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

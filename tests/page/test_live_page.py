"""What the acceptance walk does not show beside a real service: another origin, Chinese, a webhook's numbers."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from playwright.async_api import Browser, Locator, Page, Route, expect
from webhook.v1 import event_pb2, service_pb2, webhook_pb2

from tests.e2e.test_docs import blocks
from tests.support import slowness
from tests.support.receiver import Receiver, answers
from tests.support.service import CUSTOMER, SECRET_KEY, Service, ServiceFactory
from webhook_grpc.domain.access_tokens import AccessClaims, signed
from webhook_grpc.domain.sealing import Sealer

CLOCK_BEHIND = timedelta(seconds=1)
# Notes the tokens that tabs hand over.
LISTENS = """
globalThis.heard = [];
globalThis.ear = new BroadcastChannel("webhook-grpc token");
ear.onmessage = ({ data }) => data.token && heard.push(data.token);
"""

pytestmark = [pytest.mark.slow(3), pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def shared_settings() -> Mapping[str, Any]:
    return {
        "http_address": "127.0.0.1:0",
        "retry_delays_seconds": (1.0, 1.0, 1.0),
        "default_customer_id": CUSTOMER,
    }


def address(service: Service, query: str = "") -> str:
    return f"http://127.0.0.1:{service.app.http_port}/{query}"


def rows(page: Page) -> Locator:
    return page.locator("webhook-deliveries .row")


async def test_in_chinese_no_word_is_missing(browser: Browser, service: Service, receiver: Receiver) -> None:
    await service.create_webhook(receiver.on("/flaky", answers(503, 200)))
    context = await browser.new_context(locale="zh-CN")
    page = await context.new_page()
    await page.goto(address(service))
    await expect(page.locator("wg-app .live")).to_contain_text("实时")
    await service.publish()
    await expect(rows(page).first).to_contain_text("成功")
    assert await page.evaluate("document.documentElement.lang") == "zh"
    heads = await page.locator("webhook-deliveries .head > *").all_inner_texts()
    assert heads == ["状态", "尝试记录", "事件类型", "Webhook", "响应", "耗时", "下一步", "客户"]
    await context.close()


async def test_the_list_can_be_embedded_by_a_page_of_a_named_origin(
    page: Page, services: ServiceFactory, receiver: Receiver
) -> None:
    """The product's page asks its own backend for access tokens of the customer; the list shows that customer only.

    The first one ends soon: the list gets another one, and goes on where it was. The backend's clock is behind, so at
    first it gives out the one that has ended.
    """
    host = await Host.start()
    tokens = [{"name": "platform", "sha256": hashlib.sha256(b"wk_platform").hexdigest()}]
    service = await services.start(
        http_address="127.0.0.1:0", http_allow_origins=host.origin, tokens=json.dumps(tokens)
    )
    platform = (("authorization", "Bearer wk_platform"),)
    host.service_url = address(service).rstrip("/")

    async def next_token() -> str:
        request = service_pb2.CreateAccessTokenRequest(customer_id=CUSTOMER)
        return (await service.stub.CreateAccessToken(request, metadata=platform)).bearer_token

    host.next_token = next_token
    for customer_id in (CUSTOMER, CUSTOMER + 1):
        webhook = webhook_pb2.Webhook(customer_id=customer_id, name="mine", url=receiver.url(), events=["*"])
        await service.stub.CreateWebhook(service_pb2.CreateWebhookRequest(webhook=webhook), metadata=platform)
        event = event_pb2.Event(customer_id=customer_id, event_type="job.completed", data_json="{}")
        await service.stub.PublishEvent(service_pb2.PublishEventRequest(event=event), metadata=platform)
    await receiver.wait_for(2)
    host.begin_with(datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=slowness.lengthened(4)))
    await page.goto(host.origin)
    await expect(rows(page)).to_have_count(1)
    await expect(rows(page).first).to_contain_text("Succeeded")
    async with slowness.timeout(60):
        await host.renewed.wait()
    event = event_pb2.Event(customer_id=CUSTOMER, event_type="job.failed", data_json="{}")
    await service.stub.PublishEvent(service_pb2.PublishEventRequest(event=event), metadata=platform)
    await expect(rows(page)).to_have_count(2)
    await expect(rows(page).nth(0)).to_contain_text("job.failed")
    await expect(rows(page).nth(1)).to_contain_text("job.completed")
    await host.stop()


async def test_with_tokens_of_its_own_the_page_takes_none_of_another_tab_and_hands_none_over(
    page: Page, services: ServiceFactory
) -> None:
    """The document's page of a product, for a reader whose other tab is signed in as an operator, of all customers."""
    tokens = [
        {"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), **fields}
        for name, fields in (("wk_operator", {}), ("wk_reader", {"customer_id": CUSTOMER, "permissions": ["read"]}))
    ]
    service = await services.start(http_address="127.0.0.1:0", tokens=json.dumps(tokens))
    await page.goto(address(service))
    await page.locator("wg-app dialog[open]").get_by_label("Token").fill("wk_operator")
    await page.locator("wg-app dialog[open]").get_by_role("button", name="Sign in").click()
    await expect(page.locator("wg-app .live")).to_contain_text("Live")

    product, may_answer, sent = await page.context.new_page(), asyncio.Event(), set[str]()

    async def document(route: Route) -> None:
        await route.fulfill(content_type="text/html", body="<!doctype html>" + blocks("docs/page.md", "app"))

    async def token(route: Route) -> None:
        await may_answer.wait()
        await route.fulfill(body="wk_reader")

    async def watched(route: Route) -> None:
        sent.add(route.request.headers.get("authorization", ""))
        await route.continue_()

    await product.add_init_script(LISTENS)
    await product.route(address(service), document)
    await product.route(address(service, "my/token"), token)
    await product.route(address(service, "api/**"), watched)
    await product.goto(address(service))
    await product.wait_for_function("heard.includes('wk_operator')")  # which the other tab has handed to all
    may_answer.set()
    await expect(product.locator("wg-app .live")).to_contain_text("Live")
    assert sent == {"", "Bearer wk_reader"}
    await expect(product.get_by_label("Customer", exact=True)).to_be_hidden()  # it is of one customer

    await page.goto("about:blank")
    later = await page.context.new_page()
    await later.add_init_script(LISTENS)
    await later.goto(address(service))
    await expect(later.locator("wg-app dialog[open]")).to_be_visible()  # no tab had one for it
    assert await later.evaluate("heard") == []


# --- parts -----------------------------------------------------------------------------------------------------------


class Host:
    """A product's own page on another origin, which embeds the list."""

    def __init__(self) -> None:
        self.service_url = ""
        self.origin = ""
        self.next_token: Callable[[], Awaitable[str]] | None = None
        self.renewed = asyncio.Event()  # set when a token after the first was given
        self._runner = web.AppRunner(self._app())

    @classmethod
    async def start(cls) -> Host:
        host = cls()
        await host._runner.setup()
        site = web.TCPSite(host._runner, "127.0.0.1", 0)
        await site.start()
        host.origin = f"http://127.0.0.1:{host._runner.addresses[0][1]}"
        return host

    def begin_with(self, end: datetime) -> None:
        """Gives a token until this moment that ends then: CreateAccessToken makes none that ends so soon."""
        claims = AccessClaims("platform", CUSTOMER, frozenset({"read"}), end)
        self._first, self._first_ends_at = signed(claims, Sealer([SECRET_KEY])), end

    async def stop(self) -> None:
        await self._runner.cleanup()

    def _app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/", self._page)
        app.router.add_get("/my/token", self._token)
        return app

    async def _token(self, _: web.Request) -> web.Response:
        assert self.next_token is not None
        if datetime.now(UTC) < self._first_ends_at + CLOCK_BEHIND:
            return web.Response(text=self._first)
        if not self.renewed.is_set():
            self._second = await self.next_token()
            self.renewed.set()
        return web.Response(text=self._second)

    async def _page(self, _: web.Request) -> web.Response:
        snippet = blocks("docs/page.md", "list").replace("https://webhooks.example.com", self.service_url)
        text = f"<!doctype html><title>product</title><body>{snippet}</body>"
        return web.Response(text=text, content_type="text/html")


async def test_a_webhook_shows_its_numbers_and_charts_and_sends_a_test(
    page: Page, service: Service, receiver: Receiver
) -> None:
    webhook = await service.create_webhook(receiver.url(), name="ci-bot")
    async with service.watching() as watch:
        await service.publish_many(3)
        await watch.until_ended(3)
    await page.goto(address(service, "webhooks"))
    await page.locator("wg-app").get_by_role("link", name="ci-bot").click()
    detail = page.locator("wg-app main.detail")
    await expect(detail).to_contain_text("100.0 % of 3 attempts")
    await expect(detail.locator("svg.chart .good")).not_to_have_count(0)
    await detail.get_by_role("button", name="Send test").click()
    await expect(detail.get_by_role("status").first).to_contain_text("200 in")
    await detail.get_by_role("button", name="Pause").click()
    confirm = page.locator("wg-app dialog[open]")
    await expect(confirm).to_contain_text("New deliveries are kept as pending.")
    await confirm.get_by_role("button", name="Pause").click()
    await expect(detail.get_by_role("button", name="Resume")).to_be_visible()
    assert (await service.webhook(webhook.webhook_id)).status == webhook_pb2.WEBHOOK_STATUS_PAUSED

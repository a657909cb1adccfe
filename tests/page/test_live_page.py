"""The live page in a real browser: what a person sees of deliveries, and what others wrote stays text."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from aiohttp import web
from playwright.async_api import Browser, Locator, Page, expect
from webhook.v1 import event_pb2, service_pb2, webhook_pb2

from tests.support import slowness
from tests.support.receiver import Receiver, answer, answers
from tests.support.service import CUSTOMER, Service, ServiceFactory

pytestmark = [pytest.mark.slow(3), pytest.mark.asyncio(loop_scope="module")]
HOSTILE = "<img src=x onerror=alert(1)></script>\u202egnp.exe"
TOKEN = "wk_embedded"
SEEN_MILLISECONDS = 1000  # from a delivery to its row, on the reference


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


async def is_live(page: Page) -> None:
    await expect(page.locator("wg-app .live")).to_contain_text("Live")


async def test_a_delivery_is_a_row_within_a_second(page: Page, service: Service, receiver: Receiver) -> None:
    await service.create_webhook(receiver.url(), name="ci-bot")
    await page.goto(address(service))
    await is_live(page)
    await service.publish()
    await receiver.wait_for(1)
    first = rows(page).first
    await expect(first).to_contain_text("Succeeded", timeout=slowness.scaled(SEEN_MILLISECONDS))
    await expect(first).to_contain_text("job.completed")
    await expect(first).to_contain_text("ci-bot #")
    await expect(first).to_contain_text("200")


async def test_a_retry_changes_the_same_row(page: Page, service: Service, receiver: Receiver) -> None:
    await service.create_webhook(receiver.on("/flaky", answers(503, 200)))
    await page.goto(address(service))
    await is_live(page)
    await service.publish()
    await expect(rows(page)).to_have_count(1)
    await expect(rows(page).first).to_contain_text("Pending")
    await expect(rows(page).first).to_contain_text("503")
    await expect(rows(page).first).to_contain_text("Succeeded")
    await expect(rows(page)).to_have_count(1)
    await expect(rows(page).first.locator(".trail svg")).to_have_count(2)


async def test_a_filter_stands_in_the_address_and_survives_a_reload(
    page: Page, service: Service, receiver: Receiver
) -> None:
    await service.create_webhook(receiver.on("/bad", answer(500)), events=["job.failed"])
    await service.create_webhook(receiver.url(), events=["job.completed"])
    await page.goto(address(service))
    await is_live(page)
    await service.publish(event_type="job.failed")
    await service.publish(event_type="job.completed")
    await expect(rows(page)).to_have_count(2)
    await page.get_by_label("Status", exact=True).select_option("succeeded")
    await expect(rows(page)).to_have_count(1)
    assert page.url.endswith("/?statuses=succeeded")
    await page.reload()
    await expect(rows(page)).to_have_count(1)
    await expect(rows(page).first).to_contain_text("job.completed")
    await page.go_back()
    await expect(rows(page)).to_have_count(2)


async def test_nothing_moves_under_the_pointer(page: Page, service: Service, receiver: Receiver) -> None:
    await service.create_webhook(receiver.url())
    await page.goto(address(service))
    await is_live(page)
    await service.publish(event_type="job.failed")
    await expect(rows(page)).to_have_count(1)
    await rows(page).first.hover()
    await service.publish_many(30)
    pill = page.locator("webhook-deliveries .pill")
    await expect(pill).to_contain_text("30 new deliveries")
    await expect(rows(page)).to_have_count(1)
    await expect(rows(page).first).to_contain_text("job.failed")
    await pill.click()
    await expect(page.locator("webhook-deliveries .grid")).to_have_attribute("aria-rowcount", "32")  # and the heads


async def test_a_stream_that_is_cut_is_resumed_and_nothing_is_missed(
    page: Page, service: Service, receiver: Receiver
) -> None:
    await service.create_webhook(receiver.url())
    async with cuttable(service) as (url, cut):
        await page.goto(url)
        await is_live(page)
        await service.publish_many(3)
        await expect(rows(page)).to_have_count(3)
        cut(away=True)
        await expect(page.locator("wg-app .live")).to_contain_text("Stream interrupted")
        await service.publish_many(4)
        await receiver.wait_for(7)
        cut(away=False)
        await expect(page.locator("webhook-deliveries .bar")).to_contain_text("Nothing was missed")
        await expect(rows(page)).to_have_count(7)


async def test_what_others_wrote_is_text(page: Page, service: Service, receiver: Receiver) -> None:
    await service.create_webhook(receiver.on("/x", answer(500, HOSTILE)), name=HOSTILE)
    requests = list[str]()
    page.on("request", lambda request: requests.append(request.url))
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    await page.goto(address(service, f"?event_types={HOSTILE}"))
    await page.goto(address(service))
    await is_live(page)
    await service.publish()
    await expect(rows(page).first).to_contain_text("<img src=x onerror=alert(1)>")
    await expect(rows(page).first).to_contain_text("\\u202e")
    assert {url.split("/")[2] for url in requests} == {f"127.0.0.1:{service.app.http_port}"}
    assert await page.locator("webhook-deliveries img").count() == 0


async def test_a_token_is_asked_for_and_kept_in_memory_only(
    browser: Browser, page: Page, services: ServiceFactory, receiver: Receiver
) -> None:
    entry = {"name": "page", "sha256": hashlib.sha256(b"wk_secret").hexdigest(), "customer_id": CUSTOMER}
    service = await services.start(http_address="127.0.0.1:0", tokens=json.dumps([entry]))
    requests = list[str]()
    page.on("request", lambda request: requests.append(request.url))
    await page.goto(address(service))
    dialog = page.locator("wg-app dialog")
    await expect(dialog).to_be_visible()
    await expect(rows(page)).to_have_count(0)
    await dialog.get_by_label("Token").fill("wk_wrong")
    await dialog.get_by_role("button").click()
    await expect(dialog).to_contain_text("The token was refused")
    await dialog.get_by_label("Token").fill("wk_secret")
    await dialog.get_by_role("button").click()
    await is_live(page)
    assert not any("wk_" in url for url in requests)
    assert "wk_secret" not in await page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])")
    other = await page.context.new_page()
    await other.goto(address(service))
    await is_live(other)
    del browser, receiver


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
    """The product's page asks its own backend for a token of the customer; the list shows that customer only."""
    host = await Host.start()
    tokens = [
        {"name": "embedded", "sha256": hashlib.sha256(TOKEN.encode()).hexdigest(), "customer_id": CUSTOMER},
        {"name": "platform", "sha256": hashlib.sha256(b"wk_platform").hexdigest()},
    ]
    service = await services.start(
        http_address="127.0.0.1:0", http_allow_origins=host.origin, tokens=json.dumps(tokens)
    )
    platform = (("authorization", "Bearer wk_platform"),)
    host.service_url = address(service).rstrip("/")
    for customer_id in (CUSTOMER, CUSTOMER + 1):
        webhook = webhook_pb2.Webhook(customer_id=customer_id, name="mine", url=receiver.url(), events=["*"])
        await service.stub.CreateWebhook(service_pb2.CreateWebhookRequest(webhook=webhook), metadata=platform)
        event = event_pb2.Event(customer_id=customer_id, event_type="job.completed", data_json="{}")
        await service.stub.PublishEvent(service_pb2.PublishEventRequest(event=event), metadata=platform)
    await receiver.wait_for(2)
    await page.goto(host.origin)
    await expect(rows(page)).to_have_count(1)
    await expect(rows(page).first).to_contain_text("Succeeded")
    await host.stop()


# --- parts -----------------------------------------------------------------------------------------------------------


class Host:
    """A product's own page on another origin, which embeds the list."""

    def __init__(self) -> None:
        self.service_url = ""
        self.origin = ""
        self._runner = web.AppRunner(self._app())

    @classmethod
    async def start(cls) -> Host:
        host = cls()
        await host._runner.setup()
        site = web.TCPSite(host._runner, "127.0.0.1", 0)
        await site.start()
        host.origin = f"http://127.0.0.1:{host._runner.addresses[0][1]}"
        return host

    async def stop(self) -> None:
        await self._runner.cleanup()

    def _app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/", self._page)
        app.router.add_get("/token", self._token)
        return app

    async def _token(self, _: web.Request) -> web.Response:
        return web.Response(text=TOKEN)

    async def _page(self, _: web.Request) -> web.Response:
        text = f"""<!doctype html><title>product</title><script type="module">
            import "{self.service_url}/ui/webhook-deliveries.js";
            const list = document.createElement("webhook-deliveries");
            list.base = "{self.service_url}";
            list.getToken = () => fetch("/token").then((answer) => answer.text());
            document.body.append(list);
        </script><body></body>"""
        return web.Response(text=text, content_type="text/html")


class cuttable:  # noqa: N801 - used like a function
    """A way to the service that can be cut: connections end, and new ones are refused."""

    def __init__(self, service: Service) -> None:
        self._port = service.app.http_port
        self._away = False
        self._writers = set[asyncio.StreamWriter]()

    async def __aenter__(self) -> tuple[str, Callable[..., None]]:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/", self.cut

    async def __aexit__(self, *_: object) -> None:
        self.cut(away=True)
        self._server.close()

    def cut(self, *, away: bool) -> None:
        self._away = away
        if away:
            for writer in self._writers:
                writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._away:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers |= {writer, back}
        await asyncio.gather(copy(reader, back), copy(there, writer))
        self._writers -= {writer, back}


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Passes on what comes until the end."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


# --- why did mine not arrive -----------------------------------------------------------------------------------------


async def test_a_delivery_explains_itself_shows_its_attempts_and_is_restarted_once(
    page: Page, service: Service, receiver: Receiver
) -> None:
    data = '{"price":1.0,"id":12345678901234567890,"text":"<b>x</b>"}'
    await service.create_webhook(receiver.on("/bad", answers(500, 500, 500, 500, 200)), name="billing-eu")
    async with service.watching() as watch:
        await service.publish(data)
        [delivery] = await watch.until_ended()
    await page.goto(address(service))
    await rows(page).first.click()
    assert page.url.endswith(f"/deliveries/{delivery.delivery_id}?customer_id={CUSTOMER}")
    detail = page.locator("wg-app main.detail")
    await expect(detail.locator(".story")).to_have_text("Failed: 4 attempts, the last answered 500. Retry restarts it.")
    await expect(detail.locator(".attempts li > button")).to_have_count(4)
    await expect(detail.locator(".attempts")).to_contain_text("The receiver answered with an error status.")
    await expect(detail.locator(".attempts")).to_contain_text("X-Webhook-Signature")
    await expect(detail.locator("pre").last).to_contain_text('"price": 1.0,')
    await expect(detail.locator("pre").last).to_contain_text('"id": 12345678901234567890,')
    await detail.get_by_role("button", name="Raw").click()
    await expect(detail.locator("pre").last).to_have_text(data)
    await detail.get_by_role("button", name="Retry").dblclick()
    await expect(detail.locator(".attempts li > button")).to_have_count(5)
    await expect(detail.locator(".attempts li > button").first).to_contain_text("answered 200 · Manual")
    await expect(detail.locator(".story")).to_contain_text("Delivered")
    assert len(receiver.requests) == 5, "a double click acts once"


async def test_an_event_says_for_each_webhook_where_it_stands_in_both_languages(
    browser: Browser, page: Page, service: Service, receiver: Receiver
) -> None:
    paused = await service.create_webhook(receiver.url(), name="paused-one")
    await service.create_webhook(receiver.url(), name="audit", events=["quota.*"])
    [paused, _] = (await service.stub.ListWebhooks(service_pb2.ListWebhooksRequest(customer_id=CUSTOMER))).webhooks[
        ::-1
    ]
    await service.pause_webhook(paused.webhook_id)
    published = await service.publish()
    await page.goto(address(service, f"events/{published.event_id}?customer_id={CUSTOMER}"))
    why = page.locator("wg-app .why li")
    await expect(why.nth(0)).to_contain_text("Paused: not tried yet. Sent once resumed.")
    await expect(why.nth(1)).to_contain_text("It subscribes to quota.*, not to job.completed.")
    context = await browser.new_context(locale="zh-CN")
    chinese = await context.new_page()
    await chinese.goto(address(service, f"events/{published.event_id}?customer_id={CUSTOMER}"))
    await expect(chinese.locator("wg-app .why li").nth(0)).to_contain_text("已暂停：还没有尝试过；恢复后继续投递。")
    await context.close()


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


async def test_a_caller_who_may_only_read_sees_why_the_acts_are_disabled(
    page: Page, services: ServiceFactory, receiver: Receiver
) -> None:
    entry = {
        "name": "page",
        "sha256": hashlib.sha256(b"wk_x").hexdigest(),
        "customer_id": CUSTOMER,
        "permissions": ["read"],
    }
    manager = {"name": "m", "sha256": hashlib.sha256(b"wk_m").hexdigest(), "customer_id": CUSTOMER}
    service = await services.start(http_address="127.0.0.1:0", tokens=json.dumps([entry, manager]))
    request = service_pb2.CreateWebhookRequest(
        webhook=webhook_pb2.Webhook(customer_id=CUSTOMER, name="mine", url=receiver.url(), events=["*"])
    )
    await service.stub.CreateWebhook(request, metadata=(("authorization", "Bearer wk_m"),))
    await page.goto(address(service, "webhooks"))
    await page.locator("wg-app dialog").get_by_label("Token").fill("wk_x")
    await page.locator("wg-app dialog").get_by_role("button").click()
    await page.locator("wg-app").get_by_role("link", name="mine").click()
    pause = page.locator("wg-app main.detail").get_by_role("button", name="Pause")
    await expect(pause).to_be_disabled()
    await expect(pause).to_have_attribute("title", "Needs permission manage")

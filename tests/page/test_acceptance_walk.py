"""The acceptance walk: one person, one browser, one service from the first sign-in on, in fifteen steps."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, CDPSession, Locator, Page, Request, expect
from webhook.v1 import webhook_pb2

from tests.page.accessibility import wrong
from tests.page.installation import OPERATOR, READER, Installation
from tests.page.keyboard import at_once, has_keys
from tests.support import slowness
from tests.support.authority import Authority
from tests.support.distribution import need
from tests.support.full import in_full
from tests.support.receiver import Gate, Receiver, answer, answers
from tests.support.service import CUSTOMER, ServiceFactory

pytestmark = [pytest.mark.slow(60), pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="module")]
HANGS_SECONDS = 0.5  # of CPU, to show the largest data: that takes 0.04; with a node for each part it takes seconds
HOSTILE = "<img src=x onerror=alert(1)></script>\u202egnp.exe"
SHOWN = HOSTILE.replace("\u202e", "\\u202e")
MANY, NODES_MAX = 500, 60
LEVELS = 63  # and the object around them
LONG_BYTES = 250 * 1024
EVERYTHING = """() => {
  const texts = (root) => [...root.querySelectorAll("*")].flatMap((node) => [
    node.outerHTML, node.value ?? "", ...(node.shadowRoot ? texts(node.shadowRoot) : [])]);
  return JSON.stringify([texts(document), localStorage, sessionStorage, location.href]);
}"""
PRODUCT = """customElements.whenDefined("wg-app").then(() => {
  document.querySelector("wg-app").getToken = () => nextToken();
})"""
DATA = '{"price":1.0,"id":12345678901234567890,"price":2}'


@pytest.fixture(scope="module")
def chromium() -> str:
    """The browser that people have, whole: other tests of the page do without what only a window needs."""
    return need("chromium")


@pytest_asyncio.fixture(loop_scope="module")
async def installation(
    request: pytest.FixtureRequest, services: ServiceFactory, tmp_path: Path
) -> AsyncGenerator[Installation]:
    """A process of the service with tokens, with TLS if the test says so."""
    authority = Authority(tmp_path / "authority") if request.param == "https" else None
    installation = Installation(services.database_url, tmp_path / "log", authority)
    await installation.start()
    yield installation
    await installation.end()


async def devtools(session: CDPSession, method: str, parameters: dict[str, str]) -> dict[str, Any]:
    """Calls a method of Chrome's protocol."""
    send = cast("Callable[[str, dict[str, str]], Awaitable[Any]]", session.send)  # pyright: ignore[reportUnknownMemberType] - its types are bare
    return await send(method, parameters)


class Walk:
    """The person's browser and token, and what the browser has requested."""

    def __init__(
        self, context: BrowserContext, page: Page, installation: Installation, receiver: Receiver, token: str
    ) -> None:
        self.context, self.page, self.installation, self.receiver = context, page, installation, receiver
        self.token = token
        self.addresses = list[str]()
        self._session: CDPSession | None = None
        context.on("request", self._asked)

    def _asked(self, request: Request) -> None:
        self.addresses.append(request.url)

    def rows(self, page: Page | None = None) -> Locator:
        """The rows of the live list."""
        return (page or self.page).locator("webhook-deliveries .row")

    def first(self, page: Page | None = None) -> Locator:
        """The row on top, wherever it stands in the document."""
        return (page or self.page).locator('webhook-deliveries .row[aria-rowindex="2"]')

    def data(self, page: Page | None = None) -> Locator:
        """The data of the event that is shown."""
        page = page or self.page
        return page.locator("wg-app section", has=page.get_by_role("heading", name="Data")).locator("pre")

    async def open(self, path: str, page: Page | None = None) -> None:
        """Opens an address as somebody does who was sent it."""
        await (page or self.page).goto(self.installation.url + path)

    async def sign_in(self, token: str = "", page: Page | None = None) -> None:
        """Pastes a token into the form: the person's, unless another one is named."""
        dialog = (page or self.page).locator("wg-app dialog[open]")
        await dialog.get_by_label("Token").fill(token or self.token)
        await dialog.get_by_role("button", name="Sign in").click()
        await (page or self.page).mouse.move(2, 2)  # a pointer that rests on the list holds it

    def asked(self) -> Locator:
        """The dialog that is open."""
        return self.page.locator("wg-app dialog[open]")

    async def is_live(self, page: Page | None = None) -> None:
        """Returns once the stream is open."""
        await expect((page or self.page).locator("wg-app .live")).to_contain_text("Live")

    async def cpu_seconds(self) -> float:
        """Returns the processor time that the page's scripts, layouts and paints have taken."""
        if self._session is None:
            self._session = await self.context.new_cdp_session(self.page)
            await devtools(self._session, "Performance.enable", {"timeDomain": "threadTicks"})
        metrics = (await devtools(self._session, "Performance.getMetrics", {}))["metrics"]
        return next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")


@pytest.mark.slow(8)
@pytest.mark.parametrize("installation", ["https"], indirect=True)
async def test_the_walk_begins_over_tls_and_goes_on_with_the_next_token(
    browser: Browser, installation: Installation, receiver: Receiver
) -> None:
    """The page, its files and its stream, with short-lived tokens; `make test-long` walks all of it."""
    context = await browser.new_context(locale="en-GB", ignore_https_errors=True)
    token = await installation.access_token()
    walk = Walk(context, await context.new_page(), installation, receiver, token)
    await step_1_a_form_and_nothing_else_until_a_token_is_pasted(walk)
    await step_2_an_event_is_a_row_on_top(walk)
    assert {address.partition("://")[0] for address in walk.addresses} == {"https"}
    await context.close()
    await a_token_that_ends_is_followed_by_the_next_one_in_the_same_place(browser, installation)


@pytest.mark.parametrize("installation", in_full(["http", "https"], short=["http"]), indirect=True)
async def test_the_walk(
    browser: Browser, installation: Installation, receiver: Receiver, services: ServiceFactory
) -> None:
    """Over TLS with a short-lived token of the customer, else with one of WEBHOOK_TOKENS."""
    is_secure = installation.url.startswith("https")
    context = await browser.new_context(
        locale="en-GB", viewport={"width": 1280, "height": 720}, ignore_https_errors=True
    )
    page = await context.new_page()
    problems = list[str]()
    context.on("weberror", lambda error: problems.append(str(error.error)))
    page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    page.on("dialog", lambda dialog: problems.append(f"a script ran: {dialog.message}"))
    walk = Walk(context, page, installation, receiver, await installation.access_token() if is_secure else OPERATOR)
    await step_1_a_form_and_nothing_else_until_a_token_is_pasted(walk)
    await step_2_an_event_is_a_row_on_top(walk)
    await step_3_a_failure_counts_down_to_the_next_attempt_in_the_same_row(walk)
    await step_4_a_filter_is_an_address(walk)
    await step_5_nothing_moves_under_the_pointer(walk)
    await step_6_a_delivery_in_a_new_tab_without_a_second_sign_in(walk)
    await step_7_why_in_a_sentence_in_both_languages(walk)
    await step_8_retry_pressed_twice_is_one_attempt(walk)
    if is_secure:
        await a_token_that_ends_is_followed_by_the_next_one_in_the_same_place(browser, installation)
    await step_9_a_server_that_is_killed_and_started_misses_nothing(walk, services)
    await step_10_what_others_wrote_is_text(walk)
    missed = await step_11_a_disabled_webhook_is_named_everywhere_and_gets_what_it_missed(walk)
    await step_12_a_count_is_of_what_is_filled_in_and_a_replay_can_be_cancelled(walk, missed)
    await step_13_a_secret_is_shown_once_and_a_reader_sees_why_not(walk, browser)
    await step_14_many_changes_at_once_are_rows_of_few_nodes(walk)
    await step_15_by_keyboard_alone_at_320_pixels(walk, browser)
    await context.close()
    assert [said for said in problems if "Failed to load resource" not in said] == []


async def a_token_that_ends_is_followed_by_the_next_one_in_the_same_place(
    browser: Browser, installation: Installation
) -> None:
    """A browser whose page gets its tokens from the product: the first one ends while somebody looks at it."""
    context = await browser.new_context(locale="en-GB", ignore_https_errors=True)
    page, next_one_given = await context.new_page(), asyncio.Event()
    given = list[str]()

    async def next_token() -> str:
        given.append(await installation.access_token() if given else installation.ending_token())
        if len(given) > 1:
            next_one_given.set()
        return given[-1]

    await page.expose_function("nextToken", next_token)  # pyright: ignore[reportUnknownMemberType] - its types are bare
    await page.add_init_script(PRODUCT)
    await page.goto(f"{installation.url}/?event_types=job.completed")
    rows = page.locator("webhook-deliveries .row")
    await rows.first.focus()
    held = await rows.first.locator("a").get_attribute("href")
    async with slowness.timeout(60):
        await next_one_given.wait()
    await installation.publish("job.completed")
    await expect(page.locator("webhook-deliveries .pill")).to_contain_text("1 new")  # nothing moves below who reads
    await expect(page.locator(f'webhook-deliveries .row:focus a[href="{held}"]')).to_have_count(1)
    await expect(page).to_have_url(re.compile(r"/\?event_types=job.completed$"))
    await expect(page.locator("wg-app dialog")).to_have_count(0)
    assert len(given) == len(set(given)) == 2
    await context.close()


async def step_1_a_form_and_nothing_else_until_a_token_is_pasted(walk: Walk) -> None:
    """Nothing of the API is in the document before; afterwards the token is in no URL, storage or log."""
    await walk.open("/")
    await expect(walk.page.locator("wg-app dialog[open]")).to_be_visible()
    await expect(walk.page.locator("wg-app main")).to_have_count(0)
    await expect(walk.page.locator("webhook-deliveries")).to_have_count(0)
    await walk.sign_in("wk_wrong")
    await expect(walk.asked()).to_contain_text("The token was refused")
    await walk.sign_in()
    await walk.is_live()
    assert not any(walk.token in address for address in walk.addresses)
    assert walk.token not in await walk.page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])")
    assert walk.token.encode() not in walk.installation.log.read_bytes()


async def step_2_an_event_is_a_row_on_top(walk: Walk) -> None:
    await walk.installation.create(walk.receiver.url(), name="ci-bot", events=["job.completed"])
    await walk.installation.publish("job.completed")
    await walk.receiver.wait_for(1)
    first = walk.first()
    await expect(first).to_contain_text("Succeeded")  # how soon: `make bench-page`
    await expect(first).to_contain_text("200")
    await expect(first.locator(".trail svg")).to_have_count(1)


async def step_3_a_failure_counts_down_to_the_next_attempt_in_the_same_row(walk: Walk) -> None:
    url = walk.receiver.on("/flaky", answers(503, 200))
    delays = [slowness.scaled(8)]  # a page on a busy machine shows the failure seconds after it
    await walk.installation.create(url, delays=delays, name="pager", events=["alert.triggered"])
    await walk.installation.publish("alert.triggered")
    first = walk.first()
    await expect(first).to_contain_text("Pending")
    await expect(first).to_contain_text("503")
    await expect(first.locator("time")).to_contain_text("in ")
    delivery_id = await first.locator("a").get_attribute("href")
    await expect(first).to_contain_text("Succeeded")
    assert await first.locator("a").get_attribute("href") == delivery_id
    await expect(first.locator(".trail svg")).to_have_count(2)
    await expect(walk.rows()).to_have_count(2)


async def step_4_a_filter_is_an_address(walk: Walk) -> None:
    url = walk.receiver.on("/bad", answer(500, "upstream unavailable"))
    await walk.installation.create(url, name="billing-eu", events=["job.failed"])
    await walk.installation.publish("job.failed", DATA)
    await expect(walk.rows()).to_have_count(3)
    await walk.page.locator("wg-app").get_by_label("Status", exact=True).select_option("failed")
    await expect(walk.rows()).to_have_count(1)
    await expect(walk.page).to_have_url(re.compile(r"/\?statuses=failed$"))
    await walk.page.reload()
    await walk.sign_in()
    await expect(walk.rows()).to_have_count(1)
    await expect(walk.first()).to_contain_text("billing-eu")
    await walk.page.get_by_role("button", name="Clear filters").click()
    await expect(walk.rows()).to_have_count(3)
    await walk.page.go_back()
    await expect(walk.rows()).to_have_count(1)
    await walk.page.go_forward()
    await expect(walk.rows()).to_have_count(3)


async def step_5_nothing_moves_under_the_pointer(walk: Walk) -> None:
    await walk.is_live()
    first = walk.first()
    before = await first.locator("a").get_attribute("href")
    await first.hover()
    for _ in range(30):
        await walk.installation.publish("job.completed")
    await expect(walk.page.locator("webhook-deliveries .pill")).to_contain_text("30 new deliveries")
    assert await walk.first().locator("a").get_attribute("href") == before
    await walk.page.mouse.move(2, 2)
    await expect(walk.page.locator("webhook-deliveries [role=grid]")).to_have_attribute("aria-rowcount", "34")


async def step_6_a_delivery_in_a_new_tab_without_a_second_sign_in(walk: Walk) -> None:
    """Its attempts are listed newest first, what is secret is not shown, and the data is to the byte."""
    await walk.open("/?statuses=failed")
    await walk.sign_in()
    await expect(walk.rows()).to_have_count(1)
    await walk.first().focus()
    await has_keys(walk.page)
    async with walk.context.expect_page() as opened:
        await walk.page.keyboard.press("o")
    tab = await opened.value
    attempts = tab.locator("wg-app .attempts li > button")
    await expect(attempts).to_have_count(2)
    await expect(attempts.first).to_contain_text("2")
    await expect(tab.locator("wg-app .attempts")).to_contain_text("upstream unavailable")
    await tab.get_by_role("button", name="Raw").click()
    await expect(walk.data(tab)).to_have_text(DATA)
    await tab.close()


async def step_7_why_in_a_sentence_in_both_languages(walk: Walk) -> None:
    url = walk.receiver.on("/broken", answer(500))
    broken = await walk.installation.create(url, delays=[1] * 6, name="broken", events=["quota.exceeded"])
    paused = await walk.installation.create(walk.receiver.url(), name="paused-one", events=["quota.*"])
    await walk.installation.pause(paused.webhook_id)
    event_id = await walk.installation.publish("quota.exceeded")
    await walk.open(f"/events/{event_id}?customer_id={CUSTOMER}")
    await walk.sign_in()
    why = walk.page.locator("wg-app .why")
    await expect(why).to_contain_text("Paused: not tried yet. Sent once resumed.")
    await expect(why).to_contain_text("It subscribes to job.failed, not to quota.exceeded.")
    await expect(why).to_contain_text(
        "The receiver failed too often: 5 attempts, the last answered 500. Nothing is sent"
    )
    await walk.page.get_by_label("Language").select_option("zh")
    await expect(why).to_contain_text("已暂停：还没有尝试过；恢复后继续投递。")
    await expect(why).to_contain_text("该 Webhook 订阅的是 job.failed，不包含 quota.exceeded。")
    await expect(why).to_contain_text("接收方连续失败，已熔断：已尝试 5 次，最近一次返回 500")
    await walk.page.get_by_label("Language").select_option("en")
    assert broken.webhook_id != paused.webhook_id


async def step_8_retry_pressed_twice_is_one_attempt(walk: Walk) -> None:
    [failed] = [one for one in await walk.installation.deliveries() if one.event_type == "job.failed"]
    await walk.open(f"/deliveries/{failed.delivery_id}?customer_id={CUSTOMER}")
    await walk.sign_in()
    attempts = walk.page.locator("wg-app .attempts li > button")
    await expect(attempts).to_have_count(2)
    await has_keys(walk.page)
    await at_once(walk.page, "r", "r")
    await expect(attempts).to_have_count(3)
    await expect(attempts.first).to_contain_text("Manual")
    assert len(walk.receiver.at("/bad")) == 3


async def step_9_a_server_that_is_killed_and_started_misses_nothing(walk: Walk, services: ServiceFactory) -> None:
    await walk.open("/")
    await walk.sign_in()
    await walk.is_live()
    other = await services.start()
    await walk.installation.kill()
    await expect(walk.page.locator("webhook-deliveries .bar")).to_contain_text("interrupted")
    await other.publish_many(5)
    await walk.installation.start()
    await expect(walk.page.locator("webhook-deliveries .bar")).to_contain_text("Nothing was missed")
    await services.stop_one(other)
    await walk.installation.publish("job.completed")
    await same_as_the_log(walk)


async def same_as_the_log(walk: Walk) -> None:
    """Returns once the page's rows are the deliveries of the log, each with its status."""
    async with slowness.timeout(20):
        while True:
            words = ("", "pending", "succeeded", "failed", "cancelled", "expired")
            log = {one.delivery_id: words[one.status] for one in await walk.installation.deliveries()}
            shown = await walk.page.evaluate(
                """() => {
                  const list = document.querySelector("wg-app").shadowRoot.querySelector("webhook-deliveries");
                  list.release();
                  return Object.fromEntries(list.store.rows().map((row) => [row.delivery_id, row.status]));
                }"""
            )
            if shown == log:
                return
            await asyncio.sleep(0.05)  # until the stream has brought what is on its way


async def step_10_what_others_wrote_is_text(walk: Walk) -> None:
    """Nothing of it becomes markup, no request leaves for elsewhere, and the page stays quick."""
    url = walk.receiver.on("/hostile", answer(500, HOSTILE, X_Hostile="<img src=x onerror=alert(1)>"))
    hostile = await walk.installation.create(
        f"{url}?<img%20onerror>",
        name=HOSTILE,
        events=["environment.stopped"],
        headers={"X-Own": "<i>"},  # a longer value is hidden in answers
    )
    deep = "[" * LEVELS + '"</script><img src=x onerror=alert(1)>"' + "]" * LEVELS
    texts = {"deep": f'{{"deep":{deep}}}', "long": f'{{"long":"{"<b>" * (LONG_BYTES // 3)}"}}'}
    for name, text in texts.items():
        event_id = await walk.installation.publish("environment.stopped", text)
        await walk.open(f"/?webhook_ids={hostile.webhook_id}&event_id={event_id}")
        await walk.sign_in()
        await expect(walk.rows()).to_have_count(1)
        await expect(walk.first()).to_contain_text(SHOWN)
        before = await walk.cpu_seconds()
        await walk.first().click()
        await expect(walk.data()).to_contain_text(name)
        await expect(walk.page.locator("wg-app .attempts")).to_contain_text(SHOWN)
        assert await walk.cpu_seconds() - before <= slowness.scaled(HANGS_SECONDS)
    await walk.open(f"/?event_types={HOSTILE}")  # a filter is somebody's text too
    await walk.sign_in()
    await expect(walk.page.locator("webhook-deliveries .bar")).to_be_visible()
    await expect(walk.page.locator("wg-app img")).to_have_count(0)
    await walk.open(f"/webhooks/{hostile.webhook_id}?customer_id={CUSTOMER}")
    await walk.sign_in()
    await expect(walk.page.locator("wg-app main h2")).to_contain_text(SHOWN)
    assert {address.split("/")[2] for address in walk.addresses} == {walk.installation.url.split("/")[2]}


async def step_11_a_disabled_webhook_is_named_everywhere_and_gets_what_it_missed(walk: Walk) -> webhook_pb2.Webhook:
    """A 410 disables it. Resuming leads to a replay that is filled in, and sends as many as were counted."""
    page = walk.page
    url = walk.receiver.on("/gone", answer(410))
    webhook = await walk.installation.create(url, name="old-crm", events=["environment.created"])
    await walk.installation.publish("environment.created")
    banner = page.locator("wg-app .banner")
    for path in ("/webhooks", "/", f"/webhooks/{webhook.webhook_id}?customer_id={CUSTOMER}"):
        await walk.open(path)
        await walk.sign_in()
        await expect(banner).to_contain_text(f"1 webhook is disabled: old-crm #{webhook.webhook_id}")
        await expect(banner).to_contain_text("410")
    for _ in range(2):
        await walk.installation.publish("environment.created")
    walk.receiver.on("/gone", answer(200))
    sent = len(walk.receiver.at("/gone"))
    await page.get_by_role("button", name="Resume").click()
    await walk.asked().get_by_label("then replay what was missed").check()
    await walk.asked().get_by_role("button", name="Resume").click()
    await page.get_by_role("button", name="Count").click()
    await expect(page.locator("wg-app .counted")).to_have_text("Would send 3 deliveries to 1 webhook")
    await page.get_by_role("button", name="Start replay").click()
    await expect(page.locator("wg-app main h2")).to_contain_text("Completed")
    await expect(page.locator("wg-app .sum")).to_contain_text("3")
    assert len(await walk.receiver.wait_for(sent + 3, "/gone")) == sent + 3
    await expect(banner).to_have_count(0)
    return webhook


async def step_12_a_count_is_of_what_is_filled_in_and_a_replay_can_be_cancelled(
    walk: Walk, webhook: webhook_pb2.Webhook
) -> None:
    page = walk.page
    gate = Gate()
    walk.receiver.on("/gone", gate)
    await walk.open(f"/replays/new?webhook_ids={webhook.webhook_id}&statuses=succeeded&customer_id={CUSTOMER}")
    await walk.sign_in()
    start = page.get_by_role("button", name="Start replay")
    await expect(start).to_be_disabled()
    await page.get_by_role("button", name="Count").click()
    await expect(start).to_be_enabled()
    await page.get_by_role("button", name="Last hour").click()
    await expect(start).to_be_disabled()
    await page.get_by_role("button", name="Count").click()
    await expect(start).to_be_enabled()
    await start.click()
    await walk.asked().get_by_label("Type the number").fill("3")
    await walk.asked().get_by_role("button", name="Start replay").click()
    await expect(page.locator("wg-app .sum")).to_contain_text("3")
    await page.get_by_role("button", name="Cancel replay").click()
    await expect(walk.asked()).to_contain_text("that wait are cancelled")
    await walk.asked().get_by_role("button", name="Cancel replay").click()
    await expect(page.locator("wg-app main h2")).to_contain_text("Cancelled")
    gate.opened.set()


async def step_13_a_secret_is_shown_once_and_a_reader_sees_why_not(walk: Walk, browser: Browser) -> None:
    page = walk.page
    [webhook_id] = {one.webhook_id for one in await walk.installation.deliveries() if one.event_type == "job.failed"}
    path = f"/webhooks/{webhook_id}?customer_id={CUSTOMER}"
    await walk.open(path)
    await walk.sign_in()
    await page.get_by_role("button", name="Rotate secret").click()
    await walk.asked().get_by_role("button", name="Rotate secret").click()
    secret = await walk.asked().locator("input[readonly]").input_value()
    assert secret.startswith("whsec_")
    await walk.asked().get_by_label("I have stored it").check()
    await walk.asked().get_by_role("button", name="Close").click()
    await expect(walk.asked()).to_have_count(0)
    await expect(page.locator("wg-app main")).to_contain_text(secret[-4:])
    assert secret not in await page.evaluate(EVERYTHING)
    context = await browser.new_context(locale="en-GB", ignore_https_errors=True)
    reader = await context.new_page()
    await walk.open(path, reader)
    await walk.sign_in(READER, reader)
    for name in ("Send test", "Pause", "Rotate secret"):
        button = reader.get_by_role("button", name=name)
        await expect(button).to_be_disabled()
        await expect(button).to_have_attribute("title", "Needs permission manage")
    await context.close()


async def step_14_many_changes_at_once_are_rows_of_few_nodes(walk: Walk) -> None:
    """The short form: test_budgets.py counts 12,000 of them, `make bench-page` sends 1,000 a second for a minute."""
    await walk.open("/?event_types=environment.started")
    await walk.sign_in()
    await walk.is_live()
    await walk.installation.create(walk.receiver.url("/many"), name="many", events=["environment.started"])
    await walk.installation.publish_many(MANY, "environment.started")
    count = str(MANY + 1)  # and the heads
    await expect(walk.page.locator("webhook-deliveries [role=grid]")).to_have_attribute("aria-rowcount", count)
    assert await walk.rows().count() <= NODES_MAX


async def step_15_by_keyboard_alone_at_320_pixels(walk: Walk, browser: Browser) -> None:
    """The same person on a phone in the dark, who reads at 200 % and wants no motion: nothing needs a pointer."""
    context = await browser.new_context(
        locale="en-GB",
        viewport={"width": 320, "height": 640},
        device_scale_factor=2,
        color_scheme="dark",
        reduced_motion="reduce",
        ignore_https_errors=True,
    )
    page = await context.new_page()
    await walk.open("/", page)
    await page.locator("wg-app dialog[open]").wait_for()
    await page.keyboard.type(walk.token)
    await page.keyboard.press("Enter")
    await walk.is_live(page)
    await walk.installation.publish("job.completed")
    # not the row on top: webhooks of earlier steps may retry in between
    await expect(walk.rows(page).filter(has_text="job.completed")).not_to_have_count(0)
    await has_keys(page)
    await page.keyboard.press("j")
    await expect(page.locator("webhook-deliveries .row:focus")).to_have_count(1)
    await page.keyboard.press("Enter")
    await expect(page.locator("wg-app .attempts")).to_be_visible()
    await expect(page).to_have_url(re.compile("/deliveries/dlv_"))
    await page.keyboard.press("Escape")
    await walk.is_live(page)
    await page.keyboard.press("/")
    await page.keyboard.type("job.failed")
    await page.keyboard.press("Enter")
    await expect(walk.rows(page)).to_have_count(1)
    await expect(page).to_have_url(re.compile("event_types=job.failed$"))
    await at_once(page, "g", "w")
    await expect(page.locator("wg-app main")).to_contain_text("billing-eu")
    for path in ("/", "/webhooks", "/deliveries", "/attempts", "/events", "/replays", "/replays/new", "/event-types"):
        await page.evaluate("(path) => history.pushState(null, '', path)", path)
        await page.evaluate("() => dispatchEvent(new PopStateEvent('popstate'))")
        await expect(page.locator("wg-app main")).to_be_visible()
        assert await page.evaluate("document.documentElement.scrollWidth") <= 320, path
        assert await wrong(page) == [], path
    await context.close()

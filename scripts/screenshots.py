"""`make screenshots`: writes docs/screenshots/; `make screenshots ARGS="live webhook"` only those of some pages.

Starts the service on its embedded Postgres with the receivers and webhooks of `make demo-page`, waits until its
deliveries stand in every state, and opens the pages in Chromium: light and dark, English and Chinese, 1280 and 320
pixels wide. Needs Debian's packages chromium, pngquant and, for Chinese, fonts-wqy-microhei.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from examples.demo import ACME, GLOBEX, running_service
from examples.demo_page import SETTINGS, publish_one, register, running_receiver
from playwright.async_api import Browser, async_playwright
from webhook.v1 import delivery_pb2, replay_pb2, service_pb2, service_pb2_grpc, webhook_pb2

FOLDER: Final = Path(__file__).resolve().parents[1] / "docs" / "screenshots"
BYTES_MAX: Final = 100 * 1024
SETTLED_SECONDS: Final = 3.0  # after which a page shows what it has asked for
READY_SECONDS_MAX: Final = 300
EVERY_SECONDS: Final = 0.25
PHONE_HEIGHT: Final = 640
COLOURS: Final = "64"  # of a picture: text stays as it is, and the file has a third of its size
LOOKS: Final = tuple(itertools.product(("light", "dark"), ("en", "zh"), (1280, 320)))  # scheme, language, width
AT_ONCE: Final = 3
CHINESE: Final = {"Count": "统计数量"}  # what is clicked
ARGUMENTS: Final = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars"]
ALWAYS_DOWN: Final = 60.0


@dataclass(frozen=True)
class Shot:
    """A page in one look. `clicks` are the buttons that are clicked first."""

    name: str
    path: str
    clicks: tuple[str, ...] = ()
    scheme: str = "light"
    language: str = "en"
    width: int = 1280
    height: int = 720

    @property
    def file(self) -> Path:
        """Returns where its picture is."""
        return FOLDER / f"{self.name}-{self.scheme}-{self.language}-{self.width}.png"


class Scene:
    """What the pictures show: where deliveries stand, and which of them have pages of their own."""

    def __init__(self, stub: service_pb2_grpc.WebhookServiceAsyncStub) -> None:
        self._stub = stub

    async def make(self) -> None:
        """Waits until deliveries have succeeded, failed and wait behind an open breaker, and starts two replays."""
        async with asyncio.timeout(READY_SECONDS_MAX):
            while not await self._is_ready():  # noqa: ASYNC110 - the breaker and the status of a webhook give no signal
                await asyncio.sleep(EVERY_SECONDS)
        await self._replay(GLOBEX, ["FAILED", "SUCCEEDED"])
        pager = service_pb2.PauseWebhookRequest(customer_id=ACME, webhook_id=self.webhooks["pager"].webhook_id)
        await self._stub.PauseWebhook(pager)  # so that the next replay has something to wait for
        await self._replay(ACME, ["FAILED", "CANCELLED", "SUCCEEDED"])

    async def _is_ready(self) -> bool:
        self.webhooks = {webhook.name: webhook for webhook in await self._webhooks()}
        down = self.webhooks["billing-eu"]
        named = service_pb2.GetWebhookStatsRequest(customer_id=ACME, webhook_id=down.webhook_id)
        is_open = (await self._stub.GetWebhookStats(named)).breaker_state == service_pb2.BREAKER_STATE_OPEN
        is_disabled = self.webhooks["old-crm"].status == webhook_pb2.WEBHOOK_STATUS_DISABLED
        self.failed = await self._deliveries("strict-parser", "FAILED")
        self.waiting = await self._deliveries("billing-eu", "PENDING")
        self.many = await self._deliveries("ci-bot", "SUCCEEDED")
        return is_open and is_disabled and min(map(len, (self.failed, self.waiting, self.many))) > 5

    async def _webhooks(self) -> Sequence[webhook_pb2.Webhook]:
        return (await self._stub.ListWebhooks(service_pb2.ListWebhooksRequest())).webhooks

    async def _deliveries(self, name: str, status: str) -> Sequence[delivery_pb2.Delivery]:
        wanted = service_pb2.ListDeliveriesRequest(
            customer_id=self.webhooks[name].customer_id,
            webhook_ids=[self.webhooks[name].webhook_id],
            statuses=[delivery_pb2.DeliveryStatus.Value(f"DELIVERY_STATUS_{status}")],
        )
        return (await self._stub.ListDeliveries(wanted)).deliveries

    async def _replay(self, customer_id: int, statuses: Sequence[str]) -> None:
        replay = replay_pb2.Replay(
            customer_id=customer_id,
            statuses=[delivery_pb2.DeliveryStatus.Value(f"DELIVERY_STATUS_{status}") for status in statuses],
            include_undelivered=True,
        )
        replay.start_time.FromDatetime(datetime.now(UTC) - timedelta(hours=8))
        self.replay = await self._stub.CreateReplay(service_pb2.CreateReplayRequest(replay=replay))

    def shots(self) -> Sequence[Shot]:
        """Returns the pictures: every page in every look."""
        pages = {name: Shot(name, path) for name, path in self._pages().items()}
        pages["replay-new"] = replace(pages["replay-new"], clicks=("Count",), height=880)
        return [in_look(shot, *look) for shot, look in itertools.product(pages.values(), LOOKS)]

    def _pages(self) -> dict[str, str]:
        acme, globex = f"?customer_id={ACME}", f"?customer_id={GLOBEX}"
        down, healthy = (self.webhooks[name].webhook_id for name in ("billing-eu", "ci-bot"))
        return {
            "live": "/",
            "webhooks": "/webhooks",
            "webhook": f"/webhooks/{down}{acme}",
            "webhook-new": f"/webhooks/new{acme}",
            "webhook-edit": f"/webhooks/{down}/edit{acme}",
            "deliveries": "/deliveries",
            "delivery": f"/deliveries/{self.waiting[-1].delivery_id}{acme}",
            "delivery-failed": f"/deliveries/{self.failed[0].delivery_id}{globex}",
            "attempts": "/attempts",
            "events": "/events",
            "event": f"/events/{self.many[0].event_id}{acme}",
            "replays": "/replays",
            "replay": f"/replays/{self.replay.replay_id}{acme}",
            "replay-new": f"/replays/new{acme}&statuses=failed,succeeded&webhook_ids={down},{healthy}",
            "event-types": "/event-types",
            "event-type": "/event-types/job.completed",
        }


def in_look(shot: Shot, scheme: str, language: str, width: int) -> Shot:
    """Returns a page in another look. On a phone it is shown from its top, and nothing is clicked."""
    clicks = tuple(CHINESE[name] for name in shot.clicks) if language == "zh" else shot.clicks
    changed = replace(shot, scheme=scheme, language=language, width=width, clicks=clicks)
    return changed if width == shot.width else replace(changed, height=PHONE_HEIGHT, clicks=())


async def take(browser: Browser, base: str, shot: Shot) -> None:
    """Opens a page and writes its picture. Says if the page scrolls sideways, warns, or the picture is too large."""
    context = await browser.new_context(
        base_url=base,
        locale={"en": "en-GB", "zh": "zh-CN"}[shot.language],
        timezone_id={"en": "Europe/London", "zh": "Asia/Shanghai"}[shot.language],
        color_scheme="dark" if shot.scheme == "dark" else "light",
        viewport={"width": shot.width, "height": shot.height},
    )
    page = await context.new_page()
    said = list[str]()
    page.on("console", lambda line: said.append(line.text) if line.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    await page.goto(shot.path)
    await page.locator("wg-app main").wait_for()
    for name in shot.clicks:
        await page.locator("wg-app").get_by_role("button", name=name, exact=True).click()
    await asyncio.sleep(SETTLED_SECONDS)  # a view does not report that its last panel has come
    await page.screenshot(path=shot.file)
    beyond = int(await page.evaluate("document.documentElement.scrollWidth - innerWidth"))
    await context.close()
    await asyncio.to_thread(
        subprocess.run, ["pngquant", "--force", "--strip", "--output", shot.file, COLOURS, shot.file], check=True
    )
    report(shot, said, beyond)


async def in_turn(turns: asyncio.Semaphore, taking: Awaitable[None]) -> None:
    """Takes a picture when it is its turn."""
    async with turns:
        await taking


def report(shot: Shot, said: Sequence[str], beyond: int) -> None:
    """Prints what is wrong with a picture."""
    size = shot.file.stat().st_size
    faults = [*said, *([f"{beyond} px wider than its window"] if beyond > 0 else [])]
    faults += [f"{size} bytes, more than {BYTES_MAX}"] if size > BYTES_MAX else []
    print(f"{shot.file.name:<36} {size // 1024:>4} KiB", *faults, sep="  ", flush=True)


@contextlib.asynccontextmanager
async def trickling(stub: service_pb2_grpc.WebhookServiceAsyncStub) -> AsyncGenerator[None]:
    """Publishes an event from time to time during the block."""

    async def publish() -> None:
        number = 0
        while True:
            await publish_one(stub, number)
            number += 1
            await asyncio.sleep(EVERY_SECONDS)  # a trickle

    publishing = asyncio.create_task(publish())
    try:
        yield
    finally:
        publishing.cancel()
        await asyncio.wait({publishing})


async def main(chromium: str, names: Sequence[str]) -> None:
    """Makes the scene and takes all pictures, or those of the pages with these names."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="webhook-grpc-screenshots-") as directory:
        async with running_receiver(ALWAYS_DOWN) as port, running_service(Path(directory), **SETTINGS) as service:
            await register(service.stub, port)
            async with trickling(service.stub), async_playwright() as playwright:
                scene = Scene(service.stub)
                await scene.make()
                browser = await playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
                shots = [shot for shot in scene.shots() if not names or shot.name in names]
                turns = asyncio.Semaphore(AT_ONCE)
                async with asyncio.TaskGroup() as group:
                    for shot in shots:
                        group.create_task(in_turn(turns, take(browser, service.page_url, shot)))
                await browser.close()
    wanted = {shot.file for shot in scene.shots()}
    for path in FOLDER.glob("*.png"):
        if path not in wanted:
            path.unlink()


if __name__ == "__main__":
    found = shutil.which("chromium")
    if found is None:
        sys.exit("screenshots: Debian's package chromium is needed")
    if shutil.which("pngquant") is None:
        sys.exit("screenshots: Debian's package pngquant is needed")
    if not subprocess.run(["fc-list", ":lang=zh"], capture_output=True, check=True).stdout:  # noqa: S607 - fontconfig's
        sys.exit("screenshots: a font for Chinese is needed, such as Debian's fonts-wqy-microhei")
    asyncio.run(main(found, sys.argv[1:]))

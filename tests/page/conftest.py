"""A real browser in front of a real service: Debian's Chromium, driven by Playwright, which downloads none itself.

A start of it costs more than most tests do, so those of a module share one, and what it has loaded. Each test has
a page of its own; what that has stored is removed after it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from tests.support import slowness
from tests.support.distribution import need
from tests.support.sharing import receiver, service, services, shared, shared_settings

__all__ = ["receiver", "service", "services", "shared", "shared_settings"]
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-sync",
    "--disable-dev-shm-usage",  # a container's /dev/shm has 64 MiB: a page that finds it full crashes
]
CLOSE_SECONDS = 20  # a browser that has crashed may never answer


@pytest.fixture(autouse=True)
def patience() -> None:
    """What a page shows is waited for as long as this machine needs."""
    expect.set_options(timeout=slowness.scaled(10) * 1000)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncGenerator[Browser]:
    """Chromium without a window.

    To stop Playwright has a bound, too: without one a test run once hung for good after its browser had.
    """
    playwright = await async_playwright().start()
    chromium = await playwright.chromium.launch(executable_path=need("chromium"), args=ARGUMENTS)
    yield chromium
    async with slowness.timeout(CLOSE_SECONDS):
        await chromium.close()
        await playwright.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def profile(browser: Browser) -> AsyncGenerator[BrowserContext]:
    """What a browser keeps: the files of the page, which are loaded and compiled once for the tests of a module."""
    context = await browser.new_context(locale="en-GB", viewport={"width": 1280, "height": 720})
    yield context
    async with slowness.timeout(CLOSE_SECONDS):
        await context.close()


@pytest_asyncio.fixture(loop_scope="module")
async def page(profile: BrowserContext) -> AsyncGenerator[Page]:
    """A new page. Whatever the console reports as an error fails the test: exceptions, violations of the policy."""
    opened = await profile.new_page()
    problems = list[str]()
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    yield opened
    async with slowness.timeout(CLOSE_SECONDS):
        for one in profile.pages:
            if one.url.startswith("http"):
                await one.evaluate("localStorage.clear()")
            await one.close()
    assert [said for said in problems if "Failed to load resource" not in said] == []

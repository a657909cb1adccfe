"""A real browser in front of a real service: Debian's Chromium, driven by Playwright, which downloads none itself.

A start of it, and each new page, costs more than most tests do. So those of a module share one, what it has loaded, and
a page; what a test has left in that is removed after it.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import AsyncGenerator, Generator

import pytest
import pytest_asyncio
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Error,
    Page,
    Route,
    ViewportSize,
    async_playwright,
    expect,
)

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
VIEWPORT: ViewportSize = {"width": 1280, "height": 720}
CLOSE_SECONDS = 20  # a browser that has crashed may never answer


@pytest.fixture(autouse=True)
def patience() -> None:
    """What a page shows is waited for as long as this machine needs."""
    expect.set_options(timeout=slowness.scaled(10) * 1000)


@pytest.fixture(scope="module")
def chromium() -> str:
    """The program of the browser: without what only a window needs, where Debian has that apart.

    It runs and draws a page as the whole one does, for two thirds of the CPU time. The acceptance walk has that one.
    """
    return shutil.which("chromium-headless-shell") or need("chromium")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(chromium: str) -> AsyncGenerator[Browser]:
    """Chromium without a window.

    To stop Playwright has a bound, too: without one a test run once hung for good after its browser had.
    """
    playwright = await async_playwright().start()
    browser = await playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
    yield browser
    async with slowness.timeout(CLOSE_SECONDS):
        await browser.close()
        await playwright.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def profile(browser: Browser) -> AsyncGenerator[BrowserContext]:
    """What a browser keeps: the files of the page, which are loaded and compiled once for the tests of a module."""
    context = await browser.new_context(locale="en-GB", viewport=VIEWPORT)
    yield context
    async with slowness.timeout(CLOSE_SECONDS):
        await context.close()


class Tab:
    """The page that the tests of a module use one after the other: a new one costs as much as many a test."""

    def __init__(self, profile: BrowserContext) -> None:
        self._profile = profile
        self._page: Page | None = None

    async def opened(self) -> Page:
        """Returns the page, which shows nothing."""
        if self._page is None or self._page.is_closed():
            self._page = await self._profile.new_page()
        return self._page

    async def clear(self) -> None:
        """Closes what else a test has opened, and lets nothing of it stay: no route, no store, no size, no media."""
        for one in self._profile.pages:
            if one.url.startswith("http"):
                await one.evaluate("localStorage.clear(); sessionStorage.clear()")
            if one is not self._page:
                await one.close()
        if self._page is None or self._page.is_closed():
            return
        await self._page.unroute_all(behavior="ignoreErrors")
        try:
            await leave(self._page)
        except Error:  # the page asks before it is left
            await self._page.close()
            return
        await self._page.set_viewport_size(VIEWPORT)
        await self._page.emulate_media(
            media="null", color_scheme="null", reduced_motion="null", forced_colors="null", contrast="null"
        )
        assert "native code" in await self._page.evaluate("String(setTimeout)"), "take own_page for an own clock"


async def leave(page: Page) -> None:
    """Has a page show nothing, of the same origin and policy as before: the browser then keeps the page's process.

    For about:blank it begins another, and one more for the next test: a fifth of the CPU time to open the page.
    """
    origin = re.match(r"https?://[^/]+", page.url)
    if origin is None:
        await page.goto("about:blank")
        return

    async def nothing(route: Route) -> None:
        headers = {"Cross-Origin-Opener-Policy": "same-origin"}
        await route.fulfill(body="", content_type="text/html", headers=headers)

    await page.route(f"{origin[0]}/blank", nothing)  # its server may have stopped
    await page.goto(f"{origin[0]}/blank")
    await page.unroute(f"{origin[0]}/blank", nothing)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tab(profile: BrowserContext) -> Tab:
    """What the tests of a module that take `page` share."""
    return Tab(profile)


@pytest_asyncio.fixture(loop_scope="module")
async def page(tab: Tab) -> AsyncGenerator[Page]:
    """An empty page. Whatever the console reports as an error fails the test: exceptions, violations of the policy."""
    opened = await tab.opened()
    try:
        with without_problems(opened):
            yield opened
    finally:
        async with slowness.timeout(CLOSE_SECONDS):
            await tab.clear()


@pytest_asyncio.fixture(loop_scope="module")
async def own_page(browser: Browser) -> AsyncGenerator[Page]:
    """A page with a profile of its own, for a test that winds the clock: all pages of a profile have the same."""
    context = await browser.new_context(locale="en-GB", viewport=VIEWPORT)
    opened = await context.new_page()
    with without_problems(opened):
        yield opened
    async with slowness.timeout(CLOSE_SECONDS):
        await context.close()


@contextlib.contextmanager
def without_problems(page: Page) -> Generator[None]:
    """Fails at the end of the block if the console has reported an error in it."""
    problems = list[str]()

    def on_error(error: Error) -> None:
        problems.append(str(error))

    def on_said(said: ConsoleMessage) -> None:
        if said.type == "error":
            problems.append(said.text)

    page.on("pageerror", on_error)
    page.on("console", on_said)
    yield
    page.remove_listener("pageerror", on_error)
    page.remove_listener("console", on_said)
    assert [said for said in problems if "Failed to load resource" not in said] == []

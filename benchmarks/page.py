"""`make bench-page`: what the live page costs a browser and the service, beside the budget of each figure.

The browser is the machine's Chromium without a window. For 1,000 changes a second and 10,000 rows the door is played
by this process, so that the page is measured and not the engine; the rest is measured with the service itself.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, cast

import aiohttp
import psutil
from benchmarks.parts.in_process import (
    OWN_PROGRAM,
    Receiver,
    create_webhooks,
    environment_in,
    publish_batches,
    running_service,
)
from playwright.async_api import Browser, CDPSession, Page, async_playwright
from tests.page.door import Door, delivery

CHANGES_A_SECOND: Final = 1000
MESSAGES_A_SECOND: Final = 20  # as the service puts them together under load
ROWS: Final = 10_000
HEAP_AT: Final = (10_000, 50_000)  # changes after which the heap is measured, once the memory is full and much later
READERS: Final = 100
EVENTS: Final = 2_000  # for the readers
PUBLISHED_SINGLY: Final = 40
ARGUMENTS: Final = ["--no-sandbox", "--disable-gpu"]
MIB: Final = 1024 * 1024

# Counts frames, long tasks and row nodes; for each row that is new, how long after the change it is painted.
WATCH: Final = """() => {
  const list = document.querySelector("wg-app").shadowRoot.querySelector("webhook-deliveries");
  const seen = { frames: 0, longest: 0, long: 0, nodes: 0, rows: 0, late: [] };
  window.seen = seen;
  const known = new Set(list.store.ids);
  const frame = () => (seen.frames++, requestAnimationFrame(frame));
  requestAnimationFrame(frame);
  new PerformanceObserver((tasks) => {
    for (const { duration } of tasks.getEntries()) {
      seen.long += duration > 50 ? 1 : 0;
      seen.longest = Math.max(seen.longest, duration);
    }
  }).observe({ type: "longtask" });
  list.addEventListener("change", () => {
    seen.nodes = Math.max(seen.nodes, list.shadowRoot.querySelectorAll(".row").length);
    seen.rows = list.store.size;
    for (const id of list.store.ids.slice(0, 20)) {
      const at = Date.parse(list.store.get(id).update_time);
      if (!known.has(id) && seen.late.length < 1000) seen.late.push(Date.now() - at);
      known.add(id);
    }
  });
}"""
# Scrolls ten thousand rows from end to end, four screens at a time; returns the longest time until rows are seen.
SCROLL: Final = """() => new Promise((resolve) => {
  const list = document.querySelector("wg-app").shadowRoot.querySelector("webhook-deliveries").shadowRoot;
  const scroller = list.querySelector(".window");
  const box = scroller.getBoundingClientRect();
  let [jumpedAt, longest] = [performance.now(), 0];
  const look = () => {
    if (list.elementFromPoint(box.x + 50, box.y + box.height / 2)?.closest(".row")) {
      longest = Math.max(longest, performance.now() - jumpedAt);
      if (scroller.scrollTop + box.height >= scroller.scrollHeight - 1) return resolve(longest);
      scroller.scrollTop += 4 * box.height;
      jumpedAt = performance.now();
    }
    requestAnimationFrame(look);
  };
  look();
})"""


@dataclass(frozen=True)
class Figure:
    """A figure as it was measured, and its budget."""

    name: str
    value: str
    budget: str


async def live(page: Page, url: str) -> CDPSession:
    """Opens the live page and begins to measure when its list is there."""
    session = await shown(page, url)
    await page.evaluate(WATCH)
    return session


async def shown(page: Page, url: str) -> CDPSession:
    """Opens the live page and returns when its list is there."""
    await page.goto(url)
    await page.locator("wg-app .live.on").wait_for()
    await page.locator("webhook-deliveries .row").first.wait_for()
    session = await page.context.new_cdp_session(page)
    await ask(session, "Performance.enable")
    return session


async def ask(session: CDPSession, method: str) -> dict[str, Any]:
    """Calls a method of Chromium's DevTools."""
    send = cast("Callable[[str], Awaitable[dict[str, Any]]]", session.send)  # pyright: ignore[reportUnknownMemberType]
    return await send(method)


async def metrics(session: CDPSession) -> dict[str, float]:
    """What the browser says of the page: seconds of scripts and tasks, bytes of the heap."""
    found = await ask(session, "Performance.getMetrics")
    return {metric["name"]: metric["value"] for metric in found["metrics"]}


async def changes(door: Door, seconds: float, first: int = 0) -> float:
    """Sends changes at the rate, as far as this machine keeps up; returns the rate that it was."""
    count, size, started_at = 0, CHANGES_A_SECOND // MESSAGES_A_SECOND, time.monotonic()
    while (passed := time.monotonic() - started_at) < seconds:
        if count >= passed * CHANGES_A_SECOND:
            await asyncio.sleep(count / CHANGES_A_SECOND - passed)  # keeps the rate
        rows = (changed(1000 + first + count + n) for n in range(size))
        await door.send(*rows)
        count += size
    return count / seconds


def changed(number: int) -> dict[str, Any]:
    """Returns a delivery that has ended; each tenth one has failed."""
    return delivery(number, "failed", "timeout") if number % 10 == 0 else delivery(number)


async def under_load(browser: Browser, seconds: float) -> list[Figure]:
    """Measures the page while a thousand deliveries change a second, and then with ten thousand rows."""
    door = Door()
    door.listed = [delivery(n) for n in range(200)]
    await door.start()
    page = await browser.new_page()
    session = await live(page, door.url)
    before = await metrics(session)
    rate = await changes(door, seconds)
    after, seen = await metrics(session), await page.evaluate("seen")
    spent = {name: (after[name] - before[name]) * 1000 for name in ("ScriptDuration", "TaskDuration")}
    used = await heap(session)
    blank: float = await page.evaluate(SCROLL)
    nodes = await page.locator("webhook-deliveries .row").count()
    await page.close()
    await door.stop()
    frames = max(1, seen["frames"])
    return [
        Figure("changes a second, as sent", f"{rate:,.0f} for {seconds:.0f} s", f"{CHANGES_A_SECOND:,} for 60 s"),
        Figure("frames a second", f"{frames / seconds:.0f}", "at least 50"),
        Figure("script, ms a frame", f"{spent['ScriptDuration'] / frames:.2f}", "at most 6"),
        Figure("all work of the page, ms a frame", f"{spent['TaskDuration'] / frames:.2f}", "-"),
        Figure("tasks longer than 50 ms", f"{seen['long']} (longest {seen['longest']:.0f} ms)", "none"),
        Figure("rows in memory", f"{seen['rows']:,}", f"at most {ROWS:,}"),
        Figure("row nodes, at most", str(max(nodes, seen["nodes"])), "at most 60"),
        Figure(f"heap with {seen['rows']:,} rows", f"{used:.1f} MiB", "at most 60 MiB"),
        Figure("scroll from end to end, longest blank", f"{blank:.0f} ms", "at most 100 ms"),
    ]


async def heap_over_time(browser: Browser, minutes: float) -> list[Figure]:
    """Measures what the page keeps: by changes, as fast as they are taken, or as many minutes as they are sent."""
    door = Door()
    door.listed = [delivery(n) for n in range(200)]
    await door.start()
    page = await browser.new_page()
    session = await shown(page, door.url)  # without WATCH, which remembers what it has seen
    sent, heaps = 0, list[float]()
    for count in HEAP_AT:
        sent = await many_changes(page, door, sent, count)
        heaps.append(await heap(session))
    after = f"{HEAP_AT[-1]:,} changes"
    if minutes:
        rate = await changes(door, minutes * 60, first=sent)
        heaps.append(await heap(session))
        after += f" and {minutes:g} min of {rate:,.0f} a second"
    await page.close()
    await door.stop()
    measured = f"{heaps[0]:.1f} MiB, then {heaps[-1]:.1f} MiB"
    return [Figure(f"heap after {HEAP_AT[0]:,} changes, and after {after}", measured, "flat: at most 10 % more")]


async def heap(session: CDPSession) -> float:
    """Returns the MiB of the page's heap after its garbage is collected."""
    await ask(session, "HeapProfiler.collectGarbage")
    return (await metrics(session))["JSHeapUsedSize"] / MIB


async def many_changes(page: Page, door: Door, sent: int, until: int) -> int:
    """Sends changes until there were so many, and returns once the page has them all."""
    size = CHANGES_A_SECOND // MESSAGES_A_SECOND
    for first in range(sent, until, size):
        await door.send(*(changed(1000 + number) for number in range(first, first + size)))
    find = "(id) => document.querySelector('wg-app').shadowRoot.querySelector('webhook-deliveries').store.get(id)"
    await page.wait_for_function(find, arg=delivery(999 + until)["delivery_id"])
    return until


@contextlib.asynccontextmanager
async def service() -> AsyncGenerator[tuple[Any, psutil.Process, str, Receiver]]:
    """The service in a process of its own, with a webhook and its receiver."""
    receiver = Receiver()
    with tempfile.TemporaryDirectory(prefix="webhook-grpc-bench-") as directory:
        environment = environment_in(directory) | {"WEBHOOK_HTTP_CONNECTIONS_MAX": "500"}
        async with receiver.running(), running_service(OWN_PROGRAM, environment) as (stub, process):
            await create_webhooks(stub, receiver.port, 1)
            ports = {one.laddr.port for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN}
            yield stub, process, f"http://127.0.0.1:{await http_port(ports)}/", receiver


async def http_port(ports: set[int]) -> int:
    """Returns the one of these ports where the page is."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as session:
        for port in sorted(ports):
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with session.get(f"http://127.0.0.1:{port}/healthz") as response:
                    if response.ok:
                        return port
    sys.exit("the service has no page")


async def beside_the_service(browser: Browser) -> list[Figure]:
    """Measures how soon the page is there, and how soon a delivery is a row."""
    async with service() as (stub, _, url, receiver):
        await publish_batches(stub, 500, 1, 1, 500)
        await receiver.until(500)
        page = await browser.new_page()
        await page.goto(url)  # once, so that the files are kept
        starts = [await opened(page, url) for _ in range(5)]
        await live(page, url)
        for number in range(PUBLISHED_SINGLY):
            await publish_batches(stub, 1, 1, 1, 1)
            await receiver.until(501 + number)
        await page.wait_for_timeout(1000)
        late: list[float] = (await page.evaluate("seen"))["late"]
        await page.close()
    content, listed = (statistics.median(column) for column in zip(*starts, strict=True))
    return [
        Figure("first content, median of 5", f"{content:.0f} ms", "at most 200 ms"),
        Figure("list of 200 on loopback, median of 5", f"{listed:.0f} ms", "at most 500 ms"),
        Figure(f"delivery to row, median of {len(late)}", f"{statistics.median(late):.0f} ms", "at most 250 ms"),
        Figure("delivery to row, longest", f"{max(late):.0f} ms", "at most 1,000 ms"),
    ]


async def opened(page: Page, url: str) -> tuple[float, float]:
    """Opens the page; returns after how many milliseconds there was content, and a row."""
    await page.goto("about:blank")
    await page.goto(url)
    row: float = await page.evaluate(
        """() => new Promise((resolve) => {
          const look = () => {
            const list = document.querySelector("wg-app")?.shadowRoot?.querySelector("webhook-deliveries");
            if (list?.shadowRoot.querySelector(".row")) resolve(performance.now());
            else requestAnimationFrame(look);
          };
          look();
        })"""
    )
    content: float = await page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? NaN")
    return content, row


async def readers(count: int) -> float:
    """Returns the CPU seconds of the service for each event, while so many pages follow the stream."""
    async with (
        service() as (stub, process, url, receiver),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(None)) as session,
    ):
        tasks = [asyncio.create_task(read(session, f"{url}api/deliveries:watch")) for _ in range(count)]
        await asyncio.sleep(1)  # until all streams are open: the service does not report that
        before = cpu(process)
        await publish_batches(stub, EVENTS, 1, 1, 100)
        await receiver.until(EVENTS)
        await asyncio.sleep(2)  # until the last changes have been sent to every page
        spent = cpu(process) - before
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return spent / EVENTS


async def read(session: aiohttp.ClientSession, url: str) -> None:
    """Reads a stream as a page does, and throws it away."""
    async with session.get(url, headers={"Accept": "text/event-stream"}) as response:
        async for _ in response.content.iter_any():
            pass


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


async def run(seconds: float, minutes: float) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or sys.exit("there is no Chromium here")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        figures = [*await under_load(browser, seconds), *await heap_over_time(browser, minutes)]
        figures += await beside_the_service(browser)
        await browser.close()
    alone, followed = await readers(0), await readers(READERS)
    figures.append(Figure("service, CPU ms an event, nobody looks", f"{alone * 1000:.2f}", "-"))
    figures.append(Figure(f"service, CPU ms an event, {READERS} pages", f"{followed * 1000:.2f}", "-"))
    share = (followed - alone) / READERS * 1e6
    figures.append(Figure("that is, CPU µs an event and page", f"{share:.1f}", "-"))
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    print("| figure | measured | budget |\n|---|---|---|")
    for figure in figures:
        print(f"| {figure.name} | {figure.value} | {figure.budget} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of changes")
    parser.add_argument("--minutes", type=float, default=0, help="of further changes before the heap is measured last")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.seconds, arguments.minutes))

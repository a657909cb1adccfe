"""Checks of a page as a reader with a screen reader, a keyboard or weak eyes would make them; ours, so they are few."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Page

_CHECKS = Path(__file__).with_suffix(".js").read_text()


async def wrong(page: Page) -> list[str]:
    """Returns what is wrong with a page as it is shown: names, ids, roles, contrast, width, targets."""
    found: list[str] = await page.evaluate(_CHECKS)
    return found

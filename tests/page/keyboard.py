"""Keys of the page: when they are there, and keys that are pressed so that no time passes between them."""

from __future__ import annotations

from playwright.async_api import Page, expect

# As the browser sends a key: to what has the focus, out of every shadow root.
_PRESS = """(keys) => {
  let at = document.activeElement;
  while (at.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;
  const options = { bubbles: true, composed: true, cancelable: true };
  for (const key of keys) at.dispatchEvent(new KeyboardEvent("keydown", { key, ...options }));
}"""


async def has_keys(page: Page) -> None:
    """Returns when the keys are loaded, which comes after the page is shown; before that, pressing one does nothing."""
    await expect(page.get_by_role("button", name="Keyboard shortcuts")).to_be_enabled()


async def at_once(page: Page, *keys: str) -> None:
    """Presses keys in one step of the page.

    What two keys mean together depends on how soon they follow: `g` and a letter within 1.5 s, `r` twice within one. A
    busy machine needs longer between two keys of Playwright's.
    """
    await page.evaluate(_PRESS, list(keys))

// A bar of parts, each in the colour of a state. The figures stand beside it, so it is hidden from screen readers.

import { element } from "./look.js";

export const SHARE_LOOK = `
.share-bar { display: flex; height: 12px; border: 1px solid var(--line); border-radius: 3px; overflow: hidden; background: var(--surface); forced-color-adjust: none; }
.share-bar > * { background: currentColor; border-right: 1px solid var(--bg); }
.share-bar .off { opacity: 0.8; }
`;

/** Returns the bar: `shares` are pairs of a colour and a share, 0 to 1. */
export function shareBar(shares) {
  const parts = shares.map(([colour, share]) => {
    const part = element("div", { className: colour });
    part.style.width = `${share * 100}%`;
    return part;
  });
  return element("div", { className: "share-bar", "aria-hidden": "true" }, ...parts);
}

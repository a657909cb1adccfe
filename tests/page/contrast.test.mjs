// The colours of §14 by numbers: every text on every surface that it stands on, in both themes (WCAG 2.2, 1.4.3, 1.4.11).

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const look = readFileSync(new URL("../../src/webhook_grpc/server/http/page/shared/look.js", import.meta.url), "utf8");
const TEXTS = ["ink", "muted", "accent", "ok", "wait", "bad", "off"];
const SURFACES = ["bg", "surface"];

/** Returns the tokens of each block of the style sheet, in its order: light, dark as chosen, dark as the system says. */
function themes() {
  return [...look.matchAll(/--bg:[^}]*/g)].map(([block]) => Object.fromEntries([...block.matchAll(/--(\w+): (#[0-9a-f]{6})/g)].map(([, name, value]) => [name, value])));
}

function luminance(hex) {
  const [r, g, b] = [1, 3, 5].map((at) => {
    const value = parseInt(hex.slice(at, at + 2), 16) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(a, b) {
  const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (light + 0.05) / (dark + 0.05);
}

const [light, dark, system] = themes();

test("both ways into the dark theme have the same tokens", () => {
  assert.equal(themes().length, 3);
  assert.deepEqual(dark, system);
  assert.deepEqual(Object.keys(light).sort(), Object.keys(dark).sort());
});

for (const [name, theme] of [["light", light], ["dark", dark]]) {
  for (const surface of SURFACES) {
    test(`${name}: every text on --${surface} has a contrast of 4.5, every line one of 3`, () => {
      for (const text of TEXTS) assert.ok(contrast(theme[text], theme[surface]) >= 4.5, `--${text}: ${contrast(theme[text], theme[surface])}`);
      assert.ok(contrast(theme.line, theme[surface]) >= 3, `--line: ${contrast(theme.line, theme[surface])}`);
    });
  }
  test(`${name}: the text of a primary button, and of a toast, has a contrast of 4.5`, () => {
    assert.ok(contrast(theme.bg, theme.accent) >= 4.5);
    assert.ok(contrast(theme.bg, theme.ink) >= 4.5);
    assert.ok(contrast(theme.bg, theme.bad) >= 4.5);
  });
}

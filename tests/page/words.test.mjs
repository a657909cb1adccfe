// Every fixed text that the page says has its Chinese. Run by `node --test`.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";

const PAGE = new URL("../../src/webhook_grpc/server/http/page/", import.meta.url);
const { CHINESE } = await import(new URL("data/words.js", PAGE));
const { AUDIT_CHINESE } = await import(new URL("data/audit.js", PAGE));

test("every text that is said by its words has a translation, and stands in the list once", () => {
  const names = readdirSync(PAGE, { recursive: true }).filter((name) => name.endsWith(".js") && !name.endsWith("words.js"));
  const sources = names.map((name) => readFileSync(new URL(name, PAGE), "utf8"));
  const said = sources.flatMap((text) => [...text.matchAll(/words\(\s*"((?:[^"\\]|\\.)*)"/g)].map((found) => JSON.parse(`"${found[1]}"`)));
  assert.ok(said.length > 100);
  assert.deepEqual([...new Set(said)].filter((text) => !(text in CHINESE || text in AUDIT_CHINESE)), []);
  const list = readFileSync(new URL("data/words.js", PAGE), "utf8");
  const keys = [...list.matchAll(/^ {2}"((?:[^"\\]|\\.)*)":/gm)].map((found) => found[1]);
  assert.deepEqual(keys.filter((key, index) => keys.indexOf(key) < index), []);
});

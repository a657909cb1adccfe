// What customers and receivers wrote, as text: an event's data, indented or to the byte, and bytes in hexadecimal.

import { fold, memberRange, parse, pretty, visible } from "../data/json-text.js";
import { copyText, element } from "./look.js";

const PRETTY_BYTES_MAX = 64 * 1024; // a larger text is shown as it is, in pieces
const PIECE_BYTES = 16 * 1024;
const LEVELS_MAX = 6; // what is nested deeper is folded
const HEX_COLUMNS = 16;

/** Returns an event with its data as text, to the byte. The data itself is not parsed: it may be large. */
export async function eventOf(page, path, signal) {
  const text = await page.api.text(path, { signal });
  const [start, end] = memberRange(text, "data") ?? [0, 0];
  const rest = start ? `${text.slice(0, start)}null${text.slice(end)}` : text;
  return { ...parse(rest), data_text: text.slice(start, end) };
}

/** Returns an event's data: indented, or as it was published; a large one in pieces. */
export function dataNode(page, event) {
  const { words } = page;
  if (!event) return element("section", { className: "panel muted", id: "data" }, words("Its event is no longer kept."));
  return new Data(page, event).node;
}

class Data {
  constructor(page, event) {
    this._page = page;
    this._event = event;
    this._bytes = new TextEncoder().encode(event.data_text);
    this._indented = this._bytes.length <= PRETTY_BYTES_MAX ? pretty(event.data_text) : null;
    this._box = element("pre", { tabIndex: 0, "aria-label": page.words("Data") });
    this._foot = element("div", { className: "payload-head", hidden: true });
    this.node = element("section", { className: "panel", id: "data" }, this._head(), this._box, this._foot);
    this._show(this._indented !== null);
  }

  _head() {
    const { words } = this._page;
    this._pretty = this._button("Pretty", () => this._show(true), { disabled: this._indented === null });
    this._raw = this._button("Raw", () => this._show(false));
    this._fillFoot();
    const size = element("span", { className: "muted" }, words("{n} bytes", { n: this._bytes.length }));
    const copy = this._button("Copy", () => copyText(this._page, this._event.data_text));
    return element("div", { className: "payload-head" }, element("h3", {}, words("Data")), this._pretty, this._raw, size, copy);
  }

  _button(word, act, properties = {}) {
    const button = element("button", { type: "button", ...properties }, this._page.words(word));
    button.addEventListener("click", act);
    return button;
  }

  _fillFoot() {
    this._size = element("span", { role: "status" });
    this._more = this._button("More", () => this._showMore());
    this._foot.append(this._size, this._more, this._button("Download", () => this._download()));
  }

  _show(isPretty) {
    this._pretty.setAttribute("aria-pressed", String(isPretty));
    this._raw.setAttribute("aria-pressed", String(!isPretty));
    this._box.replaceChildren();
    this._foot.hidden = isPretty || this._bytes.length <= PIECE_BYTES;
    this._shown = 0;
    this._decoder = new TextDecoder();
    if (isPretty) this._box.append(...foldedNodes(this._page, this._indented));
    else this._showMore();
  }

  /** Adds the next piece; what is there already stays as it is. */
  _showMore() {
    const end = Math.min(this._bytes.length, this._shown + PIECE_BYTES);
    const piece = this._decoder.decode(this._bytes.subarray(this._shown, end), { stream: end < this._bytes.length });
    this._shown = end;
    this._box.append(visible(piece));
    const [n, all] = [end, this._bytes.length].map((size) => Math.round(size / 1024));
    this._size.textContent = this._page.words("Showing {n} of {all} KiB", { n, all });
    this._more.hidden = end === this._bytes.length;
  }

  _download() {
    const url = URL.createObjectURL(new Blob([this._bytes], { type: "text/plain" }));
    element("a", { href: url, download: `${this._event.event_id}.txt` }).click();
    setTimeout(() => URL.revokeObjectURL(url));
  }
}

/** Returns an indented text as nodes; what is nested too deep is made when it is opened. */
function foldedNodes(page, text) {
  return fold(text, LEVELS_MAX).map((part) => (part.folded === undefined ? visible(part.text) : foldNode(page, part)));
}

function foldNode(page, { folded, count }) {
  const summary = element("summary", {}, page.words("… {n} lines", { n: count }));
  const node = element("details", {}, summary);
  node.addEventListener("toggle", () => node.childElementCount > 1 || node.append(element("span", {}, ...foldedNodes(page, folded))));
  return node;
}

/** Returns bytes as lines of their place, sixteen of them in hexadecimal, and as text. */
export function hexOf(bytes) {
  const lines = [];
  for (let at = 0; at < bytes.length; at += HEX_COLUMNS) {
    const some = [...bytes.subarray(at, at + HEX_COLUMNS)];
    const digits = some.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const text = some.map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : "·")).join("");
    lines.push(`${at.toString(16).padStart(4, "0")}  ${digits.padEnd(3 * HEX_COLUMNS)} ${text}`);
  }
  return lines.join("\n");
}

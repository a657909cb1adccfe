// The attempts of a delivery, the newest first, and one of them with its request and its answer.

import { outcomeText } from "../data/explain.js";
import { visible } from "../data/json-text.js";
import { reasonText } from "../data/reasons.js";
import { SHAPES } from "../data/store.js";
import { iso, milliseconds, relative, seconds, span } from "../data/time.js";
import { icon } from "../shared/icons.js";
import { element } from "../shared/look.js";
import { hexOf } from "../shared/payload.js";

const TRIGGERS = { scheduled: "Scheduled", manual: "Manual", replay: "Replay", test: "Test" };
const HIDDEN_VALUE = "…"; // what the API shows of a value that could give away a secret
const ANSWER_BYTES_MAX = 16 * 1024; // as many as are kept

export const ATTEMPTS_LOOK = `
.attempts li > button[aria-current="true"] { border-color: var(--accent); }
.attempts details > summary { cursor: pointer; min-height: 24px; }
.attempts dd .muted { font-family: ui-sans-serif, system-ui, sans-serif; }
`;

/**
 * The panel of a delivery's attempts. `state` is what the reader has chosen, which outlives the panel: {number} of the
 * attempt, 0 for the newest, and {isHex}. Only this writes it.
 */
export class Attempts {
  constructor(page, delivery, attempts, state) {
    Object.assign(this, { _page: page, _attempts: attempts, _state: state });
    this._shown = element("div", {});
    this._list = element("ol", { "aria-label": page.words("Attempts") });
    this.node = element("section", { className: "panel attempts" }, this._list, this._shown);
    this._fill(delivery);
  }

  /** Shows the attempt of a number. Returns whether there is one. */
  select(number) {
    const attempt = this._attempts.find((one) => one.attempt_number === number);
    if (!attempt) return false;
    for (const button of this._list.querySelectorAll("button")) button.setAttribute("aria-current", String(button.number === number));
    this._shown.replaceChildren(...this._nodesOf(attempt));
    this._current = attempt;
    return true;
  }

  /** Shows the attempt above or below in the list. */
  step(by) {
    const next = this._attempts[this._attempts.indexOf(this._current) + by];
    if (next) this._choose(next.attempt_number);
    return Boolean(next);
  }

  /** Opens or closes the headers. */
  unfold(isOpen) {
    for (const details of this._shown.querySelectorAll("details")) details.open = isOpen;
    return true;
  }

  _choose(number) {
    this._state.number = number;
    this.select(number);
    history.replaceState(history.state, "", `#attempt-${number}`);
  }

  _fill(delivery) {
    const { words, clock } = this._page;
    if (delivery.next_attempt_time) {
      const time = clock(milliseconds(delivery.next_attempt_time));
      this._list.append(element("li", { className: "muted" }, words("Next attempt: {time}, or later", { time })));
    }
    this._attempts.forEach((attempt, index) => this._list.append(...this._items(attempt, this._attempts[index + 1])));
    const isShown = this.select(this._state.number) || this.select(this._attempts[0]?.attempt_number);
    if (!isShown) this._shown.append(words("not tried yet"));
  }

  /** Returns an attempt as an item of the list, and the wait between it and the one before. */
  _items(attempt, before) {
    const { words, clock } = this._page;
    const started = milliseconds(attempt.start_time);
    const button = element(
      "button",
      { type: "button", title: clock(started) },
      element("span", {}, String(attempt.attempt_number)),
      icon(SHAPES[attempt.outcome]),
      element("span", {}, `${outcomeText(attempt, words)} · ${triggerOf(attempt, words)}`),
      element("span", {}, span(seconds(attempt.latency))),
    );
    button.number = attempt.attempt_number;
    button.addEventListener("click", () => this._choose(attempt.attempt_number));
    if (!before) return [element("li", {}, button)];
    const waited = (started - milliseconds(before.start_time)) / 1000 - seconds(before.latency);
    return [element("li", {}, button), element("li", { className: "wait-between" }, `┆ ${span(Math.max(0, waited))}`)];
  }

  _nodesOf(attempt) {
    const { words, clock, now, options } = this._page;
    const started = milliseconds(attempt.start_time);
    const time = element("time", { dateTime: iso(started), title: iso(started) }, `${clock(started)} (${relative(started, now(), words, options)})`);
    const sent = attempt.request_bytes ? `POST, ${words("{n} bytes", { n: attempt.request_bytes })}` : `POST, ${words("its event is no longer kept")}`;
    const nodes = [
      element("h3", {}, `${words("Attempt {n}", { n: attempt.attempt_number })} · ${triggerOf(attempt, words)}`),
      element("div", { className: "muted" }, time),
      element("div", {}, sent),
      this._headers(attempt.request_headers, { id: "headers" }),
      element("h3", {}, `${words("Response")}: ${outcomeText(attempt, words)}, ${span(seconds(attempt.latency))}`),
    ];
    if (attempt.error_message) nodes.push(element("div", { className: "bad" }, visible(reasonText(attempt.error_message, this._page.language))));
    nodes.push(this._headers(attempt.response_headers), ...this._answer(attempt));
    return nodes;
  }

  _headers(headers = {}, properties = {}) {
    const { words } = this._page;
    const list = element("dl", {});
    for (const [name, value] of Object.entries(headers).sort()) {
      const shown = value === HIDDEN_VALUE ? ["…", element("span", { className: "muted" }, ` ${words("not kept, not shown")}`)] : [visible(value)];
      list.append(element("dt", { className: "code" }, visible(name)), element("dd", { className: "code" }, ...shown));
    }
    if (!list.childElementCount) return element("div", properties);
    return element("details", { open: true, ...properties }, element("summary", {}, words("Headers")), list);
  }

  _answer(attempt) {
    if (!attempt.response_text) return [];
    const { words } = this._page;
    const bytes = bytesOf(attempt.response_body ?? "");
    const box = element("pre", { tabIndex: 0, "aria-label": words("Response") });
    const buttons = [["text", false], ["hex", true]].map(([word, isHex]) => {
      const button = element("button", { type: "button" }, words(word));
      button.addEventListener("click", () => show(isHex));
      return button;
    });
    const show = (isHex) => {
      this._state.isHex = isHex;
      buttons.forEach((button, index) => button.setAttribute("aria-pressed", String(Boolean(index) === isHex)));
      box.textContent = isHex ? hexOf(bytes) : visible(attempt.response_text);
    };
    show(Boolean(this._state.isHex));
    const size = words(bytes.length >= ANSWER_BYTES_MAX ? "first 16 KiB of the answer" : "{n} bytes", { n: bytes.length });
    return [element("div", { className: "payload-head" }, ...buttons, element("span", { className: "muted" }, size)), box];
  }
}

function triggerOf(attempt, words) {
  return words(TRIGGERS[attempt.trigger] ?? attempt.trigger ?? "");
}

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

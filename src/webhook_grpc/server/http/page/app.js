// The page: its head, its filter, the token, and the live list.

import { Problem } from "./api.js";
import "./deliveries.js";
import { icon } from "./icons.js";
import { element, sheets } from "./look.js";
import { filterOf, lookup, queryOf } from "./route.js";
import { SHAPES } from "./store.js";
import { LANGUAGES, languageOf, wordsOf } from "./words.js";

const STATUSES = ["pending", "succeeded", "failed", "cancelled", "expired"];
const STATUS_WORDS = { pending: "Pending", succeeded: "Succeeded", failed: "Failed", cancelled: "Cancelled", expired: "Expired" };
const THEMES = ["auto", "light", "dark"];
const TYPING_MILLISECONDS = 250;
const BARS_HEIGHT = 32;
const SVG = "http://www.w3.org/2000/svg";

const LOOK = `
:host { display: flex; flex-direction: column; height: 100vh; height: 100dvh; padding: 8px 16px; gap: 8px; }
header, .line { display: flex; flex-wrap: wrap; gap: 8px 12px; align-items: center; }
h1 { font-size: 16px; margin: 0; }
.grow { flex: 1; }
.live { display: flex; gap: 6px; align-items: center; }
.live.live-on { color: var(--ok); } .live.live-cut { color: var(--wait); } .live.live-off { color: var(--off); }
webhook-deliveries { flex: 1; min-height: 0; }
label { display: flex; gap: 6px; align-items: center; }
dialog { background: var(--bg); color: var(--ink); border: 1px solid var(--line); border-radius: 6px; padding: 24px; max-width: 480px; }
dialog form { display: grid; gap: 12px; }
.problem { color: var(--bad); }
svg.bars { width: 240px; height: 32px; stroke: none; }
.counts { display: flex; gap: 12px; align-items: center; color: var(--muted); }
.counts span { display: flex; gap: 4px; align-items: center; }
.counts svg { width: 12px; height: 12px; }
.bars .succeeded { fill: var(--ok); } .bars .square { fill: var(--bad); } .bars .other { fill: var(--wait); }
`;

class App extends HTMLElement {
  constructor() {
    super();
    this.attachShadow({ mode: "open" }).adoptedStyleSheets = sheets(LOOK);
    this._token = "";
    this._language = stored("language", LANGUAGES) ?? languageOf(navigator.languages ?? []);
    this._theme = stored("theme", THEMES) ?? "auto";
    this._utc = stored("zone", ["utc", "local"]) === "utc";
    this._filter = filterOf(location.search);
    this._shareToken();
  }

  connectedCallback() {
    this._list = document.createElement("webhook-deliveries");
    this._list.getToken = async () => this._token;
    this._list.addEventListener("state-change", (event) => this._state(event.detail));
    this._list.addEventListener("change", () => this._numbers());
    this._list.addEventListener("pause-change", () => this._numbers());
    addEventListener("popstate", () => this._go(filterOf(location.search), { push: false }));
    this._clock = setInterval(() => this._numbers(), 1000);
    this._show();
  }

  // --- the token ----------------------------------------------------------------------------------------------------

  /** A token is handed from tab to tab, so that a new one needs no second sign-in; it is never stored. */
  _shareToken() {
    this._channel = new BroadcastChannel("webhook-grpc token");
    this._channel.addEventListener("message", ({ data }) => {
      if (data.wanted && this._token) this._channel.postMessage({ token: this._token });
      else if (data.token && !this._token) this._signIn(data.token);
    });
    this._channel.postMessage({ wanted: true });
  }

  _signIn(token) {
    this._token = token;
    this._dialog?.close();
    this._list.start();
  }

  _askForToken(problem) {
    this._token = "";
    const words = this._words;
    this._problem.textContent = problem.reason === "TOKEN_MISSING" ? "" : words("The token was refused");
    this._channel.postMessage({ wanted: true });
    if (!this._dialog.open) this._dialog.showModal();
  }

  _makeDialog() {
    const words = this._words;
    const input = element("input", { type: "password", autocomplete: "current-password", required: true, id: "token" });
    const user = element("input", { autocomplete: "username", hidden: true }); // password managers look for one
    this._problem = element("div", { className: "problem", role: "alert" });
    const form = element(
      "form",
      { method: "dialog" },
      user,
      element("label", { for: "token" }, words("Token")),
      input,
      element("div", { className: "muted" }, words("The page asks for a token; it stays in this tab's memory.")),
      this._problem,
      element("button", { className: "primary" }, words("Sign in")),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const token = input.value.trim();
      input.value = "";
      if (token) this._signIn(token);
    });
    return element("dialog", {}, form);
  }

  // --- the head -----------------------------------------------------------------------------------------------------

  _show() {
    this._words = wordsOf(this._language);
    document.documentElement.lang = this._language;
    this._setTheme();
    this._dialog = this._makeDialog();
    this._live = element("div", { className: "live live-off", role: "status" });
    this._counts = element("div", { className: "counts" });
    this._pause = element("button", {});
    this._pause.addEventListener("click", () => this._togglePause());
    this.shadowRoot.replaceChildren(this._head(), this._line(), this._filters(), this._list, this._dialog);
    this._go(this._filter, { push: false });
  }

  _head() {
    const words = this._words;
    const theme = element("select", { ariaLabel: words("Dark / light") }, ...THEMES.map((name) => new Option(name, name)));
    theme.value = this._theme;
    theme.addEventListener("change", () => this._keep("theme", (this._theme = theme.value), () => this._setTheme()));
    const language = element("select", { ariaLabel: "Language" }, new Option("English", "en"), new Option("中文", "zh"));
    language.value = this._language;
    language.addEventListener("change", () => this._keep("language", (this._language = language.value), () => this._show()));
    const zone = element("select", { ariaLabel: "Zone" }, new Option("Local", "local"), new Option("UTC", "utc"));
    zone.value = this._utc ? "utc" : "local";
    zone.addEventListener("change", () => this._keep("zone", zone.value, () => this._setZone(zone.value)));
    return element("header", {}, element("h1", {}, "webhook-grpc"), element("span", {}, words("Live")), element("span", { className: "grow" }), language, zone, theme);
  }

  _keep(name, value, then) {
    localStorage.setItem(`webhook-grpc ${name}`, value);
    then();
  }

  _setTheme() {
    for (const node of [this, this._list]) {
      if (this._theme === "auto") node.removeAttribute("theme");
      else node.setAttribute("theme", this._theme);
    }
  }

  _setZone(zone) {
    this._utc = zone === "utc";
    this._list.utc = this._utc;
  }

  _line() {
    this._bars = document.createElementNS(SVG, "svg");
    this._bars.setAttribute("class", "bars");
    this._bars.setAttribute("viewBox", `0 0 240 ${BARS_HEIGHT}`);
    this._bars.setAttribute("aria-hidden", "true");
    return element("div", { className: "line" }, this._live, this._pause, element("span", { className: "grow" }), this._bars, this._counts);
  }

  _filters() {
    const words = this._words;
    this._search = element("input", { type: "search", placeholder: `/ ${words("id, type, webhook")}`, ariaLabel: words("Search") });
    this._search.addEventListener("keydown", (event) => event.key === "Enter" && this._find());
    this._statuses = element("select", { ariaLabel: words("Status") }, new Option(words("Status"), ""), ...STATUSES.map((name) => new Option(words(STATUS_WORDS[name]), name)));
    this._statuses.addEventListener("change", () => this._change({ statuses: this._statuses.value ? [this._statuses.value] : [] }));
    this._types = element("input", { placeholder: words("Event type"), ariaLabel: words("Event type") });
    this._webhooks = element("input", { placeholder: words("Webhook"), ariaLabel: words("Webhook"), inputMode: "numeric" });
    this._customer = element("input", { placeholder: words("Customer"), ariaLabel: words("Customer"), inputMode: "numeric" });
    for (const [input, name] of [[this._types, "event_types"], [this._webhooks, "webhook_ids"], [this._customer, "customer_id"]]) {
      input.addEventListener("input", () => this._typed(input, name));
    }
    this._problems = element("input", { type: "checkbox" });
    this._problems.addEventListener("change", () => this._change({ problems: this._problems.checked ? "true" : "" }));
    const clear = element("button", {}, words("Clear filters"));
    clear.addEventListener("click", () => this._go({}, { push: true }));
    return element(
      "div",
      { className: "line" },
      this._search,
      this._statuses,
      this._types,
      this._webhooks,
      this._customer,
      element("label", {}, this._problems, words("Problems only")),
      clear,
    );
  }

  _typed(input, name) {
    clearTimeout(this._typing);
    this._typing = setTimeout(() => {
      const parts = input.value.split(",").map((part) => part.trim()).filter(Boolean);
      this._change({ [name]: name === "customer_id" ? (parts[0] ?? "") : parts });
    }, TYPING_MILLISECONDS);
  }

  _find() {
    const found = lookup(this._search.value);
    if (found?.filter) this._change(found.filter);
    else if (found?.path.startsWith("/webhooks/")) this._change({ webhook_ids: [found.path.split("/")[2]] });
    else if (found?.path.startsWith("/events/")) this._change({ event_id: found.path.split("/")[2] });
    this._search.value = "";
  }

  // --- the filter ---------------------------------------------------------------------------------------------------

  _change(changes) {
    this._go({ ...this._filter, ...changes }, { push: true });
  }

  /** Shows what a filter says, and keeps it in the address. */
  _go(filter, { push }) {
    this._filter = filter;
    if (push) history.pushState(null, "", `/${queryOf(filter)}`);
    this._statuses.value = filter.statuses?.[0] ?? "";
    this._problems.checked = filter.problems === "true";
    for (const [input, value] of [[this._types, filter.event_types], [this._webhooks, filter.webhook_ids], [this._customer, filter.customer_id]]) {
      if (this.shadowRoot.activeElement !== input) input.value = [value ?? []].flat().join(",");
    }
    Object.assign(this._list, {
      language: this._language,
      utc: this._utc,
      customerId: filter.customer_id ?? "",
      webhookIds: filter.webhook_ids ?? [],
      eventTypes: filter.event_types ?? [],
      statuses: filter.statuses ?? [],
      eventId: filter.event_id ?? "",
      problems: filter.problems === "true",
    });
    if (this._list.isConnected && this._list.store) this._list.start();
  }

  // --- the line of numbers ------------------------------------------------------------------------------------------

  _state({ state, problem }) {
    this._is = state;
    if (state === "refused" && problem instanceof Problem && problem.status === 401) this._askForToken(problem);
    this._numbers();
  }

  _togglePause() {
    this._list.paused = !this._list.paused;
    if (!this._list.paused) this._list.release();
    this._numbers();
  }

  _numbers() {
    const { store } = this._list;
    if (!store) return;
    const words = this._words;
    const now = this._list.now();
    const isLive = this._is === "live";
    this._live.className = `live ${isLive ? "live-on" : this._is === "resuming" ? "live-cut" : "live-off"}`;
    const state = this._list.paused ? words("Paused by you") : isLive ? words("Live") : words("Stream interrupted, resuming");
    const rate = words("{n} attempts/s", { n: Math.round(store.rate(now) * 10) / 10 });
    const parts = isLive ? [state, rate, words("{n} s behind", { n: Math.round(store.behindSeconds * 10) / 10 })] : [state];
    this._live.replaceChildren(icon("disc"), parts.join("    "));
    this._pause.textContent = this._list.paused ? words("Go on live") : words("Pause the list");
    this._draw(store.attempts(now));
  }

  _draw(bins) {
    const classed = bins.map(classesOf);
    const most = Math.max(1, ...classed.map((bin) => bin.succeeded + bin.square + bin.other));
    const bars = classed.flatMap((bin, index) => barsOf(bin, index, most));
    this._bars.replaceChildren(...bars);
    const sum = (name) => classed.reduce((total, bin) => total + bin[name], 0);
    const words = this._words;
    const count = (shape, name, text) => element("span", {}, icon(shape), words(`{n}`, { n: sum(name) }), ` ${words(text)}`);
    this._counts.replaceChildren(
      count("disc", "succeeded", "Succeeded"),
      count("square", "square", "Answered with an error"),
      count("triangle", "other", "no answer"),
    );
  }
}

function classesOf(bin) {
  const found = { succeeded: 0, square: 0, other: 0 };
  for (const [outcome, count] of Object.entries(bin)) {
    if (outcome === "succeeded") found.succeeded += count;
    else if (SHAPES[outcome] === "square") found.square += count;
    else found.other += count;
  }
  return found;
}

function barsOf(bin, index, most) {
  let bottom = BARS_HEIGHT;
  return ["succeeded", "square", "other"].map((name) => {
    const height = (bin[name] / most) * BARS_HEIGHT;
    bottom -= height;
    const bar = document.createElementNS(SVG, "rect");
    for (const [attribute, value] of Object.entries({ x: index * 4, y: bottom, width: 3, height, class: name })) bar.setAttribute(attribute, String(value));
    return bar;
  });
}

function stored(name, known) {
  const value = localStorage.getItem(`webhook-grpc ${name}`);
  return known.includes(value) ? value : undefined;
}

customElements.define("wg-app", App);

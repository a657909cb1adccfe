// The page: its head, the token, and the view that the address names.

import { Api, Problem } from "./data/api.js";
import { parse, queryOf } from "./data/route.js";
import { absolute } from "./data/time.js";
import { LANGUAGES, languageOf, wordsOf } from "./data/words.js";
import { HEAD_LOOK, Head, THEMES, settingNodes } from "./frame/head.js";
import { element, sheetOf, sheets } from "./shared/look.js";
import { load, nameOf } from "./views.js";

const TOAST_MILLISECONDS = 4000;
const LINKED_MILLISECONDS = 10_000; // of a toast with a link, which has to be reached
const OTHER_TAB_MILLISECONDS = 150; // in which another tab hands its token over

const LOOK = `
:host { box-sizing: border-box; display: flex; flex-direction: column; height: 100vh; height: 100dvh; padding: 8px 16px; gap: 8px; }
header, .line { display: flex; flex-wrap: wrap; gap: 8px 12px; align-items: center; }
h1 { font-size: 16px; margin: 0; }
a { color: var(--accent); }
.grow { flex: 1; }
label { display: flex; gap: 6px; align-items: center; }
dialog { background: var(--bg); color: var(--ink); border: 1px solid var(--line); border-radius: 6px; padding: 24px; max-width: 480px; box-shadow: 0 8px 32px #0006; }
dialog form { display: grid; gap: 12px; }
.banner { display: flex; flex-wrap: wrap; gap: 4px 12px; justify-content: space-between; border: 1px solid var(--bad); border-radius: 6px; padding: 6px 12px; overflow-wrap: anywhere; }
.banner svg { vertical-align: text-bottom; }
.problem { color: var(--bad); }
.toast { position: fixed; bottom: 16px; left: 50%; transform: translateX(-50%); background: var(--ink); color: var(--bg); border-radius: 6px; padding: 8px 16px; width: max-content; max-width: calc(100vw - 32px); z-index: 4; }
.toast a { color: inherit; }
@media (max-width: 480px), (max-height: 600px) {
  :host { height: auto; min-height: 100dvh; } /* the page scrolls: its head would leave a list two rows */
}
@media (max-width: 480px) {
  h1, .grow { display: none; }
  header { gap: 4px 8px; }
  header select { max-width: 84px; padding: 2px 4px; }
}
`;

const DOCUMENT_LOOK = "html, body { margin: 0; height: 100%; background: Canvas; }";

/** `getToken` may be set: see docs/page.md. */
class App extends HTMLElement {
  constructor() {
    super();
    this.attachShadow({ mode: "open" }).adoptedStyleSheets = sheets(LOOK);
    this._turn = 0; // of the routes: a view that is loaded late is not shown
    this._token = "";
    this._customer = ""; // that lists are of, for an operator; written by _route
    this._language = stored("language", LANGUAGES) ?? languageOf(navigator.languages ?? []);
    this._theme = stored("theme", THEMES) ?? "auto";
    this._utc = stored("zone", ["utc", "local"]) === "utc";
    this._getToken = async () => this._token;
    this._api = new Api({ getToken: this._getToken });
    this._api.addEventListener("refused", ({ detail }) => this._refused(detail));
    this._shareToken();
  }

  connectedCallback() {
    addEventListener("popstate", () => this._route());
    addEventListener("unhandledrejection", (event) => this._notLoaded(event));
    this.shadowRoot.addEventListener("click", (event) => this._followLink(event));
    this.addEventListener("acted", () => this._banner.hasChildNodes() && this._showBanner({ isNew: true }));
    document.adoptedStyleSheets = [sheetOf(DOCUMENT_LOOK)];
    this._show();
    this._learnCaller();
    this._takeKeys();
  }

  /** What all views share. */
  get _page() {
    const options = { language: this._language, utc: this._utc };
    return {
      api: this._api,
      getToken: this._getToken,
      words: this._words,
      language: this._language,
      utc: this._utc,
      options,
      caller: this._caller,
      customerId: this._customer,
      now: () => Date.now(),
      clock: (at) => absolute(at, options),
      go: (path) => this._go(path),
      refused: (problem) => this._refused(problem),
      toast: (text, link) => this._say(text, link),
      confirm: (text, verb, options) => this._confirm(text, verb, options),
    };
  }

  /** Asks who is calling. Nothing else is asked, and no view is shown, before that is known. */
  async _learnCaller() {
    const before = this._caller;
    try {
      this._caller = await this._api.get("/api/caller");
    } catch (error) {
      if (error.status !== 401) this._showProblem(error, () => this._learnCaller());
      return;
    }
    const isSame = before?.customer_id === this._caller.customer_id; // another customer's rows are not shown on
    if (!isSame || !this._view?.signedIn) return this._route({ isNew: true });
    this._showBanner({ isNew: true });
    this._view.signedIn();
  }

  /** Shows, on every page, which webhooks are disabled. */
  async _showBanner(options) {
    const { showDisabled } = await import("./frame/banner.js");
    await showDisabled(this._banner, this._page, options);
  }

  // --- the token ----------------------------------------------------------------------------------------------------

  /** A token is handed from tab to tab, and never stored. */
  _shareToken() {
    this._channel = new BroadcastChannel("webhook-grpc token");
    this._channel.addEventListener("message", ({ data }) => {
      if (this.getToken) return; // whose tokens are for its reader
      if (data.wanted && this._token) this._channel.postMessage({ token: this._token });
      else this.goOnWith(data.token);
    });
    this._channel.postMessage({ wanted: true });
  }

  /** Takes a token that was not refused; returns whether there is one now. */
  goOnWith(token) {
    if (token && token !== this._refusedToken && !this._token) this._signIn(token);
    return this._token;
  }

  _signIn(token) {
    this._token = token;
    this._dialog?.close();
    this._learnCaller();
  }

  /** Asks for a token: `getToken`, or else first the other tabs, then the reader. */
  _refused(problem) {
    if (!(problem instanceof Problem) || problem.status !== 401 || problem.isOfOldToken) return;
    if (this._token) this._refusedToken = this._token; // which another tab may still have
    this._token = "";
    if (this.getToken) return void import("./frame/renewal.js").then(({ renew }) => renew(this));
    this._channel.postMessage({ wanted: true });
    const why = problem.reason === "TOKEN_MISSING" ? "" : this._words("The token was refused");
    setTimeout(() => this._askToken(why), OTHER_TAB_MILLISECONDS);
  }

  /** Shows the form, unless another tab has handed a token over. */
  async _askToken(why) {
    const { askToken } = await import("./frame/sign-in.js");
    if (this._token || this._dialog?.open) return;
    this._dialog?.remove();
    this._dialog = askToken(this.shadowRoot, this._words, why, (token) => this._signIn(token));
  }

  // --- questions and answers ------------------------------------------------------------------------------------------

  /** Asks before an act: see shared/dialog.js. */
  async _confirm(text, verb, options) {
    const { ask } = await import("./shared/dialog.js");
    return ask(this.shadowRoot, this._page, { text, verb, ...options });
  }

  /** Shows a sentence for a while; `link` ({href, text}) is where it leads. */
  _say(text, link) {
    this._toast.replaceChildren(text, ...(link ? [" ", element("a", { href: link.href }, link.text)] : []));
    this._toast.hidden = false;
    this._hideLater(link ? LINKED_MILLISECONDS : TOAST_MILLISECONDS);
  }

  /** Hides the toast after a while, unless the reader is at its link then. */
  _hideLater(wait) {
    clearTimeout(this._saying);
    const hide = () => (this._toast.matches(":hover, :focus-within") ? this._hideLater(wait) : (this._toast.hidden = true));
    this._saying = setTimeout(hide, wait);
  }

  // --- where to -------------------------------------------------------------------------------------------------------

  _go(path) {
    history.pushState({ isInside: true }, "", path);
    this._route();
  }

  _followLink(event) {
    const link = event.target.closest?.("a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    const href = link.getAttribute("href");
    if (href.startsWith("/")) this._go(href);
  }

  /** Says that a part of the page could not be loaded. */
  _notLoaded(event) {
    if (!/import|module/i.test(event.reason?.message)) return;
    event.preventDefault();
    this._say(this._words("The service is away, so this could not be loaded. Try again."));
  }

  /** Loads the keys. */
  async _takeKeys() {
    const { Keys } = await import("./frame/keys.js");
    this._keys = new Keys({
      root: this.shadowRoot,
      page: () => this._page,
      view: () => this._view,
      toggleZone: () => this._setZone(!this._utc),
      leave: () => this._leave(),
    });
    addEventListener("keydown", (event) => this._keys.take(event));
    this._help.disabled = false;
  }

  /** Goes back, or to the list of what is shown. */
  _leave() {
    if (history.state?.isInside) history.back();
    else if (this._route_?.id) this._go(`/${this._route_.page}${queryOf({ customer_id: this._customer })}`);
  }

  /** Shows the list of another customer. */
  _chooseCustomer(customerId) {
    this._customer = customerId;
    const { page = "", id, filter } = this._route_ ?? {};
    this._go((id ? `/${page}` : location.pathname) + queryOf({ ...(id ? {} : filter), customer_id: customerId }));
  }

  /** Shows the view of the address. */
  async _route({ isNew = false } = {}) {
    if (!this._caller) return;
    this._showBanner({ isNew });
    const route = parse(location.href);
    const name = nameOf(route);
    this._route_ = route;
    if (route && !route.id) this._customer = route.filter.customer_id ?? ""; // one item says its own, which is not kept
    this._where.show(route, this._customer, this._caller);
    const turn = ++this._turn;
    import("./frame/title.js").then(({ showTitle }) => showTitle(this._route_, this._words));
    if (!isNew && this._view && this._name === name && this._view.update?.(route)) return;
    try {
      const module = await load(name);
      if (turn === this._turn) this._showView(name, module, route);
    } catch (error) {
      if (turn === this._turn) this._showProblem(error, () => location.reload());
    }
  }

  _showView(name, module, route) {
    this._view?.stop();
    this._name = name;
    this.shadowRoot.adoptedStyleSheets = sheets(LOOK + HEAD_LOOK + module.LOOK);
    this._view = module.view(this._page, route);
    this._outlet.replaceChildren(this._view.node);
  }

  /** Shows a problem in place of the view; only its text if nothing more can be loaded. */
  async _showProblem(error, retry) {
    const turn = this._turn;
    const { problemNode = textOf } = await import("./shared/problem.js").catch(() => ({}));
    if (turn === this._turn) this._outlet.replaceChildren(problemNode(this._page, error, retry));
  }

  // --- the head -------------------------------------------------------------------------------------------------------

  _show() {
    this._words = wordsOf(this._language, (text) => console.warn(`no translation: ${text}`));
    document.documentElement.lang = this._language;
    this._setTheme();
    this._toast = element("div", { className: "toast", role: "status", hidden: true });
    this._outlet = element("div", { className: "live-page" });
    this._banner = element("div", {});
    this._view?.stop();
    this._view = undefined;
    this.shadowRoot.replaceChildren(this._head(), this._banner, this._outlet, this._toast);
    this._route();
  }

  _head() {
    this._where = new Head(this._words, (customerId) => this._chooseCustomer(customerId));
    const settings = { language: this._language, zone: this._utc ? "utc" : "local", theme: this._theme };
    const set = {
      language: (value) => this._keep("language", (this._language = value)),
      zone: (value) => this._setZone(value === "utc"),
      theme: (value) => this._keep("theme", (this._theme = value)),
      help: () => this._keys.help(),
    };
    const chosen = settingNodes(this._words, settings, set);
    this._help = chosen.at(-1);
    this._help.disabled = !this._keys;
    const title = element("h1", {}, "webhook-grpc");
    return element("header", {}, title, ...this._where.nodes, element("span", { className: "grow" }), ...chosen);
  }

  _setZone(isUtc) {
    this._utc = isUtc;
    this._keep("zone", isUtc ? "utc" : "local");
  }

  _keep(name, value) {
    localStorage.setItem(`webhook-grpc ${name}`, value);
    this._show();
  }

  _setTheme() {
    if (this._theme === "auto") this.removeAttribute("theme");
    else this.setAttribute("theme", this._theme);
  }
}

function textOf({ words }, error, retry) {
  const button = element("button", {}, words("Try again"));
  button.addEventListener("click", retry);
  return element("div", { role: "alert" }, error.message, " ", button);
}

function stored(name, known) {
  const value = localStorage.getItem(`webhook-grpc ${name}`);
  return known.includes(value) ? value : undefined;
}

customElements.define("wg-app", App);

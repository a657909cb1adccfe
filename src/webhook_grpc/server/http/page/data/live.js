// Where a live list comes from (a stream, and a list that is loaded when the stream does not say it), and what holds it
// still. Nothing here touches the document.

import { Problem } from "./api.js";
import { LiveStream } from "./stream.js";
import { milliseconds } from "./time.js";

export const LET_GO_MILLISECONDS = 2000;
const OPENING_MILLISECONDS = 2000; // the list is loaded after that long, even if the stream is not open
const HIDDEN_MILLISECONDS = 60_000; // a browser has six connections for a host; a tab that nobody sees gives its own back
const AWAY_MILLISECONDS = 600_000; // after that long the list is loaded, rather than all that has happened since

const GONE = "The log no longer reaches back to {time}; what happened between is in the list below";
const HIDDEN = "This tab was hidden at {time}; what happened since then is in the list below";

/**
 * Keeps a store up to date. `state` is where the stream stands; only this writes it:
 *   {name: "opening"}
 *   {name: "live", isResumed}
 *   {name: "resuming", at, wasOpen, problem}   cut, or not opened, at a time; it is tried again
 *   {name: "refused", problem}                 a token or a filter; nothing is tried until `again`
 *   {name: "away", at}                         the tab is hidden
 * `listProblem` is why the list could not be loaded, or undefined.
 */
export class LiveSource {
  /**
   * `paths` are those of the stream and of the list. `listener` is called back: changed() for new rows, state() for a new
   * state, came(delivery) for each change, divided(text, at) for a line between the rows of before and what comes.
   */
  constructor(api, paths, store, listener) {
    Object.assign(this, { _api: api, _paths: paths, _store: store, _listener: listener });
    this.state = { name: "opening" };
    this.isLoaded = false;
    this._offset = 0; // of the server's clock, in milliseconds
    this._heardAt = 0; // when the last message came
    this._stream = new LiveStream(api, paths.watch, {
      opened: ({ isResumed }) => this._opened(isResumed),
      message: (message) => this._message(message),
      interrupted: (_, problem) => this._interrupted(problem),
      restarted: () => this._divide(GONE, this.state.at ?? this._heardAt),
      refused: (problem) => this._become({ name: "refused", problem }),
    });
  }

  /** The server's time, in milliseconds. */
  now() {
    return Date.now() + this._offset;
  }

  start() {
    this._opening = setTimeout(() => this.load(), OPENING_MILLISECONDS);
    this._stream.run();
  }

  stop() {
    clearTimeout(this._opening);
    clearTimeout(this._leaving);
    this._stream.stop();
    this._loading?.abort();
  }

  /** Goes on from where the stream stopped, with another token, say. */
  again() {
    this._become({ name: "opening" });
    this._stream.stop();
    this._stream.run();
    if (this.listProblem) this.load();
  }

  /** A tab that is hidden for a minute closes its stream; when it is seen again, the stream is resumed. */
  hidden(isHidden) {
    clearTimeout(this._leaving);
    if (isHidden) this._hiddenAt = this.now();
    if (isHidden) this._leaving = setTimeout(() => this._leave(), HIDDEN_MILLISECONDS);
    else if (this.state.name === "away") this._return(this.state.at);
  }

  _leave() {
    if (this.state.name === "refused") return;
    this._stream.stop();
    this._become({ name: "away", at: this._hiddenAt });
  }

  _return(at) {
    if (this.now() - at >= AWAY_MILLISECONDS) {
      this._stream.forget();
      this._divide(HIDDEN, at);
    }
    this.again();
  }

  /** Loads the list. What the stream has brought meanwhile stays. */
  async load() {
    clearTimeout(this._opening);
    this._loading?.abort();
    const loading = (this._loading = new AbortController());
    try {
      const page = await this._api.get(this._paths.list, loading);
      this._store.load(page.deliveries);
      this.listProblem = undefined;
    } catch (error) {
      if (error.name === "AbortError") return;
      this.listProblem = error;
    }
    this.isLoaded = true;
    this._listener.state(this.state);
    this._listener.changed();
  }

  _become(state) {
    this.state = state;
    this._listener.state(state);
  }

  _opened(isResumed) {
    this._become({ name: "live", isResumed });
    if (!isResumed || !this.isLoaded) this.load();
  }

  _message(message) {
    const at = milliseconds(message.server_time);
    if (!Number.isNaN(at)) this._offset = at - Date.now();
    this._heardAt = this.now();
    for (const delivery of message.deliveries) {
      this._listener.came(delivery);
      this._store.change(delivery, this._heardAt);
    }
    if (message.deliveries.length) this._listener.changed();
  }

  _interrupted(problem) {
    const { name } = this.state;
    const before = name === "resuming" ? this.state : { at: this.now(), wasOpen: name === "live" };
    this._become({ name: "resuming", at: before.at, wasOpen: before.wasOpen, problem });
    if (!this.isLoaded) this.load();
  }

  _divide(text, at) {
    this._store.divide(this._listener.divided(text, at), this.now());
    this._listener.changed();
  }
}

/** Returns what a state says to the reader, and its colour; "" if there is nothing to be said. */
export function barOf({ state, listProblem }, now, words) {
  if (state.name === "refused") return { text: refusalOf(state.problem, words), colour: "bad", mayRetry: state.problem.status !== 401 };
  if (state.name === "resuming") return { text: interruption(state, now, words), colour: "wait" };
  if (listProblem) return { text: listProblem.message || words("Try again"), colour: "bad", mayRetry: true };
  if (state.name === "live" && state.isResumed) return { text: words("Nothing was missed"), colour: "good" };
  return { text: "", colour: "" };
}

function refusalOf(problem, words) {
  if (problem.status === 401) return words("The token was refused");
  return [problem.message, problem.reason].filter(Boolean).join(" · ");
}

function interruption({ at, wasOpen, problem }, now, words) {
  const n = Math.max(0, Math.round((now - at) / 1000));
  const what = wasOpen
    ? words("Stream interrupted {n} s ago; resuming from where it stopped", { n })
    : words("The stream could not be opened {n} s ago; it is tried again", { n });
  return [what, whyOf(problem, words)].filter(Boolean).join(" · ");
}

function whyOf(problem, words) {
  if (!(problem instanceof Problem)) return "";
  if (problem.reason === "WATCHER_TOO_SLOW") return words("This page could not keep up; a filter helps");
  return problem.message;
}

/**
 * Holds a list as long as there is a reason: the pointer, the focus, a dialog, a scroll, or the reader, who said so. The
 * last one lets go at once; after the others two seconds pass, so that a pointer that crosses an edge moves nothing.
 */
export class Hold {
  /** `held()` is called with the first reason, `released()` when the last one is gone for long enough. */
  constructor({ held, released, later = (run, wait) => setTimeout(run, wait), never = (timer) => clearTimeout(timer) }) {
    Object.assign(this, { _held: held, _released: released, _later: later, _never: never });
    this._reasons = new Set();
  }

  /** Whether it is held: there is a reason, or there was one less than two seconds ago. */
  get isHeld() {
    return this._reasons.size > 0 || this._timer !== undefined;
  }

  has(reason) {
    return this._reasons.has(reason);
  }

  /** Adds or removes a reason. */
  set(reason, isThere) {
    if (isThere === this._reasons.has(reason)) return;
    const wasHeld = this.isHeld;
    this._stopTimer();
    if (isThere) this._reasons.add(reason);
    else this._reasons.delete(reason);
    if (isThere && !wasHeld) this._held();
    if (this._reasons.size === 0) this._letGo(reason);
  }

  /** Ends: nothing is called any more. */
  stop() {
    this._stopTimer();
    this._reasons.clear();
  }

  _letGo(reason) {
    if (reason === "reader") return this._released();
    this._timer = this._later(() => {
      this._timer = undefined;
      this._released();
    }, LET_GO_MILLISECONDS);
  }

  _stopTimer() {
    if (this._timer !== undefined) this._never(this._timer);
    this._timer = undefined;
  }
}

/** What is said to those who do not see the list: at most one sentence each ten seconds, with what came since. */
export class Announcer {
  constructor({ everyMilliseconds = 10_000 } = {}) {
    this._every = everyMilliseconds;
    this._saidAt = -Infinity;
    this._new = 0;
    this._failed = 0;
  }

  /** Counts a delivery that came, and whether it failed. */
  count(isNew, hasFailed) {
    this._new += isNew ? 1 : 0;
    this._failed += hasFailed ? 1 : 0;
  }

  /** Returns the sentence that is due, or "" if there is none. */
  due(now, words) {
    if (now - this._saidAt < this._every || (this._new === 0 && this._failed === 0)) return "";
    const said = this._failed ? words("{n} new, {m} failed", { n: this._new, m: this._failed }) : words("{n} new", { n: this._new });
    this._saidAt = now;
    this._new = this._failed = 0;
    return said;
  }
}

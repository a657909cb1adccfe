// The live stream: server-sent events read with fetch (EventSource can't send a token), resumed from the last id.

import { parse } from "./json-text.js";
import { Problem } from "./api.js";

export const SILENCE_SECONDS = 45; // the server sends something each 15 s
export const BACK_OFF_SECONDS = [0.2, 0.5, 1, 2, 5];
const JITTER = 0.2;
const RETRY_SECONDS_MAX = 60; // of the Retry-After of a server
const STARTS_AGAIN = new Set(["CURSOR_EXPIRED", "CURSOR_OF_OTHER_LOG", "CURSOR_INVALID"]);

/** Splits the text of an event stream into events (the WHATWG's rules, as far as the server uses them). */
export class EventParser {
  constructor() {
    this._rest = "";
  }

  /** Takes more text and returns the events that are complete: {event, data, id}. */
  feed(text) {
    const blocks = (this._rest + text).replaceAll("\r\n", "\n").split("\n\n");
    this._rest = blocks.pop();
    return blocks.map(eventOf);
  }
}

function eventOf(block) {
  const found = { event: "message", data: "", id: "" };
  for (const line of block.split("\n")) {
    const [, name, value] = /^([^:]*):? ?(.*)$/su.exec(line);
    if (name === "data") found.data += (found.data && "\n") + value;
    else if (name === "event" || name === "id") found[name] = value;
  }
  return found;
}

/**
 * Follows the stream of one filter until it is stopped, and reports to `listener`:
 *   opened({isResumed})  the stream is open: what happens from now on comes
 *   message(message)     a message of WatchDeliveries
 *   interrupted(reason, problem, seconds)
 *                        it was cut, or could not be opened, and is tried again in so many seconds from where it stopped
 *   restarted(reason)    the log does not reach back: the list has to be loaded again
 *   refused(problem)     it can't be opened (a token, a filter); it is not tried again
 */
export class LiveStream {
  constructor(api, path, listener, { wait = waitSeconds, random = Math.random, silence = SILENCE_SECONDS } = {}) {
    this._api = api;
    this._path = path;
    this._listener = listener;
    this._wait = wait;
    this._random = random;
    this._silence = silence;
    this._abort = new AbortController();
    this.lastEventId = "";
  }

  /** Ends it. It may be run again, from where it stopped. */
  stop() {
    this._abort.abort();
    this._abort = new AbortController();
  }

  /** Follows the stream. Returns when it was stopped or refused. */
  async run() {
    const { signal } = this._abort;
    let failures = 0;
    while (!signal.aborted) {
      try {
        await this._follow(signal, () => (failures = 0));
      } catch (error) {
        if (signal.aborted) return;
        const seconds = this._backOff(failures++, error);
        if (!this._goesOn(error, seconds)) return;
        await this._wait(seconds, signal);
      }
    }
  }

  _backOff(failures, error) {
    const seconds = BACK_OFF_SECONDS[Math.min(failures, BACK_OFF_SECONDS.length - 1)];
    return Math.max(seconds * (1 + JITTER * (2 * this._random() - 1)), Math.min(error.retrySeconds ?? 0, RETRY_SECONDS_MAX));
  }

  /** Begins from now when it is run the next time: what has happened is to be loaded. */
  forget() {
    this.lastEventId = "";
  }

  /** Says why it ended; returns whether it makes sense to try again. */
  _goesOn(error, seconds) {
    if (STARTS_AGAIN.has(error.reason) && this.lastEventId) {
      this.forget();
      this._listener.restarted(error.reason);
      return true;
    }
    if (error.isOfStream && error.status === 401) { // its token has ended: there may be another one
      this._listener.interrupted(error.reason, error, seconds);
      return true;
    }
    const isRefused = error instanceof Problem && error.status < 500 && error.status !== 429 && error.status !== 409;
    if (isRefused) this._listener.refused(error);
    else this._listener.interrupted(error.reason ?? "", error, seconds);
    return !isRefused;
  }

  async _follow(signal, succeeded) {
    const cut = new AbortController();
    const stop = () => cut.abort();
    signal.addEventListener("abort", stop);
    try {
      const opening = this._api.open(this._path, { signal: cut.signal, lastEventId: this.lastEventId });
      const response = await within(opening, this._silence, cut);
      await this._read(response.body.getReader(), cut, succeeded);
    } finally {
      cut.abort();
      signal.removeEventListener("abort", stop);
    }
  }

  async _read(reader, cut, succeeded) {
    const parser = new EventParser();
    const decoder = new TextDecoder();
    const isResumed = this.lastEventId !== "";
    let isOpen = false;
    for (;;) {
      const { done, value } = await within(reader.read(), this._silence, cut);
      if (done) throw new Error("the stream ended");
      for (const event of parser.feed(decoder.decode(value, { stream: true }))) {
        if (event.event === "problem") throw Object.assign(new Problem(parse(event.data)), { isOfStream: true });
        if (!isOpen) this._listener.opened({ isResumed });
        isOpen = true;
        succeeded();
        if (event.data) this._listener.message(parse(event.data));
        if (event.id) this.lastEventId = event.id; // after its message was taken: what was not taken comes again
      }
    }
  }
}

async function within(promise, seconds, cut) {
  let timer;
  const silent = new Promise((_, reject) => {
    timer = setTimeout(() => {
      cut.abort();
      reject(new Error("the stream is silent"));
    }, seconds * 1000);
  });
  try {
    return await Promise.race([promise, silent]);
  } finally {
    clearTimeout(timer);
  }
}

function waitSeconds(seconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

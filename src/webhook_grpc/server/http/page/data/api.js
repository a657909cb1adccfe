// Calls of the API. The token is in this object's memory and nowhere else: in no address, no storage, no log.

import { parse } from "./json-text.js";

export const CALLS_MAX = 4;

/** A call that was refused, with the problem document (RFC 9457) that came. */
export class Problem extends Error {
  constructor(document) {
    super(document.detail ?? document.title ?? "");
    this.document = document;
    this.status = document.status;
    this.reason = document.reason ?? "";
    this.retrySeconds = document.retry_seconds;
    this.isOfOldToken = false; // written by Api: there is another token by now
    this.isOfStream = false; // written by LiveStream: it ended a stream that was open
  }
}

/**
 * Calls one service, at most four at once; further ones wait for their turn. Dispatches `refused`, with the Problem, for
 * each call that was answered with 401.
 */
export class Api extends EventTarget {
  /** `getToken` is asked before each call; an empty token is none. */
  constructor({ base = "", getToken = async () => "", fetch = globalThis.fetch.bind(globalThis) } = {}) {
    super();
    this.base = base;
    this._getToken = getToken;
    this._fetch = fetch;
    this._running = 0;
    this._turns = [];
  }

  /** Returns the JSON of a GET. Throws Problem, and AbortError if `signal` says so. */
  async get(path, { signal } = {}) {
    return parse(await this.text(path, { signal }));
  }

  /** Returns the text of a GET. */
  text(path, { signal } = {}) {
    return this._inTurn(() => this._call("GET", path, undefined, signal));
  }

  /** Sends JSON and returns what comes. `requestId` makes the call safe to repeat. */
  async send(verb, path, body, { signal, requestId, etag } = {}) {
    const headers = {
      ...(requestId && { "Idempotency-Key": requestId }),
      ...(etag && { "If-Match": `"${etag}"` }),
    };
    return parse(await this._inTurn(() => this._call(verb, path, body ?? {}, signal, headers)));
  }

  /** Opens a stream and returns its response. Throws Problem. It takes no turn: a page has one. */
  open(path, { signal, lastEventId } = {}) {
    const headers = { Accept: "text/event-stream", ...(lastEventId && { "Last-Event-ID": lastEventId }) };
    return this._request("GET", path, undefined, signal, headers);
  }

  async _call(verb, path, body, signal, headers = {}) {
    const response = await this._request(verb, path, body, signal, headers);
    return response.status === 204 ? "{}" : response.text();
  }

  async _request(verb, path, body, signal, headers) {
    const token = await this._getToken();
    const response = await this._fetch(this.base + path, {
      method: verb,
      signal,
      cache: "no-store",
      credentials: "omit",
      referrerPolicy: "no-referrer",
      headers: {
        ...headers,
        ...(token && { Authorization: `Bearer ${token}` }),
        ...(body !== undefined && { "Content-Type": "application/json" }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    if (!response.ok) throw await this._problemOf(response, token);
    return response;
  }

  async _problemOf(response, token) {
    const problem = await problemOf(response);
    problem.isOfOldToken = (await this._getToken()) !== token;
    if (problem.status === 401) this.dispatchEvent(new CustomEvent("refused", { detail: problem }));
    return problem;
  }

  async _inTurn(call) {
    if (this._running >= CALLS_MAX) await new Promise((resolve) => this._turns.push(resolve));
    this._running += 1;
    try {
      return await call();
    } finally {
      this._running -= 1;
      this._turns.shift()?.();
    }
  }
}

async function problemOf(response) {
  const fallback = { status: response.status, title: response.statusText, detail: `HTTP ${response.status}` };
  try {
    return new Problem({ ...fallback, ...parse(await response.text()) });
  } catch {
    return new Problem(fallback);
  }
}

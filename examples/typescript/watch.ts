// Watches deliveries in a browser over the event stream, with the types of /api/openapi.json; it runs in Node as well.

import type { components } from "@webhook-grpc/stubs/openapi";

export type Delivery = components["schemas"]["Delivery"];
type Message = components["schemas"]["WatchDeliveriesResponse"];
type Problem = components["schemas"]["Problem"];

export interface Watch {
  /** Where the service is; empty on the service's own pages. */
  origin: string;
  /** Filters, as query parameters of `GET /api/deliveries:watch`. */
  filters: Record<string, string>;
  /** Returns a token. Called for each connection, so that a short-lived one is renewed. */
  getToken?: () => Promise<string>;
  signal?: AbortSignal;
}

const PAUSES_MS = [100, 300, 1000, 3000];

/** Yields deliveries as they stand after each change, oldest first. Resumes after every interruption, without a gap. */
export async function* watch({ origin, filters, getToken, signal }: Watch): AsyncGenerator<Delivery> {
  const url = `${origin}/api/deliveries:watch?${new URLSearchParams(filters)}`;
  let cursor = "";
  for (let failures = 0; !signal?.aborted; failures += 1) {
    try {
      const headers: Record<string, string> = { Accept: "text/event-stream" };
      if (getToken) headers["Authorization"] = `Bearer ${await getToken()}`;
      if (cursor) headers["Last-Event-ID"] = cursor;
      const response = await fetch(url, { headers, signal: signal ?? null });
      if (!response.ok || !response.body) throw await refusal(response);
      for await (const event of events(response.body)) {
        failures = 0;
        if (event.kind === "problem") break; // it is being stopped, or this reader was too slow: resume
        if (event.data) yield* (JSON.parse(event.data) as Message).deliveries;
        cursor = event.id || cursor; // only now is everything before it with the caller
      }
    } catch (error) {
      if (signal?.aborted || error instanceof Refused) throw error;
    }
    await new Promise((done) => setTimeout(done, PAUSES_MS[Math.min(failures, PAUSES_MS.length - 1)]));
  }
}

/** The service refuses to be watched like this, and would refuse it again. */
export class Refused extends Error {}

async function refusal(response: Response): Promise<Error> {
  const isFinal = response.status >= 400 && response.status < 500 && response.status !== 429;
  const problem = (await response.json().catch(() => ({}))) as Partial<Problem>;
  const text = `${response.status} ${problem.detail ?? response.statusText}`;
  return isFinal ? new Refused(text) : new Error(text);
}

/** Yields the events of a stream (WHATWG, "Server-sent events"): a field a line, an empty line ends an event. */
async function* events(body: ReadableStream<Uint8Array>): AsyncGenerator<{ id: string; kind: string; data: string }> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let event = { id: "", kind: "message", data: "" };
  try {
    for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
      const lines = (rest + decoder.decode(chunk.value, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line) ?? [];
        if (name === "id") event.id = value ?? "";
        else if (name === "event") event.kind = value ?? "";
        else if (name === "data") event.data += value ?? "";
        else if (line === "") {
          yield event;
          event = { id: "", kind: "message", data: "" };
        }
      }
    }
  } finally {
    await reader.cancel();
  }
}

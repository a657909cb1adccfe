/** How to reach the service from Node over gRPC. Written by hand, as client.js is; the rest of this folder is generated. */
import type { Client } from "@connectrpc/connect";
import type { WebhookService } from "./webhook/v1/service_pb.js";

export interface ClientOptions {
  /** The token of each call. */
  token?: string;
  /** A file with the token, read for each call, so that a new one is used at once. Not beside `token`. */
  tokenFile?: string;
  /** On by default but for loopback. PEM: the authorities to trust (none: Node's), an own certificate and its key. */
  tls?: boolean | { ca?: string | Buffer; cert?: string | Buffer; key?: string | Buffer };
}

/** Returns a client of the service at `host:port`. Its calls throw ConnectError: see `problemOf`. */
export function webhookClient(address: string, options?: ClientOptions): Client<typeof WebhookService>;

/** What the service reports about a call that failed. */
export interface Problem {
  /** The status of gRPC as a number: 3 is INVALID_ARGUMENT, 14 UNAVAILABLE. */
  code: number;
  /** A sentence for people. */
  message: string;
  /** A fixed word such as EVENT_TYPE_UNKNOWN, empty if the service has not answered. */
  reason: string;
  /** The fields at fault, and what is wrong with each. */
  violations: { field: string; description: string }[];
  /** How long to wait before the next try, if the service says so. */
  retrySeconds?: number;
}

/** Returns what the service reports in an error of a call. */
export function problemOf(error: unknown): Problem;

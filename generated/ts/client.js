// Reaches the service from Node over gRPC: see client.d.ts. Written by hand; the rest of this folder is generated.

import { readFileSync } from "node:fs";

import { ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";

import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./google/rpc/error_details_pb.js";
import { WebhookService } from "./webhook/v1/service_pb.js";

const LOOPBACK = /^(localhost|127(\.\d+){3}|\[::1\]):\d+$/; // whole: localhost.example.com is not on this machine

export function webhookClient(address, { token, tokenFile, tls } = {}) {
  if (token !== undefined && tokenFile !== undefined) throw new TypeError("either token or tokenFile, not both");
  const secure = tls ?? !LOOPBACK.test(address);
  const shown = () => (tokenFile === undefined ? token : readFileSync(tokenFile, "utf8").trim());
  const authorize = (next) => (request) => {
    const text = shown();
    if (text) request.header.set("authorization", `Bearer ${text}`);
    return next(request);
  };
  const transport = createGrpcTransport({
    baseUrl: `${secure ? "https" : "http"}://${address}`,
    interceptors: [authorize],
    nodeOptions: typeof secure === "object" ? secure : undefined,
  });
  return createClient(WebhookService, transport);
}

export function problemOf(error) {
  const found = ConnectError.from(error);
  const [info] = found.findDetails(ErrorInfoSchema);
  const [retry] = found.findDetails(RetryInfoSchema);
  const violations = found.findDetails(BadRequestSchema).flatMap((request) => request.fieldViolations);
  return {
    code: found.code,
    message: found.rawMessage,
    reason: info?.reason ?? "",
    violations: violations.map(({ field, description }) => ({ field, description })),
    retrySeconds: retry?.retryDelay && Number(retry.retryDelay.seconds) + retry.retryDelay.nanos / 1e9,
  };
}

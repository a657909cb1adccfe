// Package client publishes events to webhook-grpc, watches what becomes of them, and verifies the signatures of
// deliveries.
//
// A [Client] is one connection, which connects when it is first used. [Client.Publish] publishes one event,
// a [Publisher] sends what many goroutines publish in batches, and a [Watcher] goes on after every interruption, without
// a gap. Other methods of the service: [Client.Service]. Receivers need [Verify] or [VerifySignature] only.
//
// Errors of calls are [RefusedError], [UnauthorizedError], [UnavailableError] or [CursorExpiredError], by what a caller
// can do about them; each is a [WebhookError] too, for [errors.As].
package client

"""The gRPC door: what a call is on a stream of HTTP/2 (http2/), health checks, reflection. Only here is hpack."""

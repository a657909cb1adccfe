"""webhook-grpc: events in over gRPC, signed webhooks out, every result watched live."""

__version__ = "0.1.0"

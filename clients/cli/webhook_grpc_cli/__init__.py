"""The command line of webhook-grpc: nouns and verbs of the API. It needs the client and the stubs, not the server."""

__version__ = "0.1.0"

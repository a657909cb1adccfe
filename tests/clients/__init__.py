"""The Python client and the Go client: what they decide, and against the live service."""

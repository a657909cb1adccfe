"""The Python client: what it decides, and against the live service."""

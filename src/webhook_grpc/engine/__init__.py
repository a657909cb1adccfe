"""The delivery engine: own shards, find what is due, send it, settle it. Knows the store, not the API."""

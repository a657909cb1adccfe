"""The delivery engine: own shards (ownership.py renews the lease), find what is due, send it, settle it.

Knows the store, not the API.
"""

"""The delivery engine: own shards, find what is due, send it, settle it. Knows the store, not the API.

ownership.py renews the lease, and takes the shards of processes whose lease ran out.
"""

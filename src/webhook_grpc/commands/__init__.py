"""The service's own commands that do one thing and end: migrate, keys, tokens, settings, doctor. cli.py names them.

What a start checks as well (version, encoding, fsync) is in store/connection/server_checks.py; postgres.py judges what
only doctor looks at. Those that call a running service (events, webhooks, watch and more) are a program of their own,
in clients/cli.
"""

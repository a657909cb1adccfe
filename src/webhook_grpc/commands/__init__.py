"""The service's own commands that do one thing and end: migrate, keys, tokens, settings, doctor. cli.py names them.

Those that call a running service (events, webhooks, watch and more) are a program of their own, in clients/cli.
"""

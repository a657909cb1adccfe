"""The service's own commands that do one thing and end, as `keys` and `tokens`.

cli.py adds a command, and has `migrate` and `serve` itself; `OWN` in __main__.py lists their first words. doctor.py is
run by `doctor --server` of the command line.

What a start checks as well (version, encoding, fsync) is in store/connection/server_checks.py; postgres.py judges what
only doctor looks at. Those that call a running service (events, webhooks, watch and more) are a program of their own,
in clients/cli.
"""

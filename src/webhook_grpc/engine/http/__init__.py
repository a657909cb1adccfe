"""The HTTP client: one request, one typed result, and the guards around it.

dialling.py asks domain/egress.py before a connection, connection.py asks again about the peer that it got.

The only place that imports httptools.
"""

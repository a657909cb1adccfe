"""The HTTP client: one request, one typed result, and the guards around it (dialling.py: which address).

The only place that imports httptools.
"""

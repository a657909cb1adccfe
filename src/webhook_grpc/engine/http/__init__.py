"""The HTTP client: one request, one typed result, and the guards around it; dialling.py decides which address is dialled.

The only place that imports httptools.
"""

"""The gRPC door: what a call is on a stream of HTTP/2 (http2/), health checks, reflection. Only here is hpack.

api/codes.py gives an error its code, for both doors; error_details.py adds what gRPC sends with it.
"""

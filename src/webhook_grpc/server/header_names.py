"""Names of header fields that the doors read and send: headers of HTTP, metadata of gRPC. In one table.

In lower case where a door compares names, and in bytes where it meets them on the wire.
"""

from __future__ import annotations

from typing import Final

# Of every call, whatever the door
REQUEST_ID: Final = "x-request-id"
AUTHORIZATION: Final = "authorization"
TRACEPARENT: Final = "traceparent"

# HTTP
RETRY_AFTER: Final = "Retry-After"
WWW_AUTHENTICATE: Final = "WWW-Authenticate"

# gRPC
STATUS_DETAILS: Final = "grpc-status-details-bin"
STATUS: Final = b"grpc-status"
MESSAGE: Final = b"grpc-message"
TIMEOUT: Final = b"grpc-timeout"
ENCODING: Final = b"grpc-encoding"
ACCEPT_ENCODING: Final = b"grpc-accept-encoding"
CONTENT_TYPE: Final = b"content-type"
TE: Final = b"te"

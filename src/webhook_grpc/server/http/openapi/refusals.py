"""The answers of calls that fail: which statuses an operation has, and the problem document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from webhook_grpc.api.codes import Code
from webhook_grpc.server.http.problem import CONTENT_TYPE

Schema = dict[str, Any]

_REQUEST_ID: Final = {"X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"}}
_RETRY_AFTER: Final = {"Retry-After": {"$ref": "#/components/headers/Retry-After"}}
# Name and meaning of each status.
_REFUSALS: Final[Mapping[int, tuple[str, str]]] = {
    400: ("BadRequest", "The request is malformed. `violations` names every field that is wrong."),
    401: ("Unauthorized", "No token was sent, or one that is unknown or has expired."),
    403: (
        "Forbidden",
        "The caller may not do this, whether or not the object exists; or it is a web page of another origin.",
    ),
    404: ("NotFound", "The object does not exist, or belongs to another customer."),
    408: ("RequestTimeout", "The body did not come in time."),
    409: (
        "Conflict",
        "The state of an object does not allow it, or a name or a key is used already. `reason` says which.",
    ),
    410: ("Gone", "The cursor is from before what is kept. `metadata` says from when on there is something."),
    412: ("PreconditionFailed", "Somebody else has changed the object. `metadata` has its `current_etag`."),
    413: ("ContentTooLarge", "The body has more than 5 MiB."),
    415: ("UnsupportedMediaType", "The body is not said to be `application/json`, or is compressed."),
    429: ("TooManyRequests", "Too much at once, or a quota is used up."),
    500: ("InternalServerError", "A bug of the service. `request_id` leads to what happened."),
    503: ("ServiceUnavailable", "The service can't answer now."),
    504: ("GatewayTimeout", "The call took longer than the service allows."),
    507: ("InsufficientStorage", "The database's disk is full."),
}
_RETRIED: Final = frozenset({429, 503, 507})
ALWAYS: Final = (400, 403, 429, 500, 503, 504)  # whatever the operation is


def refusals(statuses: set[int]) -> Schema:
    """Returns references to the answers of these statuses."""
    return {str(one): {"$ref": f"#/components/responses/{_REFUSALS[one][0]}"} for one in sorted(statuses)}


def components() -> Schema:
    """Returns what these references lead to."""
    content = {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        name: {
            "description": meaning,
            "headers": _REQUEST_ID | (_RETRY_AFTER if status in _RETRIED else {}),
            "content": content,
        }
        for status, (name, meaning) in _REFUSALS.items()
    }


PROBLEM: Final[Schema] = {
    "type": "object",
    "description": "Why a call failed (RFC 9457).",
    "properties": {
        "type": {"type": "string", "const": "about:blank"},
        "title": {"type": "string", "description": "The phrase of the status."},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "What is wrong and what to do about it, for people."},
        "code": {
            "type": "string",
            "enum": [code.name for code in Code if code is not Code.OK],
            "description": "The name of a google.rpc.Code: what gRPC answers.",
        },
        "reason": {
            "type": "string",
            "pattern": "^[A-Z][A-Z_]+$",
            "description": "The same for programs, for example `EVENT_TYPE_UNKNOWN`. Values may be added.",
        },
        "violations": {
            "type": "array",
            "description": "All fields that are wrong, by the names that the caller gave.",
            "items": {
                "type": "object",
                "properties": {
                    "field": {"type": "string", "description": "A dotted path, a parameter or a header."},
                    "description": {"type": "string", "description": "What is wrong with it."},
                },
                "required": ["field", "description"],
            },
        },
        "metadata": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "What belongs to the reason, for programs: `limit`, `current_etag`, …",
        },
        "retry_seconds": {"type": "number", "minimum": 0, "description": "After this the same call may succeed."},
        "request_id": {"type": "string", "description": "Stands in the log of the service, too."},
    },
    "required": ["type", "title", "status", "detail", "code", "reason", "request_id"],
    "examples": [
        {
            "type": "about:blank",
            "title": "Bad Request",
            "status": 400,
            "detail": "uri: is not a field of this request",
            "code": "INVALID_ARGUMENT",
            "reason": "FIELD_INVALID",
            "request_id": "9f2c6d5be1a84c0d9a3d6f1c2b7e8a90",
            "violations": [{"field": "uri", "description": "is not a field of this request"}],
        }
    ],
}

"""The whole document, as it is served.

It can't differ from what is served: paths, names and types come from the table of methods and the descriptors, as do
routes and JSON. The event types that are registered are its webhooks.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import threading
from typing import Any, Final

import orjson

from webhook_grpc import __version__
from webhook_grpc.domain.model import EventType
from webhook_grpc.domain.record import record

from . import receivers, refusals
from .operational import operational_paths
from .operations import paths
from .schemas import Schemas

SCHEMAS_BYTES_MAX: Final = 4 * 1024 * 1024  # of event types, all together; further types are listed without theirs
_KEPT: Final = 2  # documents: with the event types, and for those who may not see them

Schema = dict[str, Any]

_INFO: Final = """\
Register webhooks, publish events, look at deliveries, watch them live. The same methods are there over gRPC.

A call names its customer (`customer_id`); a caller whose token belongs to exactly one customer may leave it out. A
field or a parameter that a call does not have is refused. `null` is as if the field were not there. Answers may get
further fields, enums further values.
"""
_TAGS: Final = {
    "webhooks": "Where customers want to be called, and for what.",
    "events": "What happened: published once, delivered to every webhook that subscribes to its type.",
    "eventTypes": "What kinds of events there are, and what their data has to look like.",
    "deliveries": "Events on their way to webhooks.",
    "attempts": "Requests to receivers, and what came of them.",
    "replays": "Jobs that send past events again.",
    "customers": "All that belongs to a customer.",
    "tokens": "Who may call, and what they may do.",
    "accessTokens": "Tokens for browsers: signed, for one customer, for a short time.",
    "operations": "Health of the service, and its description.",
    "receivers": "What receivers get.",
}
_PARAMETERS: Final[dict[str, Schema]] = {
    "Idempotency-Key": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "The same as `request_id`: makes the call safe to repeat.",
        "schema": {"type": "string", "pattern": r"^[ -~]*$", "maxLength": 128},
    },
    "If-Match": {
        "name": "If-Match",
        "in": "header",
        "description": "The `ETag` of what the caller has seen: 412 if somebody has changed it since.",
        "schema": {"type": "string"},
    },
    "X-Request-ID": {
        "name": "X-Request-ID",
        "in": "header",
        "description": "The call's id: it comes back in the answer, and stands in the log. Other text is replaced.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    },
}
_HEADERS: Final[dict[str, Schema]] = {
    "X-Request-ID": {"description": "The id of the call.", "required": True, "schema": {"type": "string"}},
    "ETag": {"description": "Changes with every change. Give it back as `If-Match`.", "schema": {"type": "string"}},
    "Retry-After": {"description": "After so many seconds the same call may succeed.", "schema": {"type": "integer"}},
}


_MAKING: Final = threading.Lock()


@record
class Served:
    """The document as it is sent."""

    body: bytes
    packed: bytes  # by gzip, once for all who read it: it takes some milliseconds, and they need no token
    etag: str  # without quotes


def document(event_types: tuple[EventType, ...], *, is_open: bool) -> Served:
    """Returns the document with these event types, as compact JSON. `is_open`: callers need no token.

    Made once for all who ask, in threads of their own: the others wait for the first.
    """
    with _MAKING:
        return _made(event_types, is_open=is_open)


@functools.lru_cache(maxsize=_KEPT)
def _made(event_types: tuple[EventType, ...], *, is_open: bool) -> Served:
    webhooks, room = dict[str, Schema](), SCHEMAS_BYTES_MAX
    for one in event_types:
        schema = one.spec.json_schema or ""
        room -= len(schema)
        webhooks[one.event_type] = receivers.webhook(one, schema if room >= 0 else "")
    body = orjson.dumps({**_fixed_part(is_open=is_open), "webhooks": webhooks})
    return Served(body, gzip.compress(body, mtime=0), hashlib.sha256(body).hexdigest()[:32])


@functools.cache
def _fixed_part(*, is_open: bool) -> Schema:
    schemas = Schemas({"Problem": refusals.PROBLEM})
    found = paths(schemas, is_open=is_open) | operational_paths(is_open=is_open)
    components: Schema = {
        "schemas": dict(sorted(schemas.components.items())),
        "responses": refusals.components(),
        "parameters": _PARAMETERS | receivers.components(),
        "headers": _HEADERS,
    }
    if not is_open:
        scheme = {"type": "http", "scheme": "bearer", "description": "A token of the service, `whk_…`."}
        components["securitySchemes"] = {"token": scheme}
    return {
        "openapi": "3.1.1",
        "info": {"title": "webhook-grpc", "version": __version__, "description": _INFO},
        "servers": [{"url": "/", "description": "The service that this document comes from."}],
        "tags": [{"name": name, "description": description} for name, description in _TAGS.items()],
        "paths": found,
        "components": components,
    }

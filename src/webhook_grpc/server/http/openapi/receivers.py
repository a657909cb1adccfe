"""What receivers get: a webhook of the document for each event type, with the schema of its data."""

from __future__ import annotations

from typing import Any, Final

from webhook_grpc.domain.envelope import parse
from webhook_grpc.domain.ids import DELIVERY_ID_FORM, EVENT_ID_FORM
from webhook_grpc.domain.model import EventType

Schema = dict[str, Any]

_HEADERS: Final[dict[str, tuple[str, Schema]]] = {
    "webhook-id": (
        "The id of the event: the same each time that it is sent. Drop what you have had already.",
        {"type": "string", "pattern": f"^{EVENT_ID_FORM.pattern}$"},
    ),
    "webhook-timestamp": ("When this attempt was made, in Unix seconds.", {"type": "integer"}),
    "webhook-signature": (
        (
            "`v1,` and base64 of HMAC-SHA256 over `<webhook-id>.<webhook-timestamp>.<body>`; two while a secret "
            "changes. Of webhooks with Ed25519 `v1a,` and base64 of that signature as well; two while a key changes."
        ),
        {"type": "string", "pattern": "^v1,[A-Za-z0-9+/=]+( v1a?,[A-Za-z0-9+/=]+)*$"},
    ),
    "X-Webhook-Signature": (
        "`sha256=` and HMAC-SHA256 over the body alone, in hexadecimal. It cannot stop a replay.",
        {"type": "string", "pattern": "^sha256=[0-9a-f]{64}$"},
    ),
    "X-Webhook-Event": ("The event type.", {"type": "string"}),
    "X-Webhook-Delivery": (
        "The id of the delivery.",
        {"type": "string", "pattern": f"^{DELIVERY_ID_FORM.pattern}$"},
    ),
    "X-Webhook-Attempt": ("Which attempt of the delivery this is, from 1.", {"type": "integer", "minimum": 1}),
}
_ANSWERS: Final[Schema] = {
    "2XX": {"description": "Received. Any other answer is a failure, and the event is sent again later."},
    "410": {"description": "The receiver wants no more: the webhook is disabled."},
    "429": {"description": "Too much at once; `Retry-After` says when to come back."},
    "503": {"description": "Not now; `Retry-After` says when to come back."},
}


def components() -> dict[str, Schema]:
    """Returns the headers of a request to a receiver, as parameters by name."""
    return {
        name: {"name": name, "in": "header", "required": True, "description": description, "schema": schema}
        for name, (description, schema) in _HEADERS.items()
    }


def webhook(event_type: EventType, json_schema: str) -> Schema:
    """Returns what receivers get for an event of this type. `json_schema`: that of its data; empty for none."""
    spec = event_type.spec
    body: Schema = {
        "type": "object",
        "properties": {
            "event": {"const": event_type.event_type},
            "timestamp": {"type": "integer", "description": "When it happened, in Unix seconds."},
            "data": _data(event_type.event_type, json_schema),
        },
        "required": ["event", "timestamp", "data"],
    }
    operation: Schema = {
        "operationId": f"receive {event_type.event_type}",
        "tags": ["receivers"],
        "summary": spec.description or event_type.event_type,
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in _HEADERS],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": _ANSWERS,
        "security": [],
    }
    return {"post": operation | ({"deprecated": True} if spec.archived else {})}


def _data(event_type: str, json_schema: str) -> Schema | bool:
    """Returns a schema with an id of its own: its references begin with `#`, and lead into itself, not the document."""
    if not json_schema:
        return {}
    schema: Any = parse(json_schema.encode())
    return schema if isinstance(schema, bool) else {**schema, "$id": f"urn:webhook-grpc:event-type:{event_type}"}

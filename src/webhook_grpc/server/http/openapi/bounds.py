"""What the domain demands of single fields, as far as JSON Schema can say it in a word. Of requests only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor

from webhook_grpc.api.events.events import BATCH_MAX
from webhook_grpc.api.messages.filters import FILTER_IDS_MAX
from webhook_grpc.domain import validation
from webhook_grpc.domain.egress import URL_CHARACTERS_MAX
from webhook_grpc.domain.ids import DELIVERY_ID_FORM, EVENT_ID_FORM
from webhook_grpc.domain.matching import PATTERN_FORM, TYPE_FORM, TYPE_LENGTH_MAX
from webhook_grpc.domain.schemas import SCHEMA_BYTES_MAX
from webhook_grpc.domain.signing import FREE_TEXT_CHARACTERS_MAX
from webhook_grpc.domain.tokens import CUSTOMERS_MAX, DESCRIPTION_LENGTH_MAX

_EVENT_TYPE: Final = {"pattern": f"^(?:{TYPE_FORM.pattern})$", "maxLength": TYPE_LENGTH_MAX}
_PATTERN: Final = {"pattern": f"^(?:{PATTERN_FORM.pattern})$", "maxLength": TYPE_LENGTH_MAX}
_PATTERNS: Final = {"maxItems": validation.PATTERNS_MAX, "items": {"type": "string", **_PATTERN}}
_LABELS: Final = {
    "maxProperties": validation.LABELS_MAX,
    "propertyNames": {"minLength": 1, "maxLength": validation.LABEL_KEY_CHARACTERS_MAX},
    "additionalProperties": {"type": "string", "maxLength": validation.LABEL_VALUE_CHARACTERS_MAX},
}

# By full name, or by name where it means the same in every message.
_BOUNDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "customer_id": {"minimum": 0},
    "webhook_id": {"minimum": 1},
    "replay_id": {"minimum": 1},
    "event_id": {"pattern": f"^{EVENT_ID_FORM.pattern}$"},
    "delivery_id": {"pattern": f"^{DELIVERY_ID_FORM.pattern}$"},
    "request_id": {"pattern": r"^[ -~]*$", "maxLength": validation.REQUEST_ID_CHARACTERS_MAX},
    "page_size": {"minimum": 0, "default": 50},
    "webhook_ids": {"maxItems": FILTER_IDS_MAX, "items": {"type": "integer", "format": "int64", "minimum": 1}},
    "event_types": _PATTERNS,
    "token_id": {"minimum": 1},
    "webhook.v1.Webhook.name": {"minLength": 1, "maxLength": validation.NAME_CHARACTERS_MAX},
    "webhook.v1.Webhook.url": {"format": "uri", "minLength": 1, "maxLength": URL_CHARACTERS_MAX},
    "webhook.v1.Webhook.events": {"minItems": 1, **_PATTERNS},
    "webhook.v1.Webhook.secret": {"maxLength": FREE_TEXT_CHARACTERS_MAX},
    "webhook.v1.Webhook.timeout": {"default": "15s"},
    "webhook.v1.Webhook.max_in_flight": {"minimum": 0, "maximum": validation.MAX_IN_FLIGHT_MAX, "default": 10},
    "webhook.v1.Webhook.rate_limit_per_second": {"minimum": 0, "maximum": validation.RATE_LIMIT_MAX, "default": 0},
    "webhook.v1.Webhook.headers": {"maxProperties": validation.HEADERS_MAX},
    "webhook.v1.Webhook.labels": _LABELS,
    "webhook.v1.Webhook.description": {"maxLength": validation.DESCRIPTION_CHARACTERS_MAX},
    "webhook.v1.RetryPolicy.delays": {"minItems": 1, "maxItems": validation.RETRY_DELAYS_MAX},
    "webhook.v1.Event.event_type": _EVENT_TYPE,
    "webhook.v1.Event.attributes": _LABELS,
    "webhook.v1.EventType.event_type": _EVENT_TYPE,
    "webhook.v1.EventType.description": {"maxLength": validation.DESCRIPTION_CHARACTERS_MAX},
    "webhook.v1.EventType.json_schema": {"maxLength": SCHEMA_BYTES_MAX},
    "webhook.v1.GetEventTypeRequest.event_type": _EVENT_TYPE,
    "webhook.v1.BatchPublishEventsRequest.requests": {"minItems": 1, "maxItems": BATCH_MAX},
    "webhook.v1.RotateWebhookSecretRequest.secret": {"maxLength": FREE_TEXT_CHARACTERS_MAX},
    "webhook.v1.RotateWebhookSecretRequest.overlap": {"default": "86400s"},
    "webhook.v1.RotateSigningKeyRequest.overlap": {"default": "86400s"},
    "webhook.v1.WatchDeliveriesRequest.heartbeat_interval": {"default": "15s"},
    "webhook.v1.CreateAccessTokenRequest.life": {"default": "3600s"},
    "webhook.v1.Token.customer_ids": {
        "maxItems": CUSTOMERS_MAX,
        "items": {"type": "integer", "format": "int64", "minimum": 1},
    },
    "webhook.v1.Token.description": {"maxLength": DESCRIPTION_LENGTH_MAX},
    "webhook.v1.DeleteCustomerDataRequest.customer_id": {"minimum": 1},
}


def bounds_of(field: FieldDescriptor) -> Mapping[str, Any]:
    """Returns the keywords that bound a field of a request."""
    return _BOUNDS.get(field.full_name) or _BOUNDS.get(field.name, {})

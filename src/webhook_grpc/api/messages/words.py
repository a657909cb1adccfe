"""The words of enums, between messages and the domain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar

from webhook.v1 import delivery_pb2, webhook_pb2

from webhook_grpc.domain.errors import Violation
from webhook_grpc.domain.model import (
    DeliveryStatus,
    Outcome,
    SignatureType,
    Trigger,
    WebhookStatus,
)

_Word = TypeVar("_Word", WebhookStatus, DeliveryStatus, Outcome)

WEBHOOK_STATUSES: Final = {
    WebhookStatus.ACTIVE: webhook_pb2.WEBHOOK_STATUS_ACTIVE,
    WebhookStatus.PAUSED: webhook_pb2.WEBHOOK_STATUS_PAUSED,
    WebhookStatus.DISABLED: webhook_pb2.WEBHOOK_STATUS_DISABLED,
}

SIGNATURE_TYPES: Final = {
    SignatureType.HMAC: webhook_pb2.SIGNATURE_TYPE_HMAC,
    SignatureType.ED25519: webhook_pb2.SIGNATURE_TYPE_ED25519,
}

DELIVERY_STATUSES: Final = {
    DeliveryStatus.PENDING: delivery_pb2.DELIVERY_STATUS_PENDING,
    DeliveryStatus.SUCCEEDED: delivery_pb2.DELIVERY_STATUS_SUCCEEDED,
    DeliveryStatus.FAILED: delivery_pb2.DELIVERY_STATUS_FAILED,
    DeliveryStatus.CANCELLED: delivery_pb2.DELIVERY_STATUS_CANCELLED,
    DeliveryStatus.EXPIRED: delivery_pb2.DELIVERY_STATUS_EXPIRED,
}

OUTCOMES: Final = {
    Outcome.SUCCEEDED: delivery_pb2.ATTEMPT_OUTCOME_SUCCEEDED,
    Outcome.HTTP_ERROR: delivery_pb2.ATTEMPT_OUTCOME_HTTP_ERROR,
    Outcome.TIMEOUT: delivery_pb2.ATTEMPT_OUTCOME_TIMEOUT,
    Outcome.CONNECTION_ERROR: delivery_pb2.ATTEMPT_OUTCOME_CONNECTION_ERROR,
    Outcome.TLS_ERROR: delivery_pb2.ATTEMPT_OUTCOME_TLS_ERROR,
    Outcome.PROTOCOL_ERROR: delivery_pb2.ATTEMPT_OUTCOME_PROTOCOL_ERROR,
    Outcome.BLOCKED: delivery_pb2.ATTEMPT_OUTCOME_BLOCKED,
    Outcome.INTERNAL_ERROR: delivery_pb2.ATTEMPT_OUTCOME_INTERNAL_ERROR,
}

TRIGGERS: Final = {
    Trigger.SCHEDULED: delivery_pb2.ATTEMPT_TRIGGER_SCHEDULED,
    Trigger.MANUAL: delivery_pb2.ATTEMPT_TRIGGER_MANUAL,
    Trigger.REPLAY: delivery_pb2.ATTEMPT_TRIGGER_REPLAY,
    Trigger.TEST: delivery_pb2.ATTEMPT_TRIGGER_TEST,
}

_WEBHOOK_STATUS_OF: Final[Mapping[int, WebhookStatus]] = {number: status for status, number in WEBHOOK_STATUSES.items()}

_SIGNATURE_TYPE_OF: Final[Mapping[int, SignatureType]] = {
    webhook_pb2.SIGNATURE_TYPE_UNSPECIFIED: SignatureType.HMAC,
    **{number: signature_type for signature_type, number in SIGNATURE_TYPES.items()},
}

_DELIVERY_STATUS_OF: Final[Mapping[int, DeliveryStatus]] = {
    number: status for status, number in DELIVERY_STATUSES.items()
}

_OUTCOME_OF: Final[Mapping[int, Outcome]] = {number: outcome for outcome, number in OUTCOMES.items()}


def read_webhook_statuses(values: Iterable[int], violations: list[Violation]) -> list[WebhookStatus]:
    """Returns a filter by the status of webhooks."""
    return _read_words("statuses", list(values), _WEBHOOK_STATUS_OF, violations)


def read_signature_type(value: int, violations: list[Violation]) -> SignatureType:
    """Returns what signs the requests of a webhook: HMAC if the caller does not say."""
    if value not in _SIGNATURE_TYPE_OF:
        violations.append(Violation("webhook.signature_type", "must be a value of the enum"))
    return _SIGNATURE_TYPE_OF.get(value, SignatureType.HMAC)


def read_delivery_statuses(
    values: Iterable[int], violations: list[Violation], field: str = "statuses"
) -> list[DeliveryStatus]:
    """Returns a filter by the status of deliveries."""
    return _read_words(field, list(values), _DELIVERY_STATUS_OF, violations)


def read_outcomes(values: Iterable[int], violations: list[Violation]) -> list[Outcome]:
    """Returns a filter by the outcome of attempts."""
    return _read_words("outcomes", list(values), _OUTCOME_OF, violations)


def _read_words(
    field: str, values: Sequence[int], known: Mapping[int, _Word], violations: list[Violation]
) -> list[_Word]:
    if any(value not in known for value in values):
        violations.append(Violation(field, "must be values of the enum other than UNSPECIFIED"))
    return list(dict.fromkeys(known[value] for value in values if value in known))

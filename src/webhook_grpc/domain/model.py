"""The words of the service as immutable values. The same words stand in protos, tables, logs and docs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from enum import IntEnum, StrEnum
from uuid import UUID

from .ids import shard_of
from .record import record


class WebhookStatus(StrEnum):
    """Whether a webhook receives deliveries. DELETED is never shown: the row stays for its history."""

    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"
    DELETED = "deleted"

    @property
    def has_ended(self) -> bool:
        """Whether nothing is sent to the webhook any more: what is pending of it is cancelled."""
        return self in {WebhookStatus.DELETED, WebhookStatus.DISABLED}


class SignatureType(StrEnum):
    """What signs `webhook-signature`: the webhook's secret, and for ED25519 the customer's signing keys as well."""

    HMAC = "hmac"
    ED25519 = "ed25519"


class DeliveryStatus(StrEnum):
    """Where a delivery stands. All but PENDING are final."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Outcome(StrEnum):
    """How one attempt ended."""

    SUCCEEDED = "succeeded"
    HTTP_ERROR = "http_error"
    TIMEOUT = "timeout"
    CONNECTION_ERROR = "connection_error"
    TLS_ERROR = "tls_error"
    PROTOCOL_ERROR = "protocol_error"
    BLOCKED = "blocked"
    INTERNAL_ERROR = "internal_error"


class Danger(IntEnum):
    """Whether a process may have died of a delivery. Only after a crash is anything but NONE written."""

    NONE = 0
    SUSPECT = 1  # it was sent with others when a process died, or may be: next time it is sent alone, under a mark
    MARKED = 2  # it is being sent alone, or the process that did so is dead


class Trigger(StrEnum):
    """What caused an attempt. Only SCHEDULED ones are repeated when they fail."""

    SCHEDULED = "scheduled"
    MANUAL = "manual"
    REPLAY = "replay"
    TEST = "test"


class DisableReason(StrEnum):
    """Why the service switched a webhook off: what `status_reason` says."""

    GONE = "The receiver answered 410 Gone."
    FAILING = "The receiver has failed for days without a single success."
    BLOCKED = "The webhook's URL leads to an address that may not be called."


class FailureReason(StrEnum):
    """Why an attempt failed: the closed list that customers may read, never an exception's text.

    An exception can carry an internal address, another service's banner or a URL's secrets; these can not.
    """

    NONE = ""
    STATUS = "The receiver answered with an error status."
    REDIRECT = "The receiver answered with a redirect, which is not followed; update the webhook's URL."
    GONE = "The receiver answered 410 Gone, so the webhook was disabled."
    TIMEOUT = "The receiver did not answer within the webhook's timeout."
    NAME_NOT_RESOLVED = "The host name of the webhook's URL could not be resolved."
    CONNECTION_FAILED = "The connection to the receiver failed."
    DISCONNECTED = "The receiver closed the connection before it answered."
    CERTIFICATE = "The receiver's TLS certificate was not accepted."
    CERTIFICATE_EXPIRED = "The receiver's TLS certificate has expired."
    CERTIFICATE_SELF_SIGNED = "The receiver's TLS certificate is self-signed."
    CERTIFICATE_UNKNOWN_AUTHORITY = (
        "The receiver's TLS certificate is from an authority that is not known here, or its chain is not complete."
    )
    CERTIFICATE_NAME = "The receiver's TLS certificate is for another host name than the webhook's URL has."
    CLIENT_CERTIFICATE_WANTED = "The receiver wants a TLS client certificate, which webhooks do not have."
    TLS_HANDSHAKE = "The TLS handshake with the receiver failed."
    NOT_HTTP = "The receiver's answer was not valid HTTP or was beyond its limits."
    BLOCKED_DESTINATION = "The webhook's URL leads to an address that may not be called."
    SECRET_UNREADABLE = "The webhook's secret could not be opened; contact the operator."  # noqa: S105 - a sentence
    NOT_SENDABLE = "The request could not be built from the webhook's settings."
    INTERRUPTED = "The service stopped during this attempt; whether it arrived is not known."


@record
class SealedSigningKey:
    """A customer's private Ed25519 key, sealed. `retire_at`: until when it signs; None for the newest."""

    key_id: int
    sealed: bytes = field(repr=False)
    retire_at: datetime | None


@record
class Webhook:
    """A customer's registration of an HTTP callback. `None` in a policy field means the service's default."""

    webhook_id: int
    customer_id: int
    name: str
    url: str
    sealed_secret: bytes = field(repr=False)
    secret_hint: str
    events: tuple[str, ...]
    status: WebhookStatus
    status_reason: str
    retry_delays_seconds: tuple[float, ...] | None
    timeout_seconds: float | None
    max_in_flight: int | None
    rate_limit_per_second: int | None
    headers: Mapping[str, str] = field(repr=False)
    labels: Mapping[str, str]
    description: str
    version: int
    create_time: datetime
    update_time: datetime
    disable_time: datetime | None = None  # unset unless it is disabled
    sealed_headers: bytes | None = field(default=None, repr=False)  # the values of `headers`, see domain/own_headers.py
    sealed_query: bytes | None = field(default=None, repr=False)  # the query of `url`, see domain/url_queries.py
    sealed_previous_secret: bytes | None = field(default=None, repr=False)  # both unset when the overlap has ended
    previous_secret_until: datetime | None = None
    signature_type: SignatureType = SignatureType.HMAC
    signing_keys: tuple[SealedSigningKey, ...] | None = None  # only what the engine loads has them, of ED25519

    @property
    def shard(self) -> int:
        """The shard that owns its deliveries."""
        return shard_of(self.webhook_id)


@record
class WebhookSpec:
    """What a caller may choose about a webhook."""

    name: str
    url: str
    events: tuple[str, ...]
    retry_delays_seconds: tuple[float, ...] | None = None
    timeout_seconds: float | None = None
    max_in_flight: int | None = None
    rate_limit_per_second: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    description: str = ""
    sealed_headers: bytes | None = field(default=None, repr=False)  # as in Webhook
    sealed_query: bytes | None = field(default=None, repr=False)  # as in Webhook
    signature_type: SignatureType = SignatureType.HMAC


@record
class EventTypeSpec:
    """What a caller may choose about an event type. `json_schema` None: data may be anything."""

    description: str
    json_schema: str | None
    archived: bool


@record
class EventType:
    """A kind of event."""

    event_type: str
    spec: EventTypeSpec
    built_in: bool
    version: int
    create_time: datetime
    update_time: datetime


@record
class NewEvent:
    """An event to publish, valid and complete. `body` is what every receiver will get, byte for byte."""

    event_id: UUID
    customer_id: int
    event_type: str
    occur_time: datetime
    body: bytes = field(repr=False)
    data_start: int
    attributes: Mapping[str, str]
    request_id: str | None
    fingerprint: int  # of what the caller chose; 0 without a request id
    traceparent: str | None = None  # valid; domain/trace_context.py
    publisher: str | None = None  # the name of the caller

    @property
    def data_json(self) -> bytes:
        """What the producer gave, byte for byte."""
        return self.body[self.data_start : -1]


@record
class Published:
    """The answer to a publication: committed, and to how many webhooks it goes."""

    event_id: UUID
    delivery_count: int
    duplicate: bool
    create_time: datetime


@record
class Event:
    """A stored event."""

    event_id: UUID
    customer_id: int
    event_type: str
    occur_time: datetime
    create_time: datetime
    body: bytes = field(repr=False)
    data_start: int
    attributes: Mapping[str, str]
    test_webhook_id: int | None = None
    publisher: str | None = None  # None: a test, or nobody knows

    @property
    def data_json(self) -> bytes:
        """What the producer gave, byte for byte."""
        return self.body[self.data_start : -1]


PendingKey = tuple[int, UUID, int]
"""Names one attempt: the webhook, the event, and how many attempts were made before."""


@record
class PendingDelivery:
    """One row of the outbox with what is needed to send it. (webhook_id, event_id, attempt) names one attempt.

    `attempt` counts the attempts already made. It is `fresh` if it was published lately and was not tried yet: such
    deliveries need not wait for a backlog.
    """

    webhook_id: int
    event_id: UUID
    due_at: datetime
    customer_id: int
    attempt: int
    event_type: str
    event_create_time: datetime
    body: bytes = field(repr=False)
    danger: Danger = Danger.NONE
    is_fresh: bool = False
    trigger: Trigger = Trigger.SCHEDULED
    replay_id: int | None = None
    traceparent: str | None = None  # of the call that published the event

    @property
    def key(self) -> PendingKey:
        """Names one attempt."""
        return self.webhook_id, self.event_id, self.attempt

    @property
    def shard(self) -> int:
        """The shard whose owner may send and settle it."""
        return shard_of(self.webhook_id)


@record
class AttemptResult:
    """What came of one request. Latency is in milliseconds, from the start to the status line or the failure."""

    outcome: Outcome
    start_time: datetime
    latency_ms: int
    reason: FailureReason = FailureReason.NONE
    response_status: int | None = None
    response_body: bytes = field(default=b"", repr=False)
    retry_after: str | None = None
    response_headers: Mapping[str, str] = field(default_factory=dict[str, str])  # those that are kept


@record
class Attempt:
    """One request to a receiver as the log keeps it, with the delivery that it was made for."""

    event_id: UUID
    webhook_id: int
    customer_id: int
    event_type: str
    attempt_number: int
    start_time: datetime
    latency_ms: int
    outcome: Outcome
    response_status: int | None
    response_body: bytes = field(repr=False)
    reason: FailureReason
    trigger: Trigger
    own_headers: tuple[str, ...]  # names of the webhook's own headers that were sent
    response_headers: Mapping[str, str]
    delivery_status: DeliveryStatus  # after it
    next_attempt_time: datetime | None
    request_bytes: int | None = None  # None: not known, or not looked up


@record
class Delivery:
    """A delivery as it stands, or as it stood after one change."""

    event_id: UUID
    webhook_id: int
    customer_id: int
    event_type: str
    status: DeliveryStatus
    attempt_count: int
    last_attempt: Attempt | None
    next_attempt_time: datetime | None
    create_time: datetime
    update_time: datetime
    trigger: Trigger = Trigger.SCHEDULED  # of its latest attempt, or of the next while it is pending
    replay_id: int | None = None

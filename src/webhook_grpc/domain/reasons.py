"""Every reason that an error can have: its kind, and what to do about it. docs/errors.md is written from this table.

What a caller reads beside the reason stands where the error is raised. The kind decides the code (`api/codes.py`), and
code and reason decide the status over HTTP. That the table has what the source raises, and nothing else, is a test:
tests/unit/test_reasons.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from . import errors
from .record import record


@record
class Reason:
    """`kind` is the error that has this reason; None if only HTTP has it, for requests that reach no method."""

    kind: type[errors.WebhookError] | None
    remedy: str


def _of(kind: type[errors.WebhookError] | None, remedies: Mapping[str, str]) -> dict[str, Reason]:
    return {name: Reason(kind, remedy) for name, remedy in remedies.items()}


_INVALID: Final = {
    "FIELD_INVALID": "Correct every field that `violations` names; the same request fails again.",
    "FIELD_MASK_INVALID": "Name in `update_mask` only fields that the resource has, at most as many as it says.",
    "FIELD_IMMUTABLE": "Leave this field out of `update_mask`: it is set once, when the resource is made.",
    "PAGE_TOKEN_INVALID": "Read the list again without `page_token`. A token fits only the arguments that it came "
    "with.",
    "CURSOR_INVALID": "Start WatchDeliveries with `snapshot`, without this cursor: it was changed, belongs to another "
    "caller, or was made with a secret key that the service lacks now.",
    "DATA_NOT_JSON": "Send JSON as its standard has it: no NaN, no lone surrogates, at most 64 levels.",
    "DATA_NUMBER_INEXACT": "Send the event as `data_json`: `data` cannot carry whole numbers from 2^53 on.",
    "DATA_TOO_LARGE": "Send less than `limit` bytes of data: put large things elsewhere, and their address into the "
    "event.",
    "DATA_SCHEMA_MISMATCH": "Correct the data at the JSON pointers in `violations`; GetEventType has the schema.",
    "BATCH_TOO_LARGE": "Send at most `limit` events in one call.",
    "BODY_TOO_LARGE": "Send a smaller request; `limit` says how many bytes this method takes.",
    "BODY_TOO_SLOW": "Send the request as a whole at once. If you do, look for a slow network or proxy.",
    "CONTENT_TYPE_UNSUPPORTED": "Send `Content-Type: application/json`.",
    "CONTENT_ENCODING_UNSUPPORTED": "Send the body without compression.",
    "TOO_MANY_PARTS": "Send the events in several calls, or as `data_json`, which counts as one part.",
    "URL_NOT_ALLOWED": "Take a public https address. For internal receivers the operator opens networks or names: "
    "`WEBHOOK_EGRESS_ALLOW_CIDRS`, `WEBHOOK_EGRESS_ALLOW_HOSTS`.",
}
_UNAUTHENTICATED: Final = {
    "TOKEN_MISSING": "Send the token, as `authorization: Bearer …`.",
    "TOKEN_INVALID": "Look whether the token is whole, sent once and with `Bearer`; one that was revoked is not known.",
    "TOKEN_EXPIRED": "Get a new token.",
}
_DENIED: Final = {
    "CUSTOMER_NOT_ALLOWED": "Take a token for this customer, or for all customers. Whether the object exists is not "
    "said.",
    "PERMISSION_MISSING": "Take a token with the permission that the message names.",
    "HOST_NOT_ALLOWED": "Call the service as `localhost` or by a loopback address, or let the operator configure "
    "tokens.",
    "ORIGIN_NOT_ALLOWED": "Let the operator add the page's origin to `WEBHOOK_HTTP_ALLOW_ORIGINS`.",
}
_NOT_FOUND: Final = {
    "WEBHOOK_NOT_FOUND": "Look the id up with ListWebhooks: the webhook was deleted, or is of another customer.",
    "EVENT_NOT_FOUND": "Compare its age with `WEBHOOK_EVENTS_RETENTION_DAYS`: it is not kept any more, or of another "
    "customer.",
    "DELIVERY_NOT_FOUND": "Ask ExplainEvent why the event has no delivery to this webhook; old ones are not kept.",
    "EVENT_TYPE_NOT_FOUND": "Look the name up with ListEventTypes.",
    "REPLAY_NOT_FOUND": "Look the id up with ListReplays: those that ended are kept as long as the log.",
    "TOKEN_NOT_FOUND": "Nothing if it was to be revoked: it is not there any more. ListTokens has those that are.",
}
_EXISTS: Final = {
    "EVENT_TYPE_EXISTS": "Change it with UpdateEventType.",
    "REQUEST_ID_REUSED": "Give this request a `request_id` of its own: the id stands for another content already.",
}
_CONFLICT: Final = {
    "ETAG_MISMATCH": "Read the resource again, and repeat the change with its `current_etag`.",
}
_PRECONDITION: Final = {
    "EVENT_TYPE_UNKNOWN": "Look for a misspelling with ListEventTypes; CreateEventType adds a type.",
    "EVENT_TYPE_ARCHIVED": "Publish another type; UpdateEventType with `archived` false takes this one into use again.",
    "EVENT_TYPE_BUILT_IN": "Leave it: the seven types of the beginning cannot be archived.",
    "EVENT_TYPE_SCHEMA_UNUSABLE": "Let the operator set the schema of this type again with UpdateEventType.",
    "WEBHOOK_STATUS": "Look at the webhook's `status` and `status_reason`; ResumeWebhook takes a paused or disabled "
    "one "
    "into use again.",
    "DELIVERY_STATUS": "Look at the delivery: only a pending one can be cancelled, only an ended one sent again.",
    "REPLAY_STATUS": "Nothing: only a running replay can be cancelled, and this one has ended.",
    "EVENT_EXPIRED": "Publish the event again: it is older than events are kept.",
    "OLD_PROCESSES_RUNNING": "Repeat the call when the deployment is over and no process of an older version runs.",
    "SECRET_OVERLAP": "Rotate after the time that the message names, or with an overlap of 0 s.",
    "SIGNING_KEY_OVERLAP": "Rotate after the time that the message names, or with an overlap of 0 s.",
    "CURSOR_OF_OTHER_LOG": "Start WatchDeliveries with `snapshot`: the database was restored, and is another one now.",
}
_QUOTA: Final = {
    "WEBHOOK_QUOTA": "Delete webhooks that nobody needs, or let the operator raise "
    "`WEBHOOK_WEBHOOKS_PER_CUSTOMER_MAX`.",
    "EVENT_TYPE_QUOTA": "Use a type that is there, or let the operator raise `WEBHOOK_EVENT_TYPES_MAX`.",
    "REPLAY_QUOTA": "Wait until a replay ends, or cancel one (`WEBHOOK_REPLAYS_PER_CUSTOMER_MAX`).",
    "TOKEN_QUOTA": "Revoke tokens that nobody uses, or let the operator raise `WEBHOOK_TOKENS_MAX` "
    "or `WEBHOOK_TOKENS_PER_CUSTOMER_MAX`.",
}
_OVERLOADED: Final = {
    "RATE_LIMITED": "Repeat the call after `retry_seconds`, and ever later if it comes again. If it stays, publish in "
    "batches; the operator looks at `webhook_rpcs_waiting` and at the limits in the message.",
    "TOO_MANY_STREAMS": "Close streams of WatchDeliveries that nobody reads: one stream can carry all webhooks of a "
    "customer.",
    "BACKLOG_FULL": "Repeat the call after `retry_seconds` with the same `request_id`. The operator looks at the "
    "database.",
    "TOO_MANY_ACTIONS": "Wait for calls of RetryDelivery and CancelDelivery to end; CreateReplay sends many again.",
    "TOO_MANY_TESTS": "Wait for calls of TestWebhook to end.",
    "TOO_MANY_DRY_RUNS": "Repeat the dry run when the one that runs has ended.",
    "TOO_MANY_JWKS_READS": "Keep the keys for the `max-age` of the answer, and repeat the call later.",
}
_OUT_OF_RANGE: Final = {
    "CURSOR_EXPIRED": "Start WatchDeliveries with `snapshot`, or with a `start_time` from `oldest_time` on.",
}
_UNAVAILABLE: Final = {
    "STORAGE_UNAVAILABLE": "Repeat the call with the same `request_id`. The operator looks for `the database fails` "
    "in the "
    "log.",
    "CONNECTION_TOO_OLD": "Repeat the call at once, on another connection. Watchers resume with their cursor.",
    "SERVER_STOPPING": "Repeat the call at once: another process takes it. Watchers resume with their cursor.",
    "SECRET_KEY_MISSING": "Repeat the call: another process may have the key. The operator gives all processes the "
    "same "
    "`WEBHOOK_SECRET_KEYS`.",
    "TEST_NOT_MADE": "Repeat the call; if it stays, the operator looks whether deliveries stand still.",
    "FIGURES_MISSING": "Read `/metrics` again; the parent of the processes did not answer.",
}
_HTTP: Final = {
    "PATH_UNKNOWN": "Look the path up in `/api/openapi.json`.",
    "METHOD_NOT_ALLOWED": "Take one of the methods in the header `Allow`.",
    "REQUEST_REFUSED": "Do as `detail` says: HTTP does not allow this here. The status is the 4xx that fits.",
    "REQUEST_MALFORMED": "Send HTTP/1.1, with no header of more than 8,190 bytes, and no more than 64 KiB of them. "
    "TLS to a port without TLS looks so, too.",
    "EXPECTATION_UNKNOWN": "Send no `Expect` but `100-continue`.",
}

REASONS: Final[Mapping[str, Reason]] = {
    **_of(errors.InvalidArgument, _INVALID),
    **_of(errors.Unauthenticated, _UNAUTHENTICATED),
    **_of(errors.PermissionDenied, _DENIED),
    **_of(errors.NotFound, _NOT_FOUND),
    **_of(errors.AlreadyExists, _EXISTS),
    **_of(errors.Conflict, _CONFLICT),
    **_of(errors.FailedPrecondition, _PRECONDITION),
    **_of(errors.QuotaExceeded, _QUOTA),
    **_of(errors.Overloaded, _OVERLOADED),
    **_of(errors.DiskFull, {"DISK_FULL": "Repeat the call with the same `request_id`. The operator makes room."}),
    **_of(errors.CursorExpired, _OUT_OF_RANGE),
    **_of(errors.Unavailable, _UNAVAILABLE),
    **_of(
        errors.WatcherTooSlow, {"WATCHER_TOO_SLOW": "Resume with the last cursor, and read faster than changes come."}
    ),
    **_of(
        errors.DeadlineExceeded,
        {
            "DEADLINE_EXCEEDED": "Repeat the call with the same `request_id`: it may have been carried out. Ask for "
            "less."
        },
    ),
    **_of(errors.InternalError, {"INTERNAL": "Give the `request_id` to the operator, who finds it in the log: a bug."}),
    **_of(None, _HTTP),
}

"""Publishes events to webhook-grpc, watches what becomes of them, and verifies the signatures of deliveries.

`Client` is for threads, `AsyncClient` for asyncio; both have the same methods. Receivers need `verify_signature` only.
"""

from .aio.client import AsyncClient
from .aio.publisher import AsyncPublisher
from .aio.watcher import AsyncWatcher
from .batches import PublisherLimits
from .connecting import TLS
from .cursor_files import CursorFileBroken
from .errors import (
    Aborted,
    AlreadyExists,
    CursorExpired,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Problem,
    QuotaExceeded,
    Refused,
    Unauthorized,
    Unavailable,
    WebhookError,
)
from .signatures import Message, SignatureInvalid, verify_body_signature, verify_signature
from .threads.client import Client
from .threads.publisher import Publisher
from .threads.watcher import Watcher

__all__ = [
    "TLS",
    "Aborted",
    "AlreadyExists",
    "AsyncClient",
    "AsyncPublisher",
    "AsyncWatcher",
    "Client",
    "CursorExpired",
    "CursorFileBroken",
    "FailedPrecondition",
    "InvalidArgument",
    "Message",
    "NotFound",
    "Problem",
    "Publisher",
    "PublisherLimits",
    "QuotaExceeded",
    "Refused",
    "SignatureInvalid",
    "Unauthorized",
    "Unavailable",
    "Watcher",
    "WebhookError",
    "verify_body_signature",
    "verify_signature",
]

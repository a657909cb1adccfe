"""What an exception of the HTTP client says about the receiver: an outcome and a sentence of a closed list."""

from __future__ import annotations

import errno
import ssl
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import aiohttp

from webhook_grpc.domain.model import FailureReason, Outcome

from .connections import ResponseTooLarge
from .faults import BlockedDestination, SenderFault

_OWN_FAULTS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})

# The first that fits. TimeoutError stands for aiohttp's too.
_FAILURES: Final[Sequence[tuple[type[Exception], Outcome, FailureReason]]] = (
    (aiohttp.ClientConnectorDNSError, Outcome.CONNECTION_ERROR, FailureReason.NAME_NOT_RESOLVED),
    (aiohttp.ClientConnectorCertificateError, Outcome.TLS_ERROR, FailureReason.CERTIFICATE),
    (aiohttp.ClientSSLError, Outcome.TLS_ERROR, FailureReason.TLS_HANDSHAKE),
    (TimeoutError, Outcome.TIMEOUT, FailureReason.TIMEOUT),
    (aiohttp.ClientResponseError, Outcome.PROTOCOL_ERROR, FailureReason.NOT_HTTP),
    (aiohttp.ClientPayloadError, Outcome.PROTOCOL_ERROR, FailureReason.NOT_HTTP),
    (ResponseTooLarge, Outcome.PROTOCOL_ERROR, FailureReason.NOT_HTTP),
    (aiohttp.ServerDisconnectedError, Outcome.CONNECTION_ERROR, FailureReason.DISCONNECTED),
    (aiohttp.InvalidURL, Outcome.INTERNAL_ERROR, FailureReason.NOT_SENDABLE),
    (OSError, Outcome.CONNECTION_ERROR, FailureReason.CONNECTION_FAILED),
    (aiohttp.ClientError, Outcome.CONNECTION_ERROR, FailureReason.CONNECTION_FAILED),
    (ValueError, Outcome.INTERNAL_ERROR, FailureReason.NOT_SENDABLE),
)

# OpenSSL's X509_V_ERR_…: why a certificate was not accepted.
_CERTIFICATES: Final[Mapping[int, FailureReason]] = {
    10: FailureReason.CERTIFICATE_EXPIRED,
    18: FailureReason.CERTIFICATE_SELF_SIGNED,
    19: FailureReason.CERTIFICATE_UNKNOWN_AUTHORITY,  # the authority's own stands in the chain
    20: FailureReason.CERTIFICATE_UNKNOWN_AUTHORITY,
    21: FailureReason.CERTIFICATE_UNKNOWN_AUTHORITY,  # only the host's own stands in the chain
    62: FailureReason.CERTIFICATE_NAME,
    64: FailureReason.CERTIFICATE_NAME,  # an address instead of a name
}
# TLS 1.3's alert; earlier versions have none, and their servers say "handshake failure".
_CLIENT_CERTIFICATE_WANTED: Final = "CERTIFICATE_REQUIRED"


def classify(error: Exception) -> tuple[Outcome, FailureReason]:
    """Every way in which a request can fail, as an outcome that may be shown to the customer.

    Raises SenderFault if the failure is ours, and the error itself if it is not in the table: a bug.
    """
    if isinstance(error, SenderFault):
        raise error
    os_error = getattr(error, "os_error", error)
    if isinstance(os_error, OSError) and os_error.errno in _OWN_FAULTS:
        raise SenderFault(errno.errorcode[os_error.errno]) from error
    causes = tuple(_causes(error))
    if isinstance(os_error, BlockedDestination) or any(isinstance(cause, BlockedDestination) for cause in causes):
        return Outcome.BLOCKED, FailureReason.BLOCKED_DESTINATION
    if (reason := _tls_reason((error, *causes))) is not None:
        return Outcome.TLS_ERROR, reason
    for kind, outcome, reason in _FAILURES:
        if isinstance(error, kind):
            return outcome, reason
    raise error


def _tls_reason(errors: Sequence[BaseException]) -> FailureReason | None:
    """What exactly was wrong with a certificate, ours or the receiver's, if that is known."""
    for error in errors:
        if isinstance(error, ssl.SSLError):  # aiohttp's own are some too, without the attributes
            if (reason := _CERTIFICATES.get(getattr(error, "verify_code", 0))) is not None:
                return reason
            if _CLIENT_CERTIFICATE_WANTED in (getattr(error, "reason", None) or ""):
                return FailureReason.CLIENT_CERTIFICATE_WANTED
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause = error.__cause__ or error.__context__
    if cause is not None:
        yield cause
        yield from _causes(cause)

"""What an exception says about the receiver: an outcome and a sentence of a closed list."""

from __future__ import annotations

import errno
import ssl
from collections.abc import Mapping, Sequence
from typing import Final

from webhook_grpc.domain.model import FailureReason, Outcome

from .faults import BlockedDestination, Disconnected, NameNotResolved, NotHttp, NotSendable, SenderFault
from .racing import OWN_FAULTS

# The first that fits: most are OSErrors.
_FAILURES: Final[Sequence[tuple[type[Exception], Outcome, FailureReason]]] = (
    (BlockedDestination, Outcome.BLOCKED, FailureReason.BLOCKED_DESTINATION),
    (NameNotResolved, Outcome.CONNECTION_ERROR, FailureReason.NAME_NOT_RESOLVED),
    (ssl.SSLCertVerificationError, Outcome.TLS_ERROR, FailureReason.CERTIFICATE),
    (ssl.SSLError, Outcome.TLS_ERROR, FailureReason.TLS_HANDSHAKE),
    (TimeoutError, Outcome.TIMEOUT, FailureReason.TIMEOUT),
    (NotHttp, Outcome.PROTOCOL_ERROR, FailureReason.NOT_HTTP),
    (Disconnected, Outcome.CONNECTION_ERROR, FailureReason.DISCONNECTED),
    (NotSendable, Outcome.INTERNAL_ERROR, FailureReason.NOT_SENDABLE),
    (OSError, Outcome.CONNECTION_ERROR, FailureReason.CONNECTION_FAILED),
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
    """Returns the outcome and the reason of a failed request, as the customer may see them.

    Raises SenderFault if the failure is ours, and the error itself if it is not in the table: a bug.
    """
    if isinstance(error, SenderFault):
        raise error
    if isinstance(error, OSError) and error.errno in OWN_FAULTS:
        raise SenderFault(errno.errorcode[error.errno]) from error
    if isinstance(error, ssl.SSLError) and (reason := _tls_reason(error)) is not None:
        return Outcome.TLS_ERROR, reason
    for kind, outcome, reason in _FAILURES:
        if isinstance(error, kind):
            return outcome, reason
    raise error


def _tls_reason(error: ssl.SSLError) -> FailureReason | None:
    """Returns what was wrong with a certificate, ours or the receiver's; None if that is not known."""
    if (reason := _CERTIFICATES.get(getattr(error, "verify_code", 0))) is not None:
        return reason
    is_wanted = _CLIENT_CERTIFICATE_WANTED in (getattr(error, "reason", None) or "")
    return FailureReason.CLIENT_CERTIFICATE_WANTED if is_wanted else None

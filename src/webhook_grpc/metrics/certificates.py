"""TLS: how long the certificate lasts, and whether new files were refused."""

from __future__ import annotations

from webhook_grpc.server.certificates import Certificates

from .families import Family, gauge


class TlsFigures:
    """Shows how the files of TLS do."""

    def __init__(self, certificates: Certificates | None) -> None:
        """None: plain text is served, and nothing is known."""
        self._certificates = certificates

    def collect(self) -> list[Family]:
        """Returns the figures."""
        found = self._certificates
        expires_at = None if found is None else found.current.expire_time.timestamp()
        is_refused = None if found is None else float(found.is_refused)
        return [
            gauge("tls_certificate_expire_timestamp_seconds", "When the certificate in use expires.", expires_at),
            gauge("tls_files_refused", "Whether the files of TLS hold what can't be used.", is_refused),
        ]

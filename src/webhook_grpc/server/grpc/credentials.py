"""TLS for gRPC: a connection gets the certificate that is current when it begins."""

from __future__ import annotations

from typing import Any, cast

import grpc

from webhook_grpc.server.certificates import Certificates, TlsMaterial


def credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """Returns the credentials of a port.

    gRPC serves TLS 1.2 and 1.3 with safe ciphers, and `h2` by ALPN. With authorities for clients each connection needs
    a certificate of one of them.
    """
    given = certificates.current

    def newest() -> Any:
        """Returns a new configuration, None if there is none. gRPC calls this in a thread of its own."""
        nonlocal given
        current = certificates.current
        if current is given:
            return None
        given = current
        return _configuration(current)

    return cast("Any", grpc).dynamic_ssl_server_credentials(
        _configuration(given), newest, require_client_authentication=given.grpc_client_ca is not None
    )


def _configuration(material: TlsMaterial) -> Any:
    pair = (material.key, material.certificate)
    return cast("Any", grpc).ssl_server_certificate_configuration([pair], root_certificates=material.grpc_client_ca)

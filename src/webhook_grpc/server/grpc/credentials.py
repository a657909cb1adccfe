"""TLS for gRPC: a connection gets the certificate that is current when it begins; whom that of its client names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, cast

import grpc

from webhook_grpc.domain.access import name_of
from webhook_grpc.server.certificates import Certificates, TlsMaterial

# What gRPC calls the names of a verified certificate. `x509_subject_alternative_name` has all of them together, so that
# one of a kind which an authority does not check could pass for one of another kind.
_KINDS: Final = (("peer_uri", "URI"), ("peer_dns", "DNS"))


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


def certificate_names(context: grpc.aio.ServicerContext[Any, Any]) -> Collection[str]:
    """Returns the names in the certificate of a call's connection, in the form of the setting `client_sans`."""
    found: Mapping[str, Collection[bytes]] = cast("Any", context).auth_context()
    return [name_of(kind, value.decode("utf-8", "replace")) for key, kind in _KINDS for value in found.get(key, ())]


def _configuration(material: TlsMaterial) -> Any:
    pair = (material.key, material.certificate)
    return cast("Any", grpc).ssl_server_certificate_configuration([pair], root_certificates=material.grpc_client_ca)

"""What a request over HTTP shows of who makes it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final

from aiohttp import web

from webhook_grpc.domain.access import name_of
from webhook_grpc.server import header_names
from webhook_grpc.server.auth import CertificateNames

_KINDS: Final = frozenset({"URI", "DNS"})


def credentials_of(request: web.Request) -> tuple[Sequence[str], CertificateNames]:
    """Returns the values of `authorization`, and what returns the names in the certificate of the connection."""
    return request.headers.getall(header_names.AUTHORIZATION, []), partial(certificate_names, request)


def certificate_names(request: web.Request) -> Collection[str]:
    """Returns the names in the certificate of a request's connection, in the form of the setting `client_sans`."""
    transport = request.transport
    found: Mapping[str, Any] = (transport and transport.get_extra_info("peercert")) or {}
    return [name_of(kind, value) for kind, value in found.get("subjectAltName", ()) if kind in _KINDS]

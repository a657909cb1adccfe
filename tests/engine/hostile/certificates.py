"""TLS contexts of receivers: one in order, the others each with its own defect."""

from __future__ import annotations

import functools
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import trustme

HOST: Final = "hooks.example.com"
_COPIES_IN_A_HUGE_CHAIN: Final = 2_000  # 1 MB; OpenSSL takes 100 KB
_TICKETS: Final = 200_000


@functools.cache
def authority() -> Any:  # trustme's types need pyOpenSSL
    """Whom the client trusts."""
    return trustme.CA()


def authority_pem() -> str:
    """The certificate that the client must be given."""
    return authority().cert_pem.bytes().decode("ascii")


@functools.cache
def in_order() -> ssl.SSLContext:
    """A certificate for the host, by the authority."""
    return _context_of(authority().issue_cert(HOST))


@functools.cache
def of_another_host() -> ssl.SSLContext:
    """A certificate for another host, by the authority."""
    return _context_of(authority().issue_cert("other.example.com"))


@functools.cache
def expired() -> ssl.SSLContext:
    """A certificate for the host that ended yesterday."""
    yesterday = datetime.now(UTC) - timedelta(days=1)
    return _context_of(authority().issue_cert(HOST, not_after=yesterday))


@functools.cache
def of_another_authority() -> ssl.SSLContext:
    """A certificate for the host by somebody the client does not know."""
    other: Any = trustme.CA()
    return _context_of(other.issue_cert(HOST))


@functools.cache
def self_signed() -> ssl.SSLContext:
    """A certificate that vouches for itself."""
    other: Any = trustme.CA()
    return _context_from_pem(other.private_key_pem.bytes() + other.cert_pem.bytes())


@functools.cache
def with_private_root() -> ssl.SSLContext:
    """A certificate for the host, with its authority's own in the chain, as a company's servers send it."""
    other: Any = trustme.CA()
    issued = other.issue_cert(HOST)
    return _context_from_pem(issued.private_key_and_cert_chain_pem.bytes() + other.cert_pem.bytes())


@functools.cache
def wanting_one_of_the_client() -> ssl.SSLContext:
    """A certificate for the host, by the authority; the client must show one too."""
    context = _context_of(authority().issue_cert(HOST))
    authority().configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@functools.cache
def huge_chain() -> ssl.SSLContext:
    """The right certificate with a megabyte of others behind it."""
    issued = authority().issue_cert(HOST)
    return _context_from_pem(
        issued.private_key_and_cert_chain_pem.bytes() + authority().cert_pem.bytes() * _COPIES_IN_A_HUGE_CHAIN
    )


@functools.cache
def many_names() -> ssl.SSLContext:
    """A certificate for the host and a thousand others, the right one last."""
    return _context_of(authority().issue_cert(*(f"host-{n}.example.com" for n in range(1000)), HOST))


@functools.cache
def many_tickets() -> ssl.SSLContext:
    """The right certificate, and more session tickets after the handshake than anybody needs.

    They are no application data: no limit on the bytes of an answer sees them.
    """
    context = _context_of(authority().issue_cert(HOST))
    context.num_tickets = _TICKETS
    return context


def _context_of(certificate: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def _context_from_pem(pem: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "chain.pem"
        path.write_bytes(pem)
        context.load_cert_chain(path)
    return context


def prepare() -> None:
    """Makes them all: some take longer than a client waits."""
    for make in (
        in_order,
        of_another_host,
        expired,
        of_another_authority,
        self_signed,
        huge_chain,
        many_names,
        many_tickets,
    ):
        make()

"""The files of TLS: read at the start, and read again when they change. A wrong new file changes nothing.

A connection keeps what it began with: new files are for connections that begin later, so no stream ends.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from webhook_grpc.domain.record import record
from webhook_grpc.settings import Settings, SettingsError

if TYPE_CHECKING:  # a part of each start that only TLS needs
    from cryptography import x509

FILE_BYTES_MAX: Final = 1_048_576
RSA_BITS_MIN: Final = 2048
# Of TLS 1.2: forward secrecy and authenticated encryption. All of TLS 1.3 have both.
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"

log = structlog.get_logger(__name__)

Version = tuple[tuple[int, ...] | None, ...]


@record
class TlsFiles:
    """Where the files are, all of them PEM. Without a file of authorities the door wants no certificate of clients."""

    certificate: Path
    key: Path
    grpc_client_ca: Path | None = None
    http_client_ca: Path | None = None


@record
class TlsMaterial:
    """What the files hold, and what is made of it for the doors."""

    certificate: bytes
    """In PEM, as clients are shown it."""
    expire_time: datetime
    grpc_context: ssl.SSLContext
    http_context: ssl.SSLContext


class Certificates:
    """Holds what TLS is served with."""

    def __init__(self, files: TlsFiles, look_seconds: float) -> None:
        """`look_seconds`: how often to look whether a file has changed. Raises SettingsError if one can't be used."""
        self._files = files
        self._look_seconds = look_seconds
        self._version = version_of(files)
        self._wrong_version: Version | None = None
        self._reported_version: Version | None = None
        self.current = read_material(files, datetime.now(UTC))
        """What connections that begin now get. Only the loop writes it."""
        self.is_refused = False
        """Whether the files hold something that can't be used, so that what they held before is served."""

    async def run(self) -> None:
        """Looks at the files until it is cancelled."""
        while True:
            await asyncio.sleep(self._look_seconds)
            await self.look()

    async def look(self) -> None:
        """Takes new files over if they have changed and can be used; reports it once if they can't."""
        version = await asyncio.to_thread(version_of, self._files)
        if version == self._version:
            self._accept(version)
            return
        try:
            material = await asyncio.to_thread(read_material, self._files, datetime.now(UTC))
        except SettingsError as error:
            self._refuse(version, error)
            return
        if await asyncio.to_thread(version_of, self._files) != version:
            return  # written at this moment: the next look sees all of it
        self.current = material
        self._accept(version)
        log.info("new TLS files are served", expire_time=material.expire_time.isoformat())

    def _accept(self, version: Version) -> None:
        self._version, self.is_refused = version, False
        self._wrong_version = self._reported_version = None

    def _refuse(self, version: Version, error: SettingsError) -> None:
        """Reports at the second look only: who copies one file after the other leaves a wrong pair for a moment."""
        if version != self._wrong_version:
            self._wrong_version = version
        elif version != self._reported_version:
            self._reported_version, self.is_refused = version, True
            log.error("new TLS files can't be used; the ones before are served", problem=str(error))


def certificates_of(settings: Settings) -> Certificates | None:
    """Returns what the settings serve TLS with; None for plain text. Raises SettingsError."""
    if settings.tls_certificate_file is None or settings.tls_key_file is None:
        return None
    files = TlsFiles(
        settings.tls_certificate_file, settings.tls_key_file, settings.grpc_client_ca_file, settings.http_client_ca_file
    )
    return Certificates(files, settings.tls_look_seconds)


def version_of(files: TlsFiles) -> Version:
    """Returns what changes when a file is written, replaced, or reached by another symbolic link."""
    return tuple(_version_of(path) for path in _paths(files).values())


def read_material(files: TlsFiles, now: datetime) -> TlsMaterial:
    """Reads the files and judges them. Raises SettingsError, which names the file and what is wrong with it."""
    contents = {name: _read(name, path) for name, path in _paths(files).items()}
    key, certificate = contents["key"], _certificates(files, "certificate", contents["certificate"])[0]
    _check_key(files, key, certificate)
    _check_dates(files, certificate, now)
    for name in ("grpc_client_ca", "http_client_ca"):
        if name in contents:
            _certificates(files, name, contents[name])
    return TlsMaterial(
        contents["certificate"],
        certificate.not_valid_after_utc,
        _context(files, contents.get("grpc_client_ca"), "h2"),
        _context(files, contents.get("http_client_ca"), "http/1.1"),
    )


def _paths(files: TlsFiles) -> dict[str, Path]:
    return {each.name: path for each in fields(files) if (path := getattr(files, each.name)) is not None}


def _version_of(path: Path) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - of what a symbolic link leads to, as a mounted Secret is swapped
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _read(name: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise _problem(name, path, f"cannot be read: {error.strerror or error}") from None
    if len(content) > FILE_BYTES_MAX:
        raise _problem(name, path, f"has more than {FILE_BYTES_MAX} bytes")
    return content


def _certificates(files: TlsFiles, name: str, content: bytes) -> list[x509.Certificate]:
    from cryptography import x509  # noqa: PLC0415 - see above

    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        raise _problem(name, _paths(files)[name], "holds no certificate in PEM") from None


def _check_key(files: TlsFiles, content: bytes, certificate: x509.Certificate) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: PLC0415 - see above
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415 - see above

    try:
        key = load_pem_private_key(content, None)
    except (ValueError, TypeError):  # TypeError: it has a password
        raise _problem("key", files.key, "holds no private key in PEM without a password") from None
    if not isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey)):
        raise _problem("key", files.key, "must be a key of RSA or ECDSA")
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < RSA_BITS_MIN:
        raise _problem("key", files.key, f"is a key of RSA with fewer than {RSA_BITS_MIN} bits")
    if key.public_key() != certificate.public_key():
        raise _problem("key", files.key, f"is not the key of the first certificate in {files.certificate}")


def _check_dates(files: TlsFiles, certificate: x509.Certificate, now: datetime) -> None:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > end:
        raise _problem("certificate", files.certificate, f"holds a certificate that expired at {end.isoformat()}")
    if now < begin:
        problem = f"holds a certificate that is not valid before {begin.isoformat()}"
        raise _problem("certificate", files.certificate, problem)


def _context(files: TlsFiles, client_ca: bytes | None, protocol: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols([protocol])
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an authority below another one is enough in the file
    try:
        context.load_cert_chain(files.certificate, files.key, password="")  # never asks the terminal for one
        if client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=client_ca.decode("ascii", "ignore"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise _problem("certificate", files.certificate, f"cannot be used: {reason}") from None
    return context


def _problem(name: str, path: Path, problem: str) -> SettingsError:
    setting = {"certificate": "TLS_CERTIFICATE_FILE", "key": "TLS_KEY_FILE"}.get(name, f"{name.upper()}_FILE")
    return SettingsError(f"WEBHOOK_{setting}: {path} {problem}")

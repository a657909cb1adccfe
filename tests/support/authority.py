"""A certificate authority for tests, and files of its certificates as Kubernetes mounts a Secret."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import grpc
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NAMES: Final = ("localhost", "127.0.0.1")
_FILES: Final = {"certificate": "tls.crt", "key": "tls.key"}


class Authority:
    """Makes certificates; what it has made is valid until its folder is removed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._ca = trustme.CA()
        self._folder = folder
        self.file = folder / "ca.crt"
        self._ca.cert_pem.write_to_path(self.file)
        self.pem = self.file.read_bytes()

    def issue(self, *names: str, until: datetime | None = None) -> tuple[bytes, bytes]:
        """Returns a certificate with its chain, and its key, both PEM."""
        made = self._ca.issue_cert(*(names or NAMES), not_after=until)
        return b"".join(part.bytes() for part in made.cert_chain_pems), made.private_key_pem.bytes()

    def client(self, name: str = "client.example") -> tuple[Path, Path]:
        """Returns files with a certificate for a client, and its key."""
        certificate, key = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        for path, content in zip((certificate, key), self.issue(name), strict=True):
            path.write_bytes(content)
        return certificate, key

    def client_named(self, *sans: str) -> tuple[Path, Path]:
        """Returns the same with these names: `URI:…`, which trustme does not know, `DNS:…`."""
        kinds = {"URI": x509.UniformResourceIdentifier, "DNS": x509.DNSName, "email": x509.RFC822Name}
        names = [kinds[kind](value) for kind, _, value in (san.partition(":") for san in sans)]
        authority = x509.load_pem_x509_certificate(self.pem)
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        builder = x509.CertificateBuilder(
            issuer_name=authority.subject,
            subject_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a client")]),
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - timedelta(days=1),
            not_valid_after=now + timedelta(days=1),
        ).add_extension(x509.SubjectAlternativeName(names), critical=False)
        signer = serialization.load_pem_private_key(self._ca.private_key_pem.bytes(), None)
        assert isinstance(signer, ec.EllipticCurvePrivateKey)
        made = builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        stem = self._folder / f"client-{len(list(self._folder.iterdir()))}"
        files = stem.with_suffix(".crt"), stem.with_suffix(".key")
        text = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        for path, content in zip(files, (made, text), strict=True):
            path.write_bytes(content)
        return files

    def context(self, client: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """Returns what a client over HTTP needs."""
        context = ssl.create_default_context(cafile=self.file)
        if client is not None:
            context.load_cert_chain(*client)
        return context

    def channel_credentials(self, client: tuple[Path, Path] | None = None) -> grpc.ChannelCredentials:
        """Returns what a client over gRPC needs."""
        if client is None:
            return grpc.ssl_channel_credentials(self.pem)
        certificate, key = (path.read_bytes() for path in client)
        return grpc.ssl_channel_credentials(self.pem, key, certificate)


class MountedSecret:
    """The files of a Secret as the kubelet mounts them: links into a folder, whose link is swapped at once."""

    def __init__(self, folder: Path, certificate: bytes, key: bytes) -> None:
        folder.mkdir()
        self._folder = folder
        self._count = 0
        self.swap(certificate, key)
        for name in _FILES.values():
            (folder / name).symlink_to(Path("..data") / name)
        self.certificate, self.key = (folder / name for name in _FILES.values())

    def swap(self, certificate: bytes, key: bytes) -> None:
        """Puts others in their place."""
        self._count += 1
        version = self._folder / f"..version-{self._count}"
        version.mkdir()
        for name, content in zip(_FILES.values(), (certificate, key), strict=True):
            (version / name).write_bytes(content)
        link = self._folder / "..new"
        link.symlink_to(version.name)
        link.replace(self._folder / "..data")

    @property
    def settings(self) -> dict[str, Path]:
        """The settings that serve it."""
        return {"tls_certificate_file": self.certificate, "tls_key_file": self.key}

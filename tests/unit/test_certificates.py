"""The files of TLS: what is wrong with them is one sentence, and a wrong new file changes nothing."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from structlog.testing import capture_logs

from tests.support.authority import Authority, MountedSecret
from webhook_grpc.server.certificates import Certificates, TlsFiles, read_material
from webhook_grpc.settings import SettingsError

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def secret(authority: Authority, tmp_path: Path) -> MountedSecret:
    return MountedSecret(tmp_path / "secret", *authority.issue())


def files_of(secret: MountedSecret) -> TlsFiles:
    return TlsFiles(secret.certificate, secret.key)


def pem_of(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def with_password(key: bytes) -> bytes:
    loaded = load_pem_private_key(key, None)
    return loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


def wrong_pairs(authority: Authority) -> Mapping[str, tuple[bytes, bytes]]:
    """Pairs of files that can't be used, by what is said of them."""
    certificate, key = authority.issue()
    small = rsa.generate_private_key(65537, 1024)  # noqa: S505 - it is to be refused
    return {
        "TLS_CERTIFICATE_FILE: tls.crt holds no certificate in PEM": (b"garbage", key),
        "TLS_CERTIFICATE_FILE: tls.crt has more than 1048576 bytes": (certificate + b"\n" * 1_048_576, key),
        "TLS_KEY_FILE: tls.key holds no private key in PEM without a password": (certificate, with_password(key)),
        "TLS_KEY_FILE: tls.key must be a key of RSA or ECDSA": (
            certificate,
            pem_of(ed25519.Ed25519PrivateKey.generate()),
        ),
        "TLS_KEY_FILE: tls.key is a key of RSA with fewer than 2048 bits": (certificate, pem_of(small)),
        "TLS_KEY_FILE: tls.key is not the key of the first certificate in tls.crt": (certificate, authority.issue()[1]),
    }


def test_each_wrong_file_is_named_with_its_setting_and_what_is_wrong(authority: Authority, tmp_path: Path) -> None:
    for number, (said, pair) in enumerate(wrong_pairs(authority).items()):
        secret = MountedSecret(tmp_path / str(number), *pair)
        with pytest.raises(SettingsError) as raised:
            read_material(files_of(secret), NOW)
        assert str(raised.value).replace(f"{tmp_path / str(number)}/", "") == f"WEBHOOK_{said}"


def test_a_certificate_is_judged_by_its_dates(authority: Authority, tmp_path: Path) -> None:
    end = datetime(2100, 1, 1, tzinfo=UTC)
    files = files_of(MountedSecret(tmp_path / "secret", *authority.issue(until=end)))
    assert read_material(files, end).expire_time == end
    with pytest.raises(SettingsError, match=r"expired at 2100-01-01T00:00:00\+00:00"):
        read_material(files, end + timedelta(seconds=1))
    with pytest.raises(SettingsError, match="is not valid before 2000-01-01"):
        read_material(files, datetime(1999, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("door", ["grpc", "http"])
def test_a_file_of_authorities_needs_a_certificate(secret: MountedSecret, tmp_path: Path, door: str) -> None:
    wrong = tmp_path / "ca.crt"
    with pytest.raises(SettingsError, match=f"WEBHOOK_{door.upper()}_CLIENT_CA_FILE: .* cannot be read: No such file"):
        read_material(TlsFiles(secret.certificate, secret.key, **{f"{door}_client_ca": wrong}), NOW)
    wrong.write_bytes(secret.key.read_bytes())
    with pytest.raises(SettingsError, match=f"WEBHOOK_{door.upper()}_CLIENT_CA_FILE: .* holds no certificate"):
        read_material(TlsFiles(secret.certificate, secret.key, **{f"{door}_client_ca": wrong}), NOW)


async def test_new_files_are_taken_over_when_the_link_is_swapped(authority: Authority, secret: MountedSecret) -> None:
    certificates = Certificates(files_of(secret), look_seconds=60)
    first = certificates.current
    await certificates.look()
    assert certificates.current is first
    new = authority.issue()
    secret.swap(*new)
    await certificates.look()
    assert certificates.current.certificate == new[0]


async def test_new_files_are_taken_over_when_they_are_written_in_place(
    authority: Authority, secret: MountedSecret
) -> None:
    certificates = Certificates(files_of(secret), look_seconds=60)
    new = authority.issue()
    for path, content in zip((secret.certificate, secret.key), new, strict=True):
        path.write_bytes(content)
    await certificates.look()
    assert certificates.current.certificate == new[0]


async def test_wrong_new_files_are_reported_once_and_those_before_are_served_until_they_are_right(
    authority: Authority, secret: MountedSecret
) -> None:
    certificates = Certificates(files_of(secret), look_seconds=60)
    first, key, new = certificates.current, secret.key.read_bytes(), authority.issue()
    with capture_logs() as lines:
        secret.swap(new[0], key)
        for _ in range(4):
            await certificates.look()
    assert certificates.current is first
    assert certificates.is_refused
    [line] = lines
    assert line["event"] == "new TLS files can't be used; the ones before are served"
    assert "is not the key of the first certificate" in line["problem"]

    with capture_logs() as lines:
        secret.swap(new[0], b"garbage")
        for _ in range(4):
            await certificates.look()
    assert ["holds no private key" in line["problem"] for line in lines] == [True], "another fault is reported, too"

    secret.swap(*new)
    await certificates.look()
    assert (certificates.current.certificate, certificates.is_refused) == (new[0], False)


async def test_a_pair_that_is_copied_one_file_after_the_other_is_not_reported(
    authority: Authority, secret: MountedSecret
) -> None:
    certificates = Certificates(files_of(secret), look_seconds=60)
    key, new = secret.key.read_bytes(), authority.issue()
    with capture_logs() as lines:
        secret.swap(new[0], key)
        await certificates.look()
        secret.swap(*new)
        await certificates.look()
    assert certificates.current.certificate == new[0]
    assert [line["event"] for line in lines] == ["new TLS files are served"]


async def test_files_that_are_put_back_are_right_again(authority: Authority, secret: MountedSecret) -> None:
    certificates = Certificates(files_of(secret), look_seconds=60)
    first = secret.certificate.read_bytes(), secret.key.read_bytes()
    secret.swap(b"", b"")
    for _ in range(2):
        await certificates.look()
    assert certificates.is_refused
    secret.swap(*first)
    await certificates.look()
    assert not certificates.is_refused


def shaken(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """Makes a handshake in memory. Raises ssl.SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
    ]
    for _ in range(4):
        for side in sides:
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    assert sides[0].getpeercert()


def test_an_authority_below_another_one_is_enough_for_clients(
    authority: Authority, secret: MountedSecret, tmp_path: Path
) -> None:
    """As where an installation has an issuing authority of its own, and its root is elsewhere."""
    issuing = trustme.CA().create_child_ca()
    issuing.cert_pem.write_to_path(tmp_path / "issuing.crt")
    files = replace(files_of(secret), grpc_client_ca=tmp_path / "issuing.crt", http_client_ca=tmp_path / "issuing.crt")
    material = read_material(files, NOW)
    client = authority.context()
    cast("Any", issuing.issue_cert("client.example")).configure_cert(client)

    shaken(material.grpc_context, client)
    shaken(material.http_context, client)
    cast("Any", trustme.CA().issue_cert("client.example")).configure_cert(client)
    with pytest.raises(ssl.SSLError):
        shaken(material.grpc_context, client)

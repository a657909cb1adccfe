"""The environment of the process: nothing in it redirects, authenticates or records a delivery."""

from __future__ import annotations

import asyncio
import base64
import ssl
from ipaddress import IPv4Network
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trustme

from tests.support.dns import Leading
from tests.support.receiver import Receiver
from webhook_grpc.domain.egress import EgressPolicy
from webhook_grpc.domain.model import Outcome
from webhook_grpc.engine.http.sender import Request, Sender, SendLimits
from webhook_grpc.store.clock import DatabaseClock

LOCAL = EgressPolicy(allow_http=True, allowed_networks=(IPv4Network("127.0.0.0/8"),))


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
async def test_a_proxy_of_the_environment_is_not_asked(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It would dial for us, behind the guard's back."""
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    sender = Sender(LOCAL, DatabaseClock(), Random(), SendLimits(100))
    result = await sender.send(Request(receiver.url(), {}, b"{}", 5.0))
    await sender.close()
    assert result.outcome is Outcome.SUCCEEDED
    assert [received.path for received in receiver.requests] == ["/ok"]


async def test_a_password_of_netrc_is_not_sent(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in (".netrc", "_netrc"):
        path = tmp_path / name
        path.write_text("machine 127.0.0.1 login operator password hunter2\ndefault login operator password hunter2\n")
        path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    sender = Sender(LOCAL, DatabaseClock(), Random(), SendLimits(100))
    await sender.send(Request(receiver.url(), {}, b"{}", 5.0))
    await sender.close()
    [received] = receiver.requests
    assert "Authorization" not in received.headers
    assert base64.b64encode(b"operator:hunter2").decode() not in str(received.headers)


async def test_the_keys_of_tls_connections_are_not_written_down(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """SSLKEYLOGFILE makes browsers and Python's default context write them for a debugger."""
    authority: Any = trustme.CA()  # its types need pyOpenSSL
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("hooks.example.com").configure_cert(server_context)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context)
    sender = Sender(LOCAL, DatabaseClock(), Random(), SendLimits(100), resolver=Leading(["127.0.0.1"]))
    url = f"https://hooks.example.com:{server.sockets[0].getsockname()[1]}/"
    result = await sender.send(Request(url, {}, b"{}", 5.0))
    await sender.close()
    server.close()
    assert result.outcome is Outcome.SUCCEEDED, "the operator's own authorities do count"
    assert not (tmp_path / "keys").exists() or not (tmp_path / "keys").read_text().count("SECRET")

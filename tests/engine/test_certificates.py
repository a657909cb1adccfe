"""Certificates that are not accepted, of real TLS servers: the failure says what is wrong with each."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import Callable
from random import Random

import pytest
import uvloop

from tests.engine.hostile import certificates
from tests.engine.hostile.peer import Peer
from tests.support import slowness
from tests.support.dns import Leading
from tests.support.raw import OK
from webhook_grpc.domain.egress import EgressPolicy
from webhook_grpc.domain.model import AttemptResult, FailureReason, Outcome
from webhook_grpc.engine.http.sender import Request, Sender, SendLimits
from webhook_grpc.store.clock import DatabaseClock

LOCAL = EgressPolicy(allow_http=True, allowed_networks=(ipaddress.IPv4Network("127.0.0.0/8"),))


async def send_to(context: ssl.SSLContext, host: str = certificates.HOST) -> AttemptResult:
    client = ssl.create_default_context()
    certificates.authority().configure_trust(client)
    sender = Sender(
        LOCAL, DatabaseClock(), Random(), SendLimits(100), resolver=Leading(["127.0.0.1"]), ssl_context=client
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        serving = asyncio.get_running_loop().run_in_executor(None, serve_one, listener, context)
        result = await sender.send(Request(f"https://{host}:{port}/", {}, b"{}", slowness.scaled(5)))
        await serving
    await sender.close()
    return result


def serve_one(listener: socket.socket, context: ssl.SSLContext) -> None:
    """In blocking calls: asyncio's own server closes without the alert that says what it wants.

    What the client sends meanwhile is read to its end: a socket that is closed with unread bytes resets the connection,
    and the alert is lost with it.
    """
    listener.settimeout(slowness.scaled(5))
    connection = listener.accept()[0]
    with connection.dup() as raw:  # TLS that fails closes the other one
        raw.settimeout(slowness.scaled(5))
        peer = Peer(connection)
        with contextlib.suppress(OSError):
            peer.start_tls(context)
            peer.read_request()
            peer.say(OK)
        peer.sock.close()
        with contextlib.suppress(OSError):
            raw.shutdown(socket.SHUT_WR)
            while raw.recv(4096):
                pass


LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.mark.parametrize("loop_factory", LOOPS, ids=["asyncio", "uvloop"])
@pytest.mark.parametrize(
    ("context", "reason"),
    [
        (certificates.in_order, FailureReason.NONE),
        (certificates.expired, FailureReason.CERTIFICATE_EXPIRED),
        (certificates.self_signed, FailureReason.CERTIFICATE_SELF_SIGNED),
        (certificates.of_another_authority, FailureReason.CERTIFICATE_UNKNOWN_AUTHORITY),
        (certificates.with_private_root, FailureReason.CERTIFICATE_UNKNOWN_AUTHORITY),
        (certificates.of_another_host, FailureReason.CERTIFICATE_NAME),
        (certificates.wanting_one_of_the_client, FailureReason.CLIENT_CERTIFICATE_WANTED),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_wrong_with_a_certificate_is_said(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
    context: Callable[[], ssl.SSLContext],
    reason: FailureReason,
) -> None:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        result = runner.run(send_to(context()))
    outcome = Outcome.TLS_ERROR if reason else Outcome.SUCCEEDED
    assert (result.outcome, result.reason) == (outcome, reason)


def test_the_sentences_differ() -> None:
    """Five of them; the sixth is for whatever else OpenSSL finds."""
    sentences = {reason.value for reason in FailureReason if "CERTIFICATE" in reason.name}
    assert len(sentences) == 6


@pytest.mark.parametrize(
    ("host", "name"),
    [(certificates.HOST, certificates.HOST), ("HOOKS.Example.com.", certificates.HOST), ("127.0.0.1", None)],
)
@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_the_receiver_is_given_the_name_that_its_certificate_has_to_hold(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], host: str, name: str | None
) -> None:
    """In SNI, as a name: in lower case, without a dot at its end; an address is none (RFC 6066 3)."""
    names: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificates.authority().issue_cert(name or host).configure_cert(context)
    context.sni_callback = lambda _, said, __: names.append(said)
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        result = runner.run(send_to(context, host))
    assert (result.outcome, names) == (Outcome.SUCCEEDED, [name])

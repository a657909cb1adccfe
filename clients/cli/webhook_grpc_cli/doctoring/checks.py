"""The checks, in the order in which one needs the other. Nothing is changed, and no webhook is called."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import UTC
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.duration_pb2 import Duration
from webhook.v1 import service_pb2

from webhook_grpc_cli.failures import REMEDY_USUAL, UsageFailure, remedy_without_answer
from webhook_grpc_cli.output.look import latency_text
from webhook_grpc_cli.places import SCHEMES
from webhook_grpc_cli.session import Session
from webhook_grpc_client import TLS, Unauthorized, WebhookError
from webhook_grpc_client.connecting import Token, credentials
from webhook_grpc_client.errors import error_of

from .results import Result, certificate_words, clocks, proxy_of

_PLACES_SHOWN: Final = 2
_STORED_TOKEN: Final = re.compile(r"(whk_[1-9][0-9]{0,18})_[A-Za-z0-9_-]{43}")  # the id, and the secret
_SECONDS_MAX: Final = 10.0  # for one check, if --timeout is not shorter
_NOT_REACHED: Final = "not checked: the address does not answer"


def results(session: Session) -> Iterator[Result]:
    """Yields what each check has found, as soon as it is known. Raises UsageFailure for a wrong configuration."""
    yield _profile(session)
    name = _name(session)
    yield name
    address = (
        _address(session) if name.state != "problem" else Result("address", "skipped", "not checked: no such name")
    )
    yield address
    is_reached = address.state in {"ok", "warning"}
    for check_name, check in _CALLS.items():
        yield check(session) if is_reached else Result(check_name, "skipped", _NOT_REACHED)
    if not is_reached:
        yield Result("clocks", "skipped", _NOT_REACHED)
        yield Result("stream", "skipped", _NOT_REACHED)
    else:
        yield from _stream(session)


def _seconds(session: Session) -> float:
    return min(session.timeout_seconds, _SECONDS_MAX)


def _profile(session: Session) -> Result:
    place = session.place
    if not place.profile_name:
        return Result("profile", "ok", "none: flags and the environment say where to go")
    path = place.profiles.path
    mode = path.stat().st_mode & 0o777
    return Result("profile", "ok", f"{place.profile_name}, {_short(path)}, mode {mode:04o}")


def _short(path: Path) -> str:
    try:
        return f"~/{path.relative_to(Path.home())}"
    except (ValueError, RuntimeError):
        return str(path)


def _name(session: Session) -> Result:
    """Looks the service's name up. How long that takes is bounded by the resolver (`man resolv.conf`)."""
    try:
        address = session.place.address
    except UsageFailure:
        return Result("dns", "skipped", "not checked: no address")
    if address.startswith(SCHEMES):
        return Result("dns", "ok", f"{address}, not looked up")
    host = address.rpartition(":")[0].strip("[]")
    if _is_ip(host):
        return Result("dns", "ok", f"{host} is no name")
    started = time.monotonic()
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # UnicodeError: a label of more than 63 characters
        why = getattr(error, "strerror", None) or type(error).__name__
        return Result(
            "dns", "problem", f"{host}: {why}", f"is the name right? else see /etc/resolv.conf: getent hosts {host}"
        )
    places = list(dict.fromkeys(str(one[4][0]) for one in found))
    more = f" and {len(places) - _PLACES_SHOWN} more" if len(places) > _PLACES_SHOWN else ""
    took = latency_text(time.monotonic() - started)
    return Result("dns", "ok", f"{host} is {', '.join(places[:_PLACES_SHOWN])}{more}, looked up in {took}")


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _address(session: Session) -> Result:
    try:
        address = session.place.address
    except UsageFailure as error:
        return Result("address", "problem", error.message, error.remedy)
    if address.startswith(SCHEMES):
        return Result("address", "ok", f"{address}, not looked at")
    host, _, port = address.rpartition(":")
    started = time.monotonic()
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_seconds(session)) as connection:
            detail = f"{address} answers in {latency_text(time.monotonic() - started)}"
            return _secured(session, connection, host, detail)
    except ssl.SSLError as error:  # before ValueError and OSError, which it may be too
        why = getattr(error, "verify_message", "") or error.reason or type(error).__name__
        remedy = remedy_without_answer(why)
        usual = "--ca, --server-name, or --no-tls if it has none"
        return Result("address", "problem", f"{address}: TLS: {why}", usual if remedy == REMEDY_USUAL else remedy)
    except OSError as error:
        why = error.strerror or type(error).__name__
        return Result("address", "problem", f"{address}: {why}", "start it (webhook-grpc serve), or give --address")
    except ValueError as error:  # a port beyond 65535, a name that cannot be one
        return Result("address", "problem", f"{address}: {error}", "give --address HOST:PORT")


def _secured(session: Session, connection: socket.socket, host: str, detail: str) -> Result:
    tls = session.place.tls()
    proxy = proxy_of(session.place.address, os.environ)
    if credentials(session.place.address, tls) is None:
        return (
            Result("address", "ok", f"{detail}, no TLS") if not proxy else _by_proxy(proxy, f"{detail}, no TLS", host)
        )
    files = tls if isinstance(tls, TLS) else TLS()
    context = ssl.create_default_context(cafile=files.ca_file)
    context.set_alpn_protocols(["h2"])
    if files.cert_file is not None:
        context.load_cert_chain(files.cert_file, files.key_file)
    with context.wrap_socket(connection, server_hostname=files.server_name or host.strip("[]")) as secured:
        found: Any = secured.getpeercert() or {}
        state, words = certificate_words(ssl.cert_time_to_seconds(found["notAfter"]), time.time())
        remedy = "" if state == "ok" else "renew the certificate: the service reads a new one by itself"
        detail = f"{detail}, {secured.version()}, {words}"
        if proxy and state == "ok":
            return _by_proxy(proxy, detail, host)
        return Result("address", state, detail, remedy)


def _by_proxy(name: str, detail: str, host: str) -> Result:
    """Says that calls take another way than this check has taken."""
    return Result("address", "warning", f"{detail}; calls go through {name} of this environment", f"no_proxy={host}")


def token_of(session: Session) -> str:
    """Returns the token that calls have, empty for none. Raises UsageFailure."""
    try:
        return session.token_text
    except Unauthorized:  # the file can't be read, which the check of the token says
        return ""


def _source(session: Session) -> str:
    """Returns where the token is from, and its id if that stands in it. Never the secret."""
    found = _STORED_TOKEN.fullmatch(token_of(session))
    return ", ".join(filter(None, [session.place.token_source or "none", found[1] if found else ""]))


def _token(session: Session) -> Result:
    source = _source(session)
    request = service_pb2.ListWebhooksRequest(page_size=1, customer_id=session.place.customer_id)
    try:
        session.call(session.stub.ListWebhooks, request)
    except Unauthorized as error:
        if error.code is grpc.StatusCode.PERMISSION_DENIED:
            return Result(
                "token", "warning", f"{source}: {error.message}", "it may publish; reading needs another token"
            )
        return Result("token", "problem", f"{source}: {error.message}", "webhook-grpc profiles show")
    except WebhookError as error:
        return Result(
            "token", "problem", f"{error.code.name}: {error.message}", _remedy(error, "webhook-grpc doctor -v")
        )
    return Result("token", "ok", f"{source}, may read" if session.place.token_source else "none, and none is needed")


_CALLS: Final[dict[str, Callable[[Session], Result]]] = {"token": _token}


def _remedy(error: WebhookError, usual: str) -> str:
    """Returns what gRPC's own words say is to be done, else the usual."""
    remedy = remedy_without_answer(error.message)
    return usual if remedy == REMEDY_USUAL else remedy


def _stream(session: Session) -> Iterator[Result]:
    request = service_pb2.WatchDeliveriesRequest(
        customer_id=session.place.customer_id, heartbeat_interval=Duration(seconds=1)
    )
    before, started = time.time(), time.monotonic()
    try:
        metadata = Token(*session.place.token()).metadata()
        call = session.stub.WatchDeliveries(request, timeout=_seconds(session), metadata=metadata)
        message = next(iter(call))
        call.cancel()
    except (grpc.RpcError, WebhookError) as raised:
        error = error_of(raised) if isinstance(raised, grpc.RpcError) else raised
        yield Result("clocks", "skipped", "not checked: no message came")
        remedy = _remedy(error, "does a proxy between cut streams?")
        yield Result("stream", "problem", f"{error.code.name}: {error.message}", remedy)
        return
    took = time.monotonic() - started
    yield clocks(message.server_time.ToDatetime(UTC).timestamp(), before, before + took)
    yield Result("stream", "ok", f"first message after {latency_text(took)}")

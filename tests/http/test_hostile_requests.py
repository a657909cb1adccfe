"""Bytes that no well-behaved client sends: each is refused or understood, none is a 500, and the service lives on."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from tests.support import slowness
from tests.support.postgres import TestPostgres
from tests.support.service import CUSTOMER, Service, ServiceFactory

from .client import Http
from .contract import contract

pytestmark = [pytest.mark.fast, pytest.mark.asyncio(loop_scope="module")]

HOST = "Host: localhost\r\n"
JSON = "Content-Type: application/json\r\n"
EVENT = f'{{"event": {{"customer_id": {CUSTOMER}, "event_type": "job.completed", "data": {{}}}}}}'.encode()
BOMB = gzip.compress(b" " * 50_000_000)
ENDS = "Connection: close\r\n"


def get(path: str, headers: str = "", version: str = "HTTP/1.1", host: str = HOST) -> bytes:
    """Returns the bytes of a GET."""
    return f"GET {path} {version}\r\n{host}{ENDS}{headers}\r\n".encode("latin-1")


def post(headers: str, body: bytes, path: str = "/api/events", kind: str = JSON) -> bytes:
    """Returns the bytes of a POST."""
    return f"POST {path} HTTP/1.1\r\n{HOST}{ENDS}{kind}{headers}\r\n".encode("latin-1") + body


def sized(body: bytes) -> str:
    """Returns the header that says how long a body is."""
    return f"Content-Length: {len(body)}\r\n"


CHUNKED = "Transfer-Encoding: chunked\r\n"
LONG = "x" * 20_000

REQUESTS: dict[str, tuple[bytes, set[int]]] = {
    # no HTTP at all
    "words": (b"hello\r\n\r\n", {400}),
    "a TLS hello": (bytes.fromhex("16030100a5010000a10303") + b"\0" * 40 + b"\r\n\r\n", {400}),
    "an HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 405, 404}),
    "a version of the future": (get("/healthz", version="HTTP/9.9"), {200, 400, 505}),
    "no version": (b"GET /healthz\r\n\r\n", {200, 400}),
    "lines that end in LF": (f"GET /healthz HTTP/1.1\n{HOST.strip()}\n\n".encode(), {200, 400}),
    "a NUL in the first line": (get("/health\0z"), {400, 404}),
    "a space in the path": (get("/health z"), {400}),
    # long heads
    "a long path": (get("/" + LONG), {400}),
    "a long query": (get("/api/events?page_token=" + LONG), {400}),
    "a long header": (get("/healthz", f"X-Long: {LONG}\r\n"), {400}),
    "headers that are long together": (get("/healthz", "".join(f"X-{n}: {'x' * 8000}\r\n" for n in range(10))), {400}),
    "many headers": (get("/healthz", "".join(f"X-{number}: 1\r\n" for number in range(500))), {400}),
    # headers
    "a header without a colon": (get("/healthz", "nonsense\r\n"), {400}),
    "a name with a space": (get("/healthz", "X Name: 1\r\n"), {400}),
    "a value with a NUL": (get("/healthz", "X-Name: a\0b\r\n"), {400}),
    "a folded header": (get("/healthz", "X-Name: a\r\n b\r\n"), {200, 400}),
    "no host": (get("/healthz", host=""), {400, 403}),
    "an empty host": (get("/healthz", host="Host:\r\n"), {400, 403}),
    "two hosts": (get("/healthz", "Host: evil.example\r\n"), {400, 403}),
    "an upgrade": (get("/healthz", "Upgrade: websocket\r\nConnection: Upgrade\r\n"), {200, 400}),
    **{
        f"{name} that is not UTF-8": (post(f"{name}: \xff\xfe\r\n{sized(EVENT)}", EVENT), {200, 400, 403})
        for name in ("Idempotency-Key", "X-Request-ID", "Authorization", "Origin", "If-Match")
    },
    "If-Match of a DELETE that is not UTF-8": (
        f"DELETE /api/webhooks/1?customer_id=1 HTTP/1.1\r\n{HOST}{ENDS}If-Match: \xff\r\n\r\n".encode("latin-1"),
        {400},
    ),
    **{
        f"If-None-Match {value!r}": (get("/api/openapi.json", f"If-None-Match: {value}\r\n"), {200, 304, 400})
        for value in ("\xff", '"', "*", '"a", ', 'W/"\xff"', "," * 5000)
    },
    "Last-Event-ID that is not UTF-8": (get("/api/deliveries:watch", "Last-Event-ID: \xff\r\n"), {400}),
    "a content type that is not UTF-8": (post(sized(EVENT), EVENT, kind="Content-Type: \xff\r\n"), {415, 400}),
    # lengths
    "two lengths": (post(f"Content-Length: 2\r\n{sized(EVENT)}", EVENT), {400}),
    "a negative length": (post("Content-Length: -1\r\n", b""), {400}),
    "a length with a sign": (post("Content-Length: +5\r\n", b"{}"), {400}),
    "a length of many digits": (post(f"Content-Length: {'9' * 500}\r\n", b"{}"), {400, 413}),
    "a length and chunks": (post(f"{sized(EVENT)}{CHUNKED}", b"0\r\n\r\n"), {400}),
    "chunks and a length": (post(f"{CHUNKED}{sized(EVENT)}", b"0\r\n\r\n"), {400}),
    "chunks twice": (post("Transfer-Encoding: chunked, chunked\r\n", b"0\r\n\r\n"), {400, 501}),
    "chunks of another name": (post("Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"), {400, 501}),
    "a chunk of no number": (post(CHUNKED, b"zz\r\n{}\r\n0\r\n\r\n"), {400}),
    "a chunk that is longer than it says": (post(CHUNKED, b"1\r\n{}\r\n0\r\n\r\n"), {400}),
    "a chunk of a length beyond all": (post(CHUNKED, b"f" * 40 + b"\r\n{}\r\n0\r\n\r\n"), {400, 413}),
    "good chunks": (post(CHUNKED, f"{len(EVENT):x}\r\n".encode() + EVENT + b"\r\n0\r\n\r\n"), {200}),
    "a body of a GET": (get("/healthz", "Content-Length: 2\r\n") + b"{}", {200, 400}),
    # bodies
    "bytes that are not UTF-8": (post(sized(b'{"event": "\xff"}'), b'{"event": "\xff"}'), {400}),
    "UTF-16": (post(sized(EVENT.decode().encode("utf-16")), EVENT.decode().encode("utf-16")), {400}),
    "another charset": (
        post(sized(EVENT), EVENT, kind="Content-Type: application/json; charset=utf-16\r\n"),
        {200, 400, 415},
    ),
    "an unknown charset": (
        post(sized(EVENT), EVENT, kind="Content-Type: application/json; charset=nonsense\r\n"),
        {200, 400, 415},
    ),
    "only white space": (post(sized(b"  "), b"  "), {400}),
    **{
        f"a bomb of {name}": (post(f"Content-Encoding: {name}\r\n{sized(BOMB)}", BOMB), {415})
        for name in ("gzip", "deflate", "br", "zstd", "GZIP", "gzip, gzip")
    },
    "identity": (post(f"Content-Encoding: identity\r\n{sized(EVENT)}", EVENT), {200}),
    "100-continue": (post(f"Expect: 100-continue\r\n{sized(EVENT)}", EVENT), {100}),
    "an unknown expectation": (post(f"Expect: nonsense\r\n{sized(EVENT)}", EVENT), {417}),
    # paths
    **{
        f"the path {path}": (get(path), {400, 403, 404})
        for path in (
            *("/api/webhooks/1%2F2", "/api/webhooks/..", "/api/webhooks/%2e%2e/x", "//api/webhooks", "/api//webhooks"),
            *("/api/webhooks/%00?customer_id=1", "/api/webhooks/%ff?customer_id=1", "/%"),
            *(
                "/api/eventTypes/%ff",
                "/api/eventTypes/%00",
                "/api/events/%ed%a0%80?customer_id=1",
                "/api/webhooks/1;a=b",
            ),
            *("/api/events?%ff=1", "/api/events?page_token=%00", "/api/events?a[b[c=1"),
            *("/api/events?event_types[x]=1", "/api/events?.=1", "/api/events?start_time.seconds=1", "/api/events?=1"),
            *(
                "/api/events?attributes=1",
                "/api/events?attributes[a][b]=1&customer_id=x",
                "http://evil.example/healthz",
            ),
        )
    },
    "a colon that is escaped": (get("/api/webhooks/1%3Apause"), {404, 405}),
    "names that are not UTF-8": (get("/api/events?attributes[%ff]=%ff%"), {200, 400}),
    "the path of dots that is resolved": (get("/api/../healthz"), {200, 400, 404}),
    "the path *": (f"OPTIONS * HTTP/1.1\r\n{HOST}{ENDS}\r\n".encode(), {400, 404, 405}),
    "CONNECT": (f"CONNECT localhost:1 HTTP/1.1\r\n{HOST}{ENDS}\r\n".encode(), {400, 404, 405}),
    "TRACE": (f"TRACE /api/events HTTP/1.1\r\n{HOST}{ENDS}\r\n".encode(), {405}),
    "a verb of its own": (f"BREW /api/events HTTP/1.1\r\n{HOST}{ENDS}\r\n".encode(), {400, 405}),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Service]:
    """A service that all requests of this module go to."""
    postgres.empty()
    services = ServiceFactory(postgres.url, tmp_path_factory.mktemp("services"))
    yield await services.start(http_address="127.0.0.1:0")
    await services.stop()


@pytest.mark.parametrize(("request_", "statuses"), REQUESTS.values(), ids=REQUESTS)
async def test_it_is_refused_or_understood_and_the_service_lives(
    service: Service, request_: bytes, statuses: set[int]
) -> None:
    status, headers, body = await answered(service, request_)
    assert status in statuses, body[:500]
    if status >= 400:
        assert headers["content-type"] == "application/problem+json", body[:500]
        contract().fits({"$ref": "#/components/schemas/Problem"}, json.loads(body), "problem")
        assert len(body) < 2000, "what was sent does not come back"
    async with Http(service) as http:
        assert (await http.get("/healthz")).status == 200


async def answered(service: Service, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Sends bytes on a connection of their own, and returns the first answer that comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.app.http_port)
    try:
        async with slowness.timeout(20):
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
    finally:
        writer.close()
    return int(head[0].split(" ")[1]), headers, body


async def test_a_head_that_is_refused_leaves_no_trace_of_the_stack_in_the_log(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever reaches the port could fill the log with them."""
    await answered(service, b"hello\r\n\r\n")
    written = capsys.readouterr()
    assert "Traceback" not in written.out + written.err

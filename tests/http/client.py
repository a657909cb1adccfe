"""A client of the HTTP door, as small as curl. Whatever it gets is held against the OpenAPI document."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp

from tests.support import slowness
from tests.support.service import CUSTOMER, Service

from .contract import contract

URL = "https://example.com/webhook"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def body(self) -> Any:
        """The JSON of the answer."""
        return json.loads(self.text)

    @property
    def reason(self) -> str:
        """The reason of a problem document."""
        assert self.headers["content-type"] == "application/problem+json"
        assert self.body["status"] == self.status
        return str(self.body["reason"])

    @property
    def fields(self) -> list[str]:
        """The fields that a problem document names."""
        return [violation["field"] for violation in self.body.get("violations", [])]


class Watch:
    """A stream that has begun."""

    def __init__(self, path: str, response: aiohttp.ClientResponse) -> None:
        self._path = path
        self._response = response
        self.status = response.status
        self.content_type = response.content_type

    async def blocks(self) -> AsyncGenerator[dict[str, str]]:
        """Yields each block of an event stream as the fields that it has; a comment is the field ``."""
        fields: dict[str, str] = {}
        async for line in self._response.content:
            text = line.decode().rstrip("\n")
            if not text:
                self._hold(fields)
                yield fields
                fields = {}
            else:
                name, _, value = text.partition(": ")
                fields[name] = value

    async def line(self) -> Any:
        """Returns the next line of JSON."""
        line = json.loads(await self._response.content.readline())
        contract().hold_line(self._path, line)
        return line

    async def begun(self) -> str:
        """Waits for the first block and returns its id: what happens from now on is told."""
        async with slowness.timeout(20), aclosing(self.blocks()) as blocks:
            return (await anext(blocks))["id"]

    async def deliveries(self, count: int) -> tuple[list[dict[str, Any]], str]:
        """Returns the next deliveries that the stream tells, and the id of its last event."""
        found, last = list[dict[str, Any]](), ""
        async with slowness.timeout(20), aclosing(self.blocks()) as blocks:
            async for block in blocks:
                last = block.get("id", last)
                found += json.loads(block["data"])["deliveries"] if "data" in block else []
                if len(found) >= count:
                    break
        return found, last

    def _hold(self, block: dict[str, str]) -> None:
        if "data" in block:
            message = json.loads(block["data"])
            contract().hold_line(self._path, {"problem": message} if block.get("event") == "problem" else message)


class Http:
    """Calls one service over HTTP."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.base = f"http://127.0.0.1:{service.app.http_port}"
        self._session = aiohttp.ClientSession(self.base, read_bufsize=4 * 1024 * 1024)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self._session.close()

    async def call(
        self, verb: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None, text: str | None = None
    ) -> Answer:
        """Calls a path with a JSON body, or with a text that is said to be JSON."""
        data = text if text is not None else None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json", **(headers or {})} if data is not None else headers or {}
        content = None if data is None else io.BytesIO(data.encode("utf-8", "surrogatepass"))
        async with slowness.timeout(20), self._session.request(verb, path, data=content, headers=headers) as response:
            lower = {name.lower(): value for name, value in response.headers.items()}
            answer = Answer(response.status, lower, await response.text())
        contract().hold(verb, path, answer.status, lower, answer.text)
        return answer

    @asynccontextmanager
    async def watch(self, path: str, headers: dict[str, str] | None = None) -> AsyncGenerator[Watch]:
        """Opens a stream."""
        async with self._session.get(path, headers=headers) as response:
            contract().hold_head(path, response.status, response.content_type)
            yield Watch(path, response)

    async def get(self, path: str, **headers: str) -> Answer:
        """Gets a path."""
        return await self.call("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    async def post(self, path: str, body: Any, **headers: str) -> Answer:
        """Posts JSON to a path."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.call("POST", path, body, headers=named)

    async def create(self, url: str = URL, **fields: Any) -> dict[str, Any]:
        """Creates a webhook for all events, and returns it."""
        values = {"customer_id": CUSTOMER, "name": "test", "url": url, "events": ["*"], **fields}
        answer = await self.post("/api/webhooks", values)
        assert answer.status == 201, answer.text
        created: dict[str, Any] = answer.body
        return created

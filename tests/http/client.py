"""A client of the HTTP door, as small as curl."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp

from tests.support import slowness
from tests.support.service import CUSTOMER, Service

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


class Http:
    """Calls one service over HTTP."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.base = f"http://127.0.0.1:{service.app.http_port}"
        self.session = aiohttp.ClientSession(self.base, read_bufsize=4 * 1024 * 1024)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.session.close()

    async def call(
        self, verb: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None, text: str | None = None
    ) -> Answer:
        """Calls a path with a JSON body, or with a text that is said to be JSON."""
        data = text if text is not None else None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json", **(headers or {})} if data is not None else headers or {}
        content = None if data is None else io.BytesIO(data.encode("utf-8", "surrogatepass"))
        async with slowness.timeout(20), self.session.request(verb, path, data=content, headers=headers) as response:
            lower = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status, lower, await response.text())

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

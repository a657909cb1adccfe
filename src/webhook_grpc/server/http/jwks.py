"""GET /api/customers/{customer_id}/jwks.json: the public signing keys of a customer (RFC 7517), without a token."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, Protocol
from uuid import uuid4

from aiohttp import web

from webhook_grpc.domain.errors import Overloaded, WebhookError

from .problem import Problem

PATH: Final = "/api/customers/{customer_id}/jwks.json"
MAX_AGE_SECONDS: Final = 300  # for which receivers may keep the keys
WAITING_MAX: Final = 100

_KEPT_SECONDS: Final = 10.0  # here, so that many receivers of one customer cost one read
_KEPT_MAX: Final = 10_000  # customers
_RETRY_SECONDS: Final = 1.0


class SigningKeySource(Protocol):
    """Has the keys of customers."""

    async def jwks(self, customer_id: int) -> bytes:
        """Returns the JSON Web Key Set of a customer. Raises Unavailable."""
        ...


class JwksRoute:
    """Answers whoever asks, with one read of the database at a time: nobody can take connections from calls.

    A customer that does not exist is answered as one without keys.
    """

    def __init__(self, signing_keys: SigningKeySource) -> None:
        self._signing_keys = signing_keys
        self._kept = OrderedDict[int, tuple[float, bytes]]()  # with the time until which each is kept
        self._turn = asyncio.Lock()
        self._waiting_count = 0

    def routes(self) -> Sequence[web.RouteDef]:
        """Returns the route."""
        return (web.get(PATH.replace("}", ":[0-9]{1,19}}"), self._get),)

    async def _get(self, request: web.Request) -> web.Response:
        try:
            body = await self.read(int(request.match_info["customer_id"]))
        except WebhookError as error:
            return Problem.of(error).response(uuid4().hex)
        headers = {"Cache-Control": f"public, max-age={MAX_AGE_SECONDS}"}
        return web.Response(body=body, content_type="application/jwk-set+json", headers=headers)

    async def read(self, customer_id: int) -> bytes:
        """Returns the JWKS of a customer, 10 s old at most. Raises Overloaded, Unavailable."""
        kept = self._kept_of(customer_id)
        if kept is not None:
            return kept
        if self._waiting_count >= WAITING_MAX:
            raise Overloaded("TOO_MANY_JWKS_READS", "too many signing keys are being read; try again", _RETRY_SECONDS)
        self._waiting_count += 1
        try:
            async with self._turn:
                return self._kept_of(customer_id) or await self._read_now(customer_id)
        finally:
            self._waiting_count -= 1

    def _kept_of(self, customer_id: int) -> bytes | None:
        until, body = self._kept.get(customer_id, (0.0, b""))
        return body if time.monotonic() < until else None

    async def _read_now(self, customer_id: int) -> bytes:
        body = await self._signing_keys.jwks(customer_id)
        self._kept[customer_id] = (time.monotonic() + _KEPT_SECONDS, body)
        self._kept.move_to_end(customer_id)
        if len(self._kept) > _KEPT_MAX:
            self._kept.popitem(last=False)
        return body

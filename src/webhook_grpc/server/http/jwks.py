"""GET /api/customers/{customer_id}/jwks.json: the public signing keys of a customer (RFC 7517), without a token."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Final, Protocol
from uuid import uuid4

from aiohttp import web

from webhook_grpc.domain.errors import Overloaded, WebhookError

from .problem import Problem

PATH: Final = "/api/customers/{customer_id}/jwks.json"
MAX_AGE_SECONDS: Final = 300  # for which receivers may keep the keys
WAITING_MAX: Final = 2000  # requests that wait: as many as the default bound of connections

_KEPT_SECONDS: Final = 10.0  # here, so that many receivers of one customer cost one read
_KEPT_MAX: Final = 10_000  # customers
_READ_MAX: Final = 1000  # in one read
_RETRY_SECONDS: Final = 1.0


class SigningKeySource(Protocol):
    """Has the keys of customers."""

    async def jwks(self, customer_ids: Collection[int]) -> Mapping[int, bytes]:
        """Returns the JSON Web Key Set of each of these customers. Raises Unavailable."""
        ...


class JwksRoute:
    """Answers whoever asks, with one read of the database at a time, for all who have come.

    So nobody can take connections from calls, and made-up customers hold up nobody. A customer that
    does not exist is answered as one without keys.
    """

    def __init__(self, signing_keys: SigningKeySource) -> None:
        self._signing_keys = signing_keys
        self._kept = OrderedDict[int, tuple[float, bytes]]()  # with the time until which each is kept
        self._wanted = dict[int, asyncio.Future[bytes]]()
        self._waiting_count = 0
        self._reading: asyncio.Task[None] | None = None

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
        until, body = self._kept.get(customer_id, (0.0, b""))
        if time.monotonic() < until:
            return body
        if self._waiting_count >= WAITING_MAX:
            raise Overloaded("TOO_MANY_JWKS_READS", "too many signing keys are being read; try again", _RETRY_SECONDS)
        self._waiting_count += 1
        try:
            return await asyncio.shield(self._want(customer_id))  # others may wait for the same
        finally:
            self._waiting_count -= 1

    def _want(self, customer_id: int) -> asyncio.Future[bytes]:
        found = self._wanted.get(customer_id)
        if found is None:
            found = self._wanted[customer_id] = asyncio.get_running_loop().create_future()
            found.add_done_callback(_take_exception)
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._read_all(), name="read signing keys")
        return found

    async def _read_all(self) -> None:
        while self._wanted:
            customer_ids = list(islice(self._wanted, _READ_MAX))
            try:
                found = await self._signing_keys.jwks(customer_ids)
            except Exception as error:  # noqa: BLE001 - whoever waits gets it
                for customer_id in customer_ids:
                    self._wanted.pop(customer_id).set_exception(error)
                continue
            for customer_id in customer_ids:
                self._keep(customer_id, found[customer_id])
                self._wanted.pop(customer_id).set_result(found[customer_id])

    def _keep(self, customer_id: int, body: bytes) -> None:
        self._kept[customer_id] = (time.monotonic() + _KEPT_SECONDS, body)
        self._kept.move_to_end(customer_id)
        if len(self._kept) > _KEPT_MAX:
            self._kept.popitem(last=False)


def _take_exception(found: asyncio.Future[bytes]) -> None:
    """Marks the exception of a read as seen: who waited for it has it, if anybody still did."""
    if not found.cancelled():
        found.exception()

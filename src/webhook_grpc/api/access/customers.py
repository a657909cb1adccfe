"""Customers: delete everything of one."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from webhook.v1 import service_pb2

from webhook_grpc.api.call import Call, refuse_if
from webhook_grpc.domain.errors import Violation
from webhook_grpc.hub.hints import Hints
from webhook_grpc.store.db import Database
from webhook_grpc.store.upkeep import erasure
from webhook_grpc.store.upkeep.erasure import Erasure, ErasureProgress

_WORK_SECONDS_MAX: Final = 5.0  # then the response says that it is not complete, and the janitor does the rest
_WORK_SHARE_MAX: Final = 0.5  # of the time that a call may take
_WAIT_SECONDS: Final = 0.05  # before it looks again whether the owners have cancelled the pending deliveries


class CustomerMethods:
    """The calls that concern a customer as a whole."""

    def __init__(self, database: Database, hints: Hints, call_seconds_max: float) -> None:
        self._database = database
        self._hints = hints
        self._work_seconds = min(_WORK_SECONDS_MAX, call_seconds_max * _WORK_SHARE_MAX)

    async def delete_data(
        self, request: service_pb2.DeleteCustomerDataRequest, call: Call
    ) -> service_pb2.DeleteCustomerDataResponse:
        """Deletes everything of one customer. When this returns, at least the customer's webhooks are deleted."""
        violations = list[Violation]()
        call.caller.must_be_for_all_customers()
        customer_id = call.customer(request.customer_id, "customer_id", violations)
        refuse_if(violations)
        until = time.monotonic() + self._work_seconds
        requested = await erasure.request(self._database, customer_id, audit=call.audit(f"customer:{customer_id}"))
        progress = await self._advance(requested)  # once however late it is: this deletes the webhooks
        while progress is not ErasureProgress.COMPLETE and time.monotonic() < until:
            if progress is ErasureProgress.WAITING:
                await asyncio.sleep(_WAIT_SECONDS)
            progress = await self._advance(requested)
        return service_pb2.DeleteCustomerDataResponse(complete=progress is ErasureProgress.COMPLETE)

    async def _advance(self, requested: Erasure) -> ErasureProgress:
        advance = await erasure.advance(self._database, requested)
        for webhook_id in advance.deleted_webhook_ids:
            self._hints.webhook_changed(webhook_id)
        return advance.progress

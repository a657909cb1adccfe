"""The audit: list its entries. No method makes, changes or deletes an entry at a caller's wish."""

from __future__ import annotations

from webhook.v1 import audit_pb2, service_pb2

from webhook_grpc.api.call import Call, refuse_if
from webhook_grpc.api.messages import times
from webhook_grpc.api.messages.paging import PageToken, fitting, page_size
from webhook_grpc.domain.audit import StoredAuditEntry
from webhook_grpc.domain.errors import Violation
from webhook_grpc.domain.ids import INT64_MAX
from webhook_grpc.store import audit as store
from webhook_grpc.store.db import Database


class AuditMethods:
    """The call that reads the audit."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(
        self, request: service_pb2.ListAuditEntriesRequest, call: Call
    ) -> service_pb2.ListAuditEntriesResponse:
        """Lists entries, newest first, of the customer that is named, else of all that the caller is for."""
        violations, customer_ids = list[Violation](), call.caller.customer_ids
        if request.customer_id:
            customer_ids = frozenset({call.customer(request.customer_id, "customer_id", violations)})
        size = page_size(request.page_size, violations)
        refuse_if(violations)
        page = PageToken(request, ">q")
        key = page.read()
        before = int(key[0]) if key else INT64_MAX
        found = await store.list_page(self._database, customer_ids, before, size + 1)
        listed = await fitting(found[:size], entry_message)
        return service_pb2.ListAuditEntriesResponse(
            entries=listed,
            next_page_token="" if len(listed) == len(found) else page.after(listed[-1].entry_id),
        )


def entry_message(stored: StoredAuditEntry) -> audit_pb2.AuditEntry:
    """Returns an entry as callers see it."""
    entry = stored.entry
    return audit_pb2.AuditEntry(
        entry_id=stored.entry_id,
        create_time=times.timestamp(stored.create_time),
        method=entry.method,
        caller=entry.caller,
        caller_token_id=entry.caller_token_id or 0,
        source_address=entry.source_address,
        call_id=entry.request_id,
        customer_id=entry.customer_id or 0,
        resources=entry.resources,
        fields=entry.fields,
        result=entry.result,
        reason=entry.reason,
    )

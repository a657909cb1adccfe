"""Stores the audit. The statement that makes a change leaves its entry too: there is none of them without the other.

Entries are never changed. Their owner's function deletes them by age (migration 0015); no other role may.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, LiteralString

from webhook_grpc.domain.audit import AuditEntry, StoredAuditEntry
from webhook_grpc.store.db import Queries, Row

ENTRIES_PER_BATCH: Final = 5000

_WRITTEN: Final = """
    created_at, method, caller, caller_token_id, source_address, request_id, customer_id, resources, fields, result,
    reason
"""
_COLUMNS: Final = f"entry_id, {_WRITTEN}"

# Refused calls, many in one statement. Each has one resource at most, '' for none.
INSERT_REFUSALS: Final = f"""
WITH input AS MATERIALIZED (
    SELECT i.*, now() AS at, true AS singleton
    FROM unnest(%(method)b::text[], %(caller)b::text[], %(caller_token_id)b::bigint[], %(source_address)b::text[],
        %(request_id)b::text[], %(customer_id)b::bigint[], %(resource)b::text[], %(result)b::text[], %(reason)b::text[])
        AS i(method, caller, caller_token_id, source_address, request_id, customer_id, resource, result, reason)
)
INSERT INTO audit_entries ({_WRITTEN})
SELECT at, method, caller, caller_token_id, source_address, request_id, customer_id,
    array_remove(ARRAY[resource], ''), ARRAY[]::text[], result, reason
FROM input JOIN meta USING (singleton)
"""

SELECT_AUDIT_ENTRIES: Final = f"""
SELECT {_COLUMNS} FROM audit_entries WHERE entry_id < %(before)s ORDER BY entry_id DESC LIMIT %(limit)s
"""

# Each customer's newest from its index, and of these the newest: never more rows than customers times `limit`.
SELECT_AUDIT_ENTRIES_OF: Final = f"""
SELECT {_COLUMNS} FROM unnest(%(customer_ids)s::bigint[]) wanted(customer) CROSS JOIN LATERAL (
    SELECT * FROM audit_entries WHERE customer_id = wanted.customer AND entry_id < %(before)s
    ORDER BY entry_id DESC
    LIMIT %(limit)s
) newest
ORDER BY entry_id DESC
LIMIT %(limit)s
"""

DELETE_AUDIT_ENTRIES: Final = "SELECT delete_audit_entries(%(days)s::integer, %(limit)s::integer)"


def leaves_entry(changed: LiteralString, resources: LiteralString = "%(audit_resources)s::text[]") -> LiteralString:
    """Returns the part of a statement that leaves its entry: one for each row of `changed`, a CTE of the statement.

    The statement has a CTE `input`, of one row, with `at` and `singleton`; its parameters include `entry_parameters`.
    `resources`: an expression over the columns of `changed`, where the id is one that the statement makes.
    """
    return f"""
    INSERT INTO audit_entries ({_WRITTEN})
    SELECT input.at, %(audit_method)s::text, %(audit_caller)s::text, %(audit_caller_token_id)s::bigint,
        %(audit_source_address)s::text, %(audit_request_id)s::text, %(audit_customer_id)s::bigint, changed.resources,
        %(audit_fields)s::text[], %(audit_result)s::text, %(audit_reason)s::text
    FROM (SELECT {resources} AS resources FROM {changed}) changed CROSS JOIN input JOIN meta USING (singleton)
"""


def entry_parameters(entry: AuditEntry) -> dict[str, object]:
    """Returns what a statement that leaves this entry needs."""
    return {
        "audit_method": entry.method,
        "audit_caller": entry.caller,
        "audit_caller_token_id": entry.caller_token_id,
        "audit_source_address": entry.source_address,
        "audit_request_id": entry.request_id,
        "audit_customer_id": entry.customer_id,
        "audit_resources": list(entry.resources),
        "audit_fields": list(entry.fields),
        "audit_result": entry.result,
        "audit_reason": entry.reason,
    }


async def insert_refusals(database: Queries, entries: Sequence[AuditEntry]) -> None:
    """Stores refused calls. Raises Unavailable."""
    columns = ("method", "caller", "caller_token_id", "source_address", "request_id", "customer_id", "result", "reason")
    parameters = {column: [getattr(entry, column) for entry in entries] for column in columns}
    resources = [entry.resources[0] if entry.resources else "" for entry in entries]
    await database.rows(INSERT_REFUSALS, {**parameters, "resource": resources})


async def list_page(
    database: Queries, customer_ids: frozenset[int] | None, before: int, limit: int
) -> list[StoredAuditEntry]:
    """Returns the next entries with ids below `before`, newest first, of these customers; None for all of them.

    Raises Unavailable.
    """
    parameters = {"before": before, "limit": limit}
    if customer_ids is None:
        rows = await database.rows(SELECT_AUDIT_ENTRIES, parameters)
    else:
        rows = await database.rows(SELECT_AUDIT_ENTRIES_OF, {**parameters, "customer_ids": sorted(customer_ids)})
    return [_stored(row) for row in rows]


async def delete_old(database: Queries, days: int) -> int:
    """Deletes a batch of entries that are older; returns how many. Raises Unavailable."""
    [(count,)] = await database.rows(DELETE_AUDIT_ENTRIES, {"days": days, "limit": ENTRIES_PER_BATCH})
    return count


def _stored(row: Row) -> StoredAuditEntry:
    entry_id, created_at, *called, resources, fields, result, reason = row
    method, caller, caller_token_id, source_address, request_id, customer_id = called
    found = (tuple(resources), tuple(fields), result, reason)
    entry = AuditEntry(method, caller, caller_token_id, source_address, request_id, customer_id, *found)
    return StoredAuditEntry(entry_id, created_at, entry)

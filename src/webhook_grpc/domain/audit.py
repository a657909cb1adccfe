"""The audit: who changed what, from where, and who was refused. Never with a value of anything."""

from __future__ import annotations

from datetime import datetime

from .record import record


@record
class AuditEntry:
    """What is noted of one call.

    `resources` are ids like `webhook:14`; `fields` the names of the fields that were set or changed. `result` is the
    code of the answer, and `reason` what a refusal has for programs. `source_address` is empty for what came over no
    network.
    """

    method: str
    caller: str
    caller_token_id: int | None
    source_address: str
    request_id: str
    customer_id: int | None
    resources: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    result: str = "OK"
    reason: str = ""


@record
class StoredAuditEntry:
    """An entry as the database has it. Later ones have higher ids, but for those of the same moment."""

    entry_id: int
    create_time: datetime
    entry: AuditEntry

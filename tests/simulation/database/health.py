"""What one owner of a webhook leaves to the next about its health."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from webhook_grpc.domain.ids import shard_of
from webhook_grpc.store.outbox import paces

from .tables import Params, Row, Statement, Tables, reads, writes


@dataclass(frozen=True, slots=True)
class Health:
    """The statements of `store.health`: only the owner of a shard changes what is known of its webhooks."""

    tables: Tables

    def statements(self) -> dict[str, Statement]:
        return {
            paces.SELECT_HEALTH: reads(self._load),
            paces.SAVE_HEALTH: writes(self._save),
            paces.DELETE_HEALTH: writes(self._forget),
            paces.DELETE_EXPIRED_HEALTH: writes(self._forget_over),
            paces.SELECT_SUCCEEDED_LAST: reads(self._succeeded_last),
        }

    def _load(self, params: Params, now: datetime) -> list[Row]:
        rows: list[Row] = []
        for webhook_id in params["ids"]:
            known = self.tables.health.get(webhook_id)
            if known is not None:
                passed = (now - known["at"]).total_seconds()
                failing, blocked = known.get("failing"), known.get("blocked")
                throttled = (known.get("throttled") or 0.0) - passed
                rows.append((
                    webhook_id, known["breaker"], max(0.0, (known.get("probe_in") or 0.0) - passed),
                    known.get("probe_count", 0), None if failing is None else failing + passed,
                    known.get("failure_count", 0), known.get("blocked_count", 0),
                    None if blocked is None else blocked + passed, max(0.0, (known.get("hold") or 0.0) - passed),
                    throttled if throttled > 0 else None, known.get("throttle_rate"), known.get("throttle_ceiling"),
                ))  # fmt: skip
        return rows

    def _save(self, params: Params, now: datetime) -> list[Row]:
        names = (
            "breaker", "probe_in", "probe_count", "failing", "failure_count", "blocked_count", "blocked", "hold",
            "throttled", "throttle_rate", "throttle_ceiling",
        )  # fmt: skip
        for at, webhook_id in enumerate(params["webhook_id"]):
            if self.tables.shards[shard_of(webhook_id)].owner == params["worker"]:
                self.tables.health[webhook_id] = {"at": now, **{name: params[name][at] for name in names}}
        return []

    def _forget(self, params: Params, _: datetime) -> list[Row]:
        for webhook_id in params["ids"]:
            if self.tables.shards[shard_of(webhook_id)].owner == params["worker"]:
                self.tables.health.pop(webhook_id, None)
        return []

    def _forget_over(self, params: Params, now: datetime) -> list[Row]:
        return [
            (webhook_id,)
            for webhook_id, known in list(self.tables.health.items())
            if self.tables.shards[shard_of(webhook_id)].owner == params["worker"]
            and known["breaker"] == "closed"
            and known.get("failing") is None
            and not known.get("blocked_count")
            and max(known.get("hold") or 0.0, known.get("throttled") or 0.0) <= (now - known["at"]).total_seconds()
            and self.tables.health.pop(webhook_id)
        ]

    def _succeeded_last(self, params: Params, _: datetime) -> list[Row]:
        found: list[Row] = []
        for webhook_id, shard, until in zip(params["webhook_id"], params["shard"], params["until"], strict=True):
            known, log = self.tables.health.get(webhook_id), self.tables.log[int(shard)]
            if known is None or known.get("failing") is None:
                continue
            since = known["at"] - timedelta(seconds=known["failing"])
            rows = [row for row in log if until - params["reach"] < row.seq <= until and row.at > since]
            if any(row.webhook_id == webhook_id and row.outcome == "succeeded" for row in rows):
                found.append((webhook_id,))
        return found

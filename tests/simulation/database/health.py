"""What one owner of a webhook leaves to the next about its health."""

from __future__ import annotations

from dataclasses import dataclass

from webhook_grpc.domain.breaker import BreakerState
from webhook_grpc.domain.pace import SavedHealth
from webhook_grpc.domain.throttle import Slowdown
from webhook_grpc.store.outbox import paces

from .statements import Params, Row, Statement, reads, rows_of, writes
from .stored import Stored


@dataclass(frozen=True, slots=True)
class Health:
    """The statements of `store.paces`."""

    stored: Stored

    def statements(self) -> dict[str, Statement]:
        return {
            paces.SELECT_HEALTH: reads(self._load),
            paces.SAVE_HEALTH: writes(self._save),
            paces.DELETE_HEALTH: writes(self._delete),
            paces.DELETE_EXPIRED_HEALTH: writes(self._delete_expired),
            paces.SELECT_SUCCEEDED_LAST: reads(self._succeeded_last),
        }

    def _load(self, params: Params) -> list[Row]:
        return [
            (
                webhook_id, saved.breaker.value, saved.probe_in_seconds, saved.probe_count, saved.failing_seconds,
                saved.failure_count, saved.blocked_count, saved.blocked_seconds, saved.hold_seconds,
                saved.slowdown and saved.slowdown.seconds, saved.slowdown and saved.slowdown.rate,
                saved.slowdown and saved.slowdown.ceiling,
            )
            for webhook_id, saved in self.stored.model.load_health(params["ids"]).items()
        ]  # fmt: skip

    def _save(self, params: Params) -> list[Row]:
        health = dict[int, SavedHealth]()
        names = (
            "webhook_id", "breaker", "probe_in", "probe_count", "failing", "failure_count", "blocked_count", "blocked",
            "hold", "throttled", "throttle_rate", "throttle_ceiling",
        )  # fmt: skip
        for (
            webhook_id,
            breaker,
            probe_in,
            probe_count,
            failing,
            failures,
            blocked_count,
            blocked,
            hold,
            throttled,
            rate,
            ceiling,
        ) in rows_of(params, *names):
            slowdown = None if throttled is None else Slowdown(throttled, rate, ceiling)
            health[webhook_id] = SavedHealth(
                BreakerState(breaker), probe_in or 0.0, probe_count, failing, failures, blocked_count, blocked,
                hold or 0.0, slowdown,
            )  # fmt: skip
        self.stored.model.save_health(params["worker"], health)
        return []

    def _delete(self, params: Params) -> list[Row]:
        self.stored.model.delete_health(params["worker"], params["ids"])
        return []

    def _delete_expired(self, params: Params) -> list[Row]:
        return [(webhook_id,) for webhook_id in sorted(self.stored.model.delete_expired_health(params["worker"]))]

    def _succeeded_last(self, params: Params) -> list[Row]:
        until = {
            webhook_id: (int(shard), seq) for webhook_id, shard, seq in rows_of(params, "webhook_id", "shard", "until")
        }
        return [(webhook_id,) for webhook_id in sorted(self.stored.model.succeeded_last(until, params["reach"]))]

"""Reads figures for /metrics that take a look at the tables or at every webhook.

They are read at a fixed interval, not when /metrics is read: so readers of /metrics cannot slow deliveries down.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog

from webhook_grpc.domain.breaker import BreakerState
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.model import WebhookStatus
from webhook_grpc.domain.progress import HOUSEKEEPING
from webhook_grpc.engine.duties.janitor import LEADER_SHARD
from webhook_grpc.engine.queue.lanes import Lanes
from webhook_grpc.engine.receivers.receivers import Receivers
from webhook_grpc.engine.shards import Shards
from webhook_grpc.store.clock import DatabaseClock
from webhook_grpc.store.connection.failures import watched
from webhook_grpc.store.db import LoopConnection
from webhook_grpc.store.outbox import figures as store
from webhook_grpc.store.outbox.figures import OldestDue
from webhook_grpc.store.registry import census

log = structlog.get_logger(__name__)

_COUNTED: Final = tuple(status for status in WebhookStatus if status is not WebhookStatus.DELETED)


@dataclass(slots=True)
class _Census:
    """A count of all webhooks that is under way."""

    counts: Counter[WebhookStatus] = field(default_factory=Counter[WebhookStatus])
    last_id: int = 0


class Figures:
    """The figures of the last look. Only `look` writes them.

    Those of all webhooks of the service are None but in one process, the one that owns shard 0.
    """

    def __init__(
        self,
        connection: LoopConnection,
        poll_seconds: float,
        clock: DatabaseClock,
        shards: Shards,
        lanes: Lanes,
        receivers: Receivers,
    ) -> None:
        self._connection = connection
        self._reading = connection.progress.work("read figures for metrics", words=HOUSEKEEPING)
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._shards = shards
        self._lanes = lanes
        self._receivers = receivers
        self._census = _Census()
        self._due_since: float | None = None  # what waits in the table, by the last look there; in monotonic seconds
        self.read_at: float | None = None
        """When the tables were last read, in monotonic seconds; None: not yet."""
        self.due_lag_seconds = 0.0
        """For how long the oldest delivery has been due that nothing but this process holds back."""
        self.pending_count = 0
        """How many deliveries are pending, of the shards of this process."""
        self.breakers: Mapping[BreakerState, int] = dict.fromkeys(BreakerState, 0)
        """How many webhooks of this process have their breaker in each state."""
        self.webhooks: Mapping[WebhookStatus, int] | None = None
        self.failing_count: int | None = None

    async def run(self) -> None:
        """Looks until it is cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._poll_seconds)  # nothing says when figures change: it is a look every so often

    async def look(self) -> None:
        """Looks once. If the database does not answer, what it said before stays, and `read_at` says how old it is."""
        self.breakers = self._receivers.breakers()
        try:
            with watched(self._reading):
                await self._read_outbox()
                await self._read_webhooks()
        except Unavailable:
            pass  # the log has it from `watched`
        except Exception:  # a bug here must not stop the process: nothing else rests on the figures
            log.exception("figures not read")
        else:
            self.read_at = time.monotonic()
        self._measure_lag()

    async def _read_outbox(self) -> None:
        shards = self._shards.owned.keys() - self._shards.leaving
        found = await store.oldest_due(self._connection, shards)
        now = time.monotonic()
        self._due_since = min((now - row.seconds for row in found if self._is_forgotten(row, now)), default=None)
        self.pending_count = await store.count_pending(self._connection, shards)

    async def _read_webhooks(self) -> None:
        """Counts all webhooks, if that is up to this process: one slice at a look."""
        if LEADER_SHARD not in self._shards.owned:
            self.webhooks = self.failing_count = None
            self._census = _Census()
            return
        self.failing_count = await store.count_failing(self._connection)
        part = await census.count_slice(self._connection, self._census.last_id)
        self._census.counts.update(part.counts)
        if part.next_after is not None:
            self._census.last_id = part.next_after
            return
        self.webhooks = {status: self._census.counts[status] for status in _COUNTED}
        self._census = _Census()

    def _is_forgotten(self, row: OldestDue, now: float) -> bool:
        """Returns whether a due row is not in memory although nothing but this process holds it back."""
        lane = self._lanes.get(row.webhook_id)
        if lane is not None and lane.receiver is not None:
            return row.event_id not in lane.held and not self._lanes.is_held_back(lane, now)
        receiver = self._receivers.get(row.webhook_id)
        return receiver is None or receiver.pace.wait_seconds(0, now) == 0

    def _measure_lag(self) -> None:
        now = time.monotonic()
        oldest = self._lanes.oldest_due(now)
        in_memory = 0.0 if oldest is None else (self._clock.now() - oldest).total_seconds()
        in_table = 0.0 if self._due_since is None else now - self._due_since
        self.due_lag_seconds = max(0.0, in_memory, in_table)

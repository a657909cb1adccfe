"""Reads webhooks and their statistics again and again: a bounded number in each round, the oldest figures first."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final

from webhook.v1 import service_pb2

from webhook_grpc_cli.session import Session
from webhook_grpc_cli.values import plain, timestamp
from webhook_grpc_client import NotFound

from .tally import WEBHOOKS_MAX

REREAD_SECONDS: Final = 10.0
WINDOW: Final = timedelta(hours=1)  # of success and latency
_STATS_PER_ROUND_MAX: Final = 40
_AT_ONCE: Final = 4


class Figures:
    """The webhooks, and what is known of each. One thread calls `read`; others read `webhooks`, which it replaces."""

    def __init__(self, session: Session, webhook_ids: Collection[int]) -> None:
        self._session = session
        self._webhook_ids = frozenset(webhook_ids)
        self._stats: dict[int, tuple[float, Mapping[str, Any]]] = {}
        self._listed: dict[int, dict[str, Any]] = {}
        self._listed_at = float("-inf")
        self._is_stale = False
        self.webhooks: tuple[Mapping[str, Any], ...] = ()
        """Each webhook as a plain value, with `stats` once they are read."""
        self.has_more = False
        """Whether there are more webhooks than are looked at."""

    def read(self) -> None:
        """Reads what is due: the list, and statistics of at most so many webhooks. Raises WebhookError."""
        if self._is_stale or time.monotonic() - self._listed_at >= REREAD_SECONDS:
            self._is_stale = False
            self._list()
        oldest_first = sorted(self._listed, key=lambda one: self._stats.get(one, (float("-inf"), {}))[0])
        due_before = time.monotonic() - REREAD_SECONDS
        due = [one for one in oldest_first if one not in self._stats or self._stats[one][0] <= due_before]
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="top-stats") as pool:
            for webhook_id, stats in pool.map(self._read, due[:_STATS_PER_ROUND_MAX]):
                self._stats[webhook_id] = (time.monotonic(), stats)
        shown = ((webhook_id, value, self._stats.get(webhook_id)) for webhook_id, value in self._listed.items())
        self.webhooks = tuple({**value, "stats": stats[1] if stats else {}} for _, value, stats in shown)

    def look_again(self) -> None:
        """Lets the next `read` list webhooks again: one of them was changed. Any thread may call it."""
        self._is_stale = True

    def _list(self) -> None:
        stub = self._session.stub
        found = self._session.listed(stub.ListWebhooks, service_pb2.ListWebhooksRequest(), "webhooks")
        wanted = (one for one in found if not self._webhook_ids or one.webhook_id in self._webhook_ids)
        values = [plain(webhook) for webhook in islice(wanted, WEBHOOKS_MAX + 1)]
        self.has_more = len(values) > WEBHOOKS_MAX
        self._listed = {value["webhook_id"]: value for value in values[:WEBHOOKS_MAX]}
        self._stats = {webhook_id: stats for webhook_id, stats in self._stats.items() if webhook_id in self._listed}
        self._listed_at = time.monotonic()

    def _read(self, webhook_id: int) -> tuple[int, Mapping[str, Any]]:
        request = service_pb2.GetWebhookStatsRequest(
            customer_id=self._listed[webhook_id]["customer_id"],
            webhook_id=webhook_id,
            start_time=timestamp(datetime.now(UTC) - WINDOW),
        )
        try:
            return webhook_id, plain(self._session.call(self._session.stub.GetWebhookStats, request))
        except NotFound:  # deleted a moment ago: the next list will not have it
            return webhook_id, {}

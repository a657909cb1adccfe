"""Which webhooks the engine reads again when some have changed."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from webhook_grpc.domain.model import Webhook
from webhook_grpc.domain.progress import Progress
from webhook_grpc.engine.receivers.webhooks import WebhookCache
from webhook_grpc.store.db import LoopConnection
from webhook_grpc.store.registry import webhooks as store

from .test_lanes import make_webhook


@dataclass
class Connection:
    progress: Progress = field(default_factory=Progress)


@dataclass
class Listener:
    changed: asyncio.Queue[Webhook] = field(default_factory=asyncio.Queue[Webhook])

    def webhook_changed(self, webhook: Webhook) -> None:
        self.changed.put_nowait(webhook)


async def test_only_what_is_known_in_an_older_version_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was changed lately is looked at for many seconds, and thousands may have been made at the same time."""
    stored = {webhook_id: make_webhook(webhook_id) for webhook_id in (1, 2, 3)}
    read = list[list[int]]()

    async def by_ids(_: object, webhook_ids: Collection[int]) -> list[Webhook]:
        read.append(list(webhook_ids))
        return [stored[webhook_id] for webhook_id in webhook_ids]

    async def changed_lately(_: object) -> dict[int, int]:
        return {webhook_id: webhook.version for webhook_id, webhook in stored.items()}

    monkeypatch.setattr(store, "by_ids", by_ids)
    monkeypatch.setattr(store, "changed_lately", changed_lately)
    cache, listener = WebhookCache(cast(LoopConnection, Connection())), Listener()
    await cache.load([1, 2])
    stored[2] = replace(stored[2], version=2)
    following = asyncio.create_task(cache.run(listener))
    cache.hint([])  # at once
    assert await listener.changed.get() == stored[2]
    following.cancel()
    assert read == [[1, 2], [2]]

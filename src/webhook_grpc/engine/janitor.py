"""Keeps the partitions ahead of time, and removes secrets that no longer sign."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from ..domain.errors import Unavailable
from ..store.db import Database
from ..store.partitions import ensure_partitions
from ..store.secrets import forget_previous

log = structlog.get_logger(__name__)

_INTERVAL_SECONDS: Final = 3600.0
_RETRY_SECONDS: Final = 60.0


class Janitor:
    """Any number of processes may each have one; they wait for each other."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self) -> None:
        """Does so every hour until it is cancelled."""
        while True:
            try:
                made = await ensure_partitions(self._database)
                await forget_previous(self._database)
                if made:
                    log.info("partitions made", names=made)
                await asyncio.sleep(_INTERVAL_SECONDS)
            except Unavailable:
                await asyncio.sleep(_RETRY_SECONDS)

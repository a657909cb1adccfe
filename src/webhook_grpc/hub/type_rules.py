"""What publishing needs to know of event types at any moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from datetime import datetime
from functools import cached_property
from typing import Final

import structlog

from webhook_grpc.domain.errors import FailedPrecondition, Unavailable
from webhook_grpc.domain.schema_shape import BadSchema
from webhook_grpc.domain.schemas import Schema, compile_schema
from webhook_grpc.store.db import Queries, Row
from webhook_grpc.store.registry.event_types import rule_rows

log = structlog.get_logger(__name__)

FRESH_SECONDS: Final = 1.0

_WAIT_SECONDS: Final = 1.0  # for news, when what is known will do


class TypeRules:
    """What holds for an event type."""

    def __init__(self, row: Row) -> None:
        """From a row of SELECT_TYPE_RULES that has the schema."""
        self.event_type: str
        self.archived: bool
        self.version: int
        self.updated_at: datetime
        self.event_type, self.archived, self.version, self.updated_at, self._json_schema = row

    @property
    def stamp(self) -> tuple[int, datetime]:
        """Another one after each change."""
        return self.version, self.updated_at

    @property
    def has_schema(self) -> bool:
        """Whether data has to be checked, which takes time."""
        return self._json_schema is not None

    @cached_property
    def schema(self) -> Schema | None:
        """What the data must fit, compiled when it is first needed. Raises FailedPrecondition if it can't be used.

        UpdateEventType admits none that can't be, but a later version of the service may be stricter.
        """
        if self._json_schema is None:
            return None
        try:
            return compile_schema(self._json_schema)
        except BadSchema as error:
            log.error("the schema of an event type can't be used", event_type=self.event_type, problem=str(error)[:300])  # noqa: TRY400
            raise FailedPrecondition(
                "EVENT_TYPE_SCHEMA_UNUSABLE",
                f"the schema of event type `{self.event_type}` can't be used; an operator must set it anew",
                f"event_type:{self.event_type}",
            ) from None


class EventTypes:
    """What holds for each event type, at most FRESH_SECONDS old, or less after a change through this process.

    One look at the table at a time serves all callers (1,000 types: 5 ms, 2 ms of them on the loop); what is known
    costs 1 µs. While the database is away, it goes on to hold.
    """

    def __init__(self, database: Queries) -> None:
        self._database = database
        self._rules: Mapping[str, TypeRules] = {}
        self._looked_at = float("-inf")  # when the look began whose answer is known
        self._tried_at = float("-inf")  # when one last failed
        self._changed_at = float("-inf")
        self._look: asyncio.Task[None] | None = None

    def changed(self) -> None:
        """What is known no longer holds."""
        self._changed_at = time.monotonic()

    async def rules(self, event_types: Collection[str]) -> Mapping[str, TypeRules]:
        """What holds for those of the given types that are registered.

        A type is looked up anew before it is called unknown. Raises Unavailable.
        """
        now = time.monotonic()
        oldest = max(now - FRESH_SECONDS, self._changed_at)
        if self._looked_at < oldest and self._tried_at < oldest:
            await self._try_to_know_since(oldest)
        if not self._rules.keys() >= set(event_types):
            await self._know_since(now)
        return {name: self._rules[name] for name in event_types if name in self._rules}

    async def _try_to_know_since(self, moment: float) -> None:
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await self._know_since(moment)
        except (Unavailable, TimeoutError):
            self._tried_at = time.monotonic()

    async def _know_since(self, moment: float) -> None:
        """Returns when what is known was looked up at that moment or later. Raises Unavailable."""
        while self._looked_at < moment:
            # One that has ended counts as none: waiting for it gives way to nobody, and its callbacks would never run
            if self._look is None or self._look.done():
                self._look = asyncio.create_task(self._look_up(), name="event types")
                self._look.add_done_callback(_take_exception)
            await asyncio.shield(self._look)  # a caller that gives up must not take the answer from the others

    async def _look_up(self) -> None:
        began_at = time.monotonic()
        known = self._rules
        rows = await rule_rows(self._database, {name: rules.stamp for name, rules in known.items()})
        self._rules = {row[0]: _rules(row, known.get(row[0])) for row in rows}
        self._looked_at = began_at


def _take_exception(look: asyncio.Task[None]) -> None:
    """Marks the exception of a look as seen: its callers have got it, if there are any left."""
    if not look.cancelled():
        look.exception()


def _rules(row: Row, known: TypeRules | None) -> TypeRules:
    return known if known is not None and known.stamp == (row[2], row[3]) else TypeRules(row)

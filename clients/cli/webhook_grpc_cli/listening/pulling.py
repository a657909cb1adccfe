"""Reads new events, for machines that the service may not call."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final

from webhook.v1 import service_pb2

from webhook_grpc_cli.session import Session
from webhook_grpc_cli.values import timestamp

OVERLAP: Final = timedelta(seconds=5)  # events that were committed later than events with a later time
EVENTS_MAX: Final = 10_000  # in one look; those that are read are the newest
_SEEN_MAX: Final = 100_000


class Puller:
    """Looks for events after those that were there before. Their own times count: this machine's clock may be wrong."""

    def __init__(self, session: Session, event_types: Sequence[str]) -> None:
        self._session = session
        self._event_types = event_types
        self._newest: datetime | None = None
        self._seen: OrderedDict[str, None] = OrderedDict()

    def begin(self) -> None:
        """Notes what is there already. Raises WebhookError."""
        request = service_pb2.ListEventsRequest(page_size=1)
        newest = self._session.call(self._session.stub.ListEvents, request, may_repeat=True).events
        if newest:
            self._newest = newest[0].create_time.ToDatetime(UTC)
            self.look()

    def look(self) -> list[Any]:
        """Returns new events, the oldest first, each once. Raises WebhookError."""
        request = service_pb2.ListEventsRequest(event_types=self._event_types)
        if self._newest is not None:
            request.start_time.CopyFrom(timestamp(self._newest - OVERLAP))
        listed = self._session.listed(self._session.stub.ListEvents, request, "events")
        found = [event for event in islice(listed, EVENTS_MAX) if event.event_id not in self._seen]
        for event in reversed(found):
            self._seen[event.event_id] = None
            created = event.create_time.ToDatetime(UTC)
            self._newest = max(self._newest or created, created)
        while len(self._seen) > _SEEN_MAX:
            self._seen.popitem(last=False)
        return [event for event in reversed(found) if not event.test_webhook_id]

"""What a shell offers for a word that is begun: ids with names, event types, statuses, profiles.

Ids are those of the service that the line is for. Offering is silent, never prompts, and takes a moment at
most: whatever goes wrong, nothing is offered.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import click
from click.shell_completion import CompletionItem

from .given import given
from .output.escaping import escaped

if TYPE_CHECKING:
    from .session import Session

LOOK_SECONDS_MAX: Final = 0.3
OFFERED_MAX: Final = 100
_PAGE_SIZE: Final = 500
Offers = Iterable[tuple[str, str]]  # a word, and what it is called
Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def offered(offers: Offers, begun: str) -> list[CompletionItem]:
    """Returns the words that go on as they are begun; of words with commas the last one is completed."""
    before, comma, last = begun.rpartition(",")
    fitting = ((word, text) for word, text in offers if word.startswith(last))
    items = (CompletionItem(before + comma + word, help=escaped(text) or None) for word, text in fitting)
    return list(islice(items, OFFERED_MAX))


def words_of(known: Sequence[str]) -> Complete:
    """Returns what completes words that are known without a service."""
    return lambda _, __, begun: offered(((word, "") for word in known), begun)


def profile_names(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Completes the name of a profile."""
    del context
    from .profiles import Profiles, config_path

    try:
        known = Profiles.read(config_path(os.environ)).by_name
    except click.ClickException:  # the file is wrong or open to others: the command says so
        return []
    return offered(((name, str(profile.get("address", ""))) for name, profile in known.items()), begun)


def _from_service(read: Callable[[Session], Offers]) -> Complete:
    def complete(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
        until = time.monotonic() + LOOK_SECONDS_MAX
        try:
            return _looked_up(context, read, until, begun)
        except Exception:  # noqa: BLE001 - whatever it is: a line that is being typed is no place for errors
            return []

    return complete


def _looked_up(
    context: click.Context, read: Callable[[Session], Offers], until: float, begun: str
) -> list[CompletionItem]:
    from .session import Session

    import_module("webhook_grpc_client")  # the time that this takes counts, too
    seconds = until - time.monotonic()
    session = Session({**given(context), "quiet": True, "verbose": False, "timeout": seconds}, os.environ)
    if seconds <= 0 or "token_command" in session.place.token_source:  # which may prompt for a passphrase
        return []
    try:
        return offered(read(session), begun)
    finally:
        session.close()


def _webhooks(session: Session) -> Offers:
    from webhook.v1 import service_pb2

    request = service_pb2.ListWebhooksRequest(page_size=_PAGE_SIZE)
    found: Any = session.call(session.stub.ListWebhooks, request)
    return ((str(webhook.webhook_id), webhook.name) for webhook in found.webhooks)


def _event_types(session: Session) -> Offers:
    from webhook.v1 import service_pb2

    request = service_pb2.ListEventTypesRequest(page_size=_PAGE_SIZE)
    found: Any = session.call(session.stub.ListEventTypes, request)
    return ((one.event_type, one.description) for one in found.event_types)


def _events(session: Session) -> Offers:
    from webhook.v1 import service_pb2

    found: Any = session.call(session.stub.ListEvents, service_pb2.ListEventsRequest(page_size=OFFERED_MAX))
    return ((event.event_id, event.event_type) for event in found.events)


def _deliveries(session: Session) -> Offers:
    from webhook.v1 import service_pb2

    found: Any = session.call(session.stub.ListDeliveries, service_pb2.ListDeliveriesRequest(page_size=OFFERED_MAX))
    return ((delivery.delivery_id, delivery.event_type) for delivery in found.deliveries)


def _replays(session: Session) -> Offers:
    from webhook.v1 import service_pb2

    found: Any = session.call(session.stub.ListReplays, service_pb2.ListReplaysRequest(page_size=OFFERED_MAX))
    return ((str(replay.replay_id), f"from {replay.start_time.ToJsonString()}") for replay in found.replays)


webhook_ids: Final = _from_service(_webhooks)
event_types: Final = _from_service(_event_types)
event_ids: Final = _from_service(_events)
delivery_ids: Final = _from_service(_deliveries)
replay_ids: Final = _from_service(_replays)

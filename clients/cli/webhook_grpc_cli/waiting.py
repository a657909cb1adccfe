"""Waits until deliveries have ended, and says what becomes of each meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from webhook_grpc_cli.output.look import latency_text, span_text
from webhook_grpc_cli.output.things import answer_text, seconds_of, status
from webhook_grpc_cli.values import plain

if TYPE_CHECKING:
    from webhook_grpc_client import Watcher

    from .session import Session

_PENDING = 1  # DELIVERY_STATUS_PENDING
_ORDINALS = {2: "second attempt", 3: "third attempt"}


def ended_deliveries(
    session: Session, seconds: float, count: int, start_time: datetime, note: Callable[[Any], None], **filters: Any
) -> list[Any]:
    """Returns the first endings of so many deliveries, or of fewer if the time is over. `note` gets each change."""
    ended: dict[str, Any] = {}
    customer_id = filters.pop("customer_id", 0) or session.place.customer_id
    watch = session.client.watch(start_time=start_time, customer_id=customer_id, **filters)
    with _closed_after(seconds, watch):
        for delivery in watch:
            note(delivery)
            if delivery.status != _PENDING:
                ended[delivery.delivery_id] = delivery
            if len(ended) >= count:
                break
    return list(ended.values())


@contextmanager
def _closed_after(seconds: float, watch: Watcher) -> Generator[None]:
    timer = threading.Timer(seconds, watch.close)
    timer.name = "wait"
    timer.start()
    try:
        with watch:
            yield
    finally:
        timer.cancel()
        timer.join()


def change_line(delivery: Any, name: Callable[[int], str]) -> str:
    """Returns a line about one change of a delivery, with when its next attempt is due."""
    value = plain(delivery)
    mark = status(value, None).text.partition(" ")[0]  # pyright: ignore[reportArgumentType] - it is not looked at
    last = value.get("last_attempt")
    words = [f"  {mark} {name(delivery.webhook_id):<16}"]
    if last:
        words += [f"{answer_text(last):<9}", f"{latency_text(seconds_of(last, 'latency') or 0):>7} {_after(delivery)}"]
    return "  ".join(words).rstrip()


def _after(delivery: Any) -> str:
    """Returns when the next attempt is due, else which attempt it was, if that was not the first."""
    if delivery.HasField("next_attempt_time"):
        wait = delivery.next_attempt_time.ToDatetime() - delivery.update_time.ToDatetime()
        return f"  next in {span_text(max(0.0, wait.total_seconds()))} …"
    number = delivery.last_attempt.attempt_number
    return "" if number < 2 else f"  {_ORDINALS.get(number, f'attempt {number}')}"

"""Growth: the first row while a million deliveries wait for dead endpoints and the log holds ten million attempts.

The history is that of `make bench-lists` (scripts/seed_history.py); its webhooks are deleted: nothing is sent to
their addresses. Takes about 20 GB.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from typing import Final

import psycopg
from benchmarks.parts.bench import Bench
from benchmarks.parts.figures import Figure, Row
from scripts import seed_history as seeded

from .common import Delivered, in_turns

ATTEMPTS: Final = 10_000_000
ATTEMPTS_MIN: Final = 20_000
BYTES_PER_ATTEMPT: Final = 2_500
PENDING: Final = 1_000_000
PENDING_MIN: Final = 2_000
DEAD: Final = 100  # endpoints, each of a customer of its own
DEAD_URL: Final = "http://127.0.2.3:1999"  # nobody listens there
FIRST_DEAD: Final = 600_000
FIRST: Final = 500_000  # customers of the rate: not those of the history
RATIO_MIN: Final = 0.9
MB_MAX: Final = 50.0


async def measure(bench: Bench) -> Sequence[Figure]:
    attempts = bench.form.count(ATTEMPTS, ATTEMPTS_MIN)
    if shutil.disk_usage(tempfile.gettempdir()).free < attempts * BYTES_PER_ATTEMPT:
        raise RuntimeError(f"the disk has not enough room for {attempts:,} attempts")
    sink = await bench.sink()
    full = await bench.service(prepare=lambda url: _with_history(url, attempts))
    [publisher] = await bench.publishers(full.address)
    await publisher.ask("webhooks", url=DEAD_URL, customers=DEAD, first=FIRST_DEAD)
    await asyncio.to_thread(_with_pending, full.database, bench.form.count(PENDING, PENDING_MIN) // DEAD)
    large = await Delivered.on(bench, sink, full, first=FIRST)
    small = await Delivered.start(bench, sink)
    rate, limit = await in_turns(bench, large.batches, small.batches)
    more = (full.rss() - small.service.rss()) / 1_000_000
    return [
        Figure("events delivered", rate, "/s", limit, at_least=RATIO_MIN),
        Figure("memory, more than without", more, "MB", at_most=MB_MAX),
    ]


def _with_history(url: str, attempts: int) -> None:
    """Fills a migrated database that no service uses yet. Its webhooks get nothing any more."""
    seeded.seed(url, attempts, lambda text: print(text, flush=True))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE webhooks SET status = 'deleted'")


def _with_pending(url: str, each: int) -> None:
    """Adds deliveries of the last hour for each of the dead endpoints."""
    with psycopg.connect(url, autocommit=True) as connection:
        find = "SELECT id, customer_id FROM webhooks WHERE customer_id >= %s"
        for webhook_id, customer_id in connection.execute(find, [FIRST_DEAD]).fetchall():
            values = {"webhook_id": webhook_id, "customer_id": customer_id, "attempts": 0, "count": each}
            connection.execute(seeded.PENDING, values)
        connection.execute("VACUUM (ANALYZE)")


ROW: Final = Row(
    name="growth",
    what="events delivered a second, published in batches, while 1,000,000 deliveries wait for 100 dead endpoints and"
    " the log holds 10,000,000 attempts",
    limit="the same on an empty database of the same server",
    target="at least 0.9, at most 50 MB more memory",
    seconds=1200,
    measure=measure,
    is_apart=True,
)

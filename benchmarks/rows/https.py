"""The same end to end over TLS, on kept connections and on a new one for each request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from benchmarks.parts.bench import Bench
from benchmarks.parts.figures import Figure, Row

from .common import Bare, Delivered, in_turns

KEPT_MIN: Final = 0.6
NEW_MIN: Final = 0.8


async def measure(bench: Bench) -> Sequence[Figure]:
    sink = await bench.sink(is_secure=True)
    settings = {"SSL_CERT_FILE": sink.authority}  # of OpenSSL, not of ours
    client = await bench.client()
    figures: list[Figure] = []
    for name, path, target in (("kept connections", "", KEPT_MIN), ("a new connection each", "/close", NEW_MIN)):
        url = f"{sink.secure_url}{path}"
        delivered = await Delivered.start(bench, sink, url=url, settings=settings)
        bare = Bare(bench, client, f"{url}/bare", authority=sink.authority, is_lean=True, is_kept=not path)
        rate, limit = await in_turns(bench, delivered.batches, bare.rate)
        figures.append(Figure(name, rate, "/s", limit, at_least=target))
    return figures


ROW: Final = Row(
    name="https",
    what="events delivered a second over TLS, published in batches",
    limit="the bare lean client likewise: kept connections, or a new one for each request",
    target="at least 0.6 on kept connections, 0.8 on new ones",
    seconds=100,
    measure=measure,
)

"""The disk of the database's tables is full, and has room again later.

The log of writes has a disk of its own: Postgres lives, changes rows in place, and refuses to add any.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Final, LiteralString

import grpc
from webhook.v1 import service_pb2

from tests.support import slowness
from tests.support.process import Process

from .cluster import lease_seconds
from .distribution import DistributionServer
from .endpoints import DEFAULT_PLAN, EndpointPlan
from .harness import Round
from .refusals import until_refused, until_taken
from .scenario import Scenario
from .webhook_faults import until_pending

_CALL_SECONDS: Final = 5.0
_STILL_SECONDS: Final = 0.5  # many times as long as a result waits for others to be settled with
_STILL_SECONDS_MAX: Final = 15.0
_PENDING_MIN: Final = 20
ANSWERED: LiteralString = "SELECT count(*) FROM attempts WHERE response_status IS NOT NULL"

_until_refused = partial(
    until_refused, code=grpc.StatusCode.RESOURCE_EXHAUSTED, reason="DISK_FULL", words="the database's disk is full"
)


async def fill_disk(round_: Round) -> None:
    """Fills it under load, for longer than a lease: events are refused, results wait, what is stored can be read.

    Nothing excuses a duplicate: who has the results lives, and leases are renewed in rows that are there.
    """
    server = round_.server
    assert isinstance(server, DistributionServer)
    processes = dict(round_.cluster.running)
    await asyncio.sleep(round_.seconds / 3)  # load before the disk is full
    await until_pending(round_, round_.registered[-1].webhook_id, _PENDING_MIN)
    with round_.fault("disk full"):
        server.fill_disk()
        try:
            await round_.endpoints.behave({round_.path(len(_PLAN) - 1): _SLOW})
            await asyncio.gather(*(_until_refused(round_, name) for name in processes))
            await _until_results_wait(round_)
            await asyncio.sleep(max(1.5 * lease_seconds(), round_.seconds / 3))  # a lease that is not renewed would end
            await asyncio.gather(*(_read(round_, process) for process in processes.values()))
        finally:
            server.empty_disk()
        await asyncio.gather(*(until_taken(round_, name) for name in processes))
    await asyncio.sleep(round_.seconds / 3)  # load after it


async def _until_results_wait(round_: Round) -> None:
    """Waits until receivers have answered requests for which the log has no room."""
    logged, since = -1, time.monotonic()
    async with slowness.timeout(_STILL_SECONDS_MAX):
        while True:
            answered = sum(request.status > 0 for request in round_.endpoints.requests())
            [(count,)] = round_.ask(ANSWERED)
            if count != logged:
                logged, since = count, time.monotonic()
            elif count < answered and time.monotonic() > since + slowness.lengthened(_STILL_SECONDS):
                return
            await asyncio.sleep(0.05)


async def _read(round_: Round, process: Process) -> None:
    """Reads a webhook and its deliveries."""
    endpoint = round_.registered[0]
    customer_id, webhook_id, seconds = endpoint.customer_id, endpoint.webhook_id, slowness.scaled(_CALL_SECONDS)
    webhook = service_pb2.GetWebhookRequest(customer_id=customer_id, webhook_id=webhook_id)
    await process.stub.GetWebhook(webhook, timeout=seconds)
    deliveries = service_pb2.ListDeliveriesRequest(customer_id=customer_id, webhook_ids=[webhook_id])
    assert (await process.stub.ListDeliveries(deliveries, timeout=seconds)).deliveries


# The last one answers nothing before the disk is full, however slow the load is, so that results come while nothing
# more is published. Its answers are as large as they can be without being compressed: a few of them fill a page, and a
# page that is there needs no room.
_SLOW: Final = {"delay_seconds": 0.25, "body_bytes": 1500}
_PLAN: Final = (*DEFAULT_PLAN, EndpointPlan(1, {"kind": "held"}, "127.0.0.4", in_flight_max=2, timeout_seconds=20))

SCENARIOS: Final = (Scenario("disk full", fill_disk, plan=_PLAN, small_disk=True, needs_load=True),)

"""A deployment of this version over the one before, and the way back: load goes on all the time.

The version before is a real one, from the commit before the newest migration came (`tests/support/earlier.py`).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

from google.protobuf.field_mask_pb2 import FieldMask
from webhook.v1 import service_pb2, webhook_pb2

from tests.support.process import Process
from webhook_grpc.store.schema.migrate import migrate

from .endpoints import DEFAULT_PLAN
from .harness import Round
from .scenario import Scenario

# The version before would take a URL for blocked whose query is sealed.
_PLAN = tuple(replace(plan, query="?key=value") for plan in DEFAULT_PLAN)


async def upgrade_and_go_back(round_: Round) -> None:
    """Migrates beside the version before, puts this one beside it, then instead of it, and the one before instead.

    So both run side by side, the version before starts on the newer schema, delivers what was published under the newer
    one, and goes on with its watchers. Nothing excuses a duplicate. While this version is alone it changes a URL.
    """
    await asyncio.sleep(round_.seconds / 3)
    with round_.fault("migrate"):
        await asyncio.to_thread(partial(migrate, round_.database_url, before_deployment=True))
    before = sorted(round_.cluster.running)
    newer = await round_.cluster.start()
    this, earlier = round_.cluster.running[newer], round_.cluster.running[before[0]]
    await _create_once(this, earlier)
    await asyncio.sleep(round_.seconds / 3)
    with round_.fault("SIGTERM"):
        await asyncio.gather(*map(round_.cluster.terminate, before))
    await _set_url(round_, this)
    await asyncio.sleep(round_.seconds / 3)
    await round_.start_earlier()
    await asyncio.sleep(round_.seconds / 3)
    with round_.fault("SIGTERM"):
        await round_.cluster.terminate(newer)
    await asyncio.sleep(round_.seconds / 3)


async def _create_once(first: Process, second: Process) -> None:
    """Creates a webhook, for a customer of whom no event comes, and repeats the call at the other version."""
    url = "http://127.0.0.1/?key=value"
    webhook = webhook_pb2.Webhook(customer_id=99, name="once", url=url, events=["*"])
    request = service_pb2.CreateWebhookRequest(webhook=webhook, request_id="once")
    created = await first.stub.CreateWebhook(request)
    assert (await second.stub.CreateWebhook(request)).webhook_id == created.webhook_id


async def _set_url(round_: Round, process: Process) -> None:
    """Sets the URL of the first endpoint, to what it is."""
    endpoint = round_.registered[0]
    url = round_.endpoints.url(round_.path(0), _PLAN[0])
    webhook = webhook_pb2.Webhook(customer_id=endpoint.customer_id, webhook_id=endpoint.webhook_id, url=url)
    request = service_pb2.UpdateWebhookRequest(webhook=webhook, update_mask=FieldMask(paths=["url"]))
    assert (await process.stub.UpdateWebhook(request)).url == url


SCENARIOS = (Scenario("upgrade and back", upgrade_and_go_back, plan=_PLAN, begins_before=True, processes=1),)

"""kill -9 while clients retry, cancel and replay."""

from __future__ import annotations

import asyncio
import contextlib
import time
from random import Random

import grpc
from webhook.v1 import delivery_pb2, replay_pb2, service_pb2

from tests.invariants.history import Asked
from tests.support import slowness
from webhook_grpc.domain.ids import delivery_id_text, parse_event_id

from .endpoints import FLAKY_PLAN
from .harness import Round
from .scenario import Scenario

_CALL_SECONDS = 8.0  # the service itself answers after five
_PAUSE_SECONDS = 0.03
_CUSTOMER = FLAKY_PLAN[0].customer_id
_STATUSES = {
    value: name.removeprefix("DELIVERY_STATUS_").lower() for name, value in delivery_pb2.DeliveryStatus.items()
}


async def kill_while_asked(round_: Round) -> None:
    """Some clients ask one call after the other, one replays all that succeeded so far; processes die meanwhile."""
    replaying = asyncio.create_task(_replay(round_))
    try:
        await _kill(round_)
        async with slowness.timeout(30):  # only now: no replay is to blame for how long it takes to kill so often
            await replaying
    finally:
        replaying.cancel()


async def _kill(round_: Round) -> None:
    stopped = asyncio.Event()
    clients = [asyncio.create_task(_ask(round_, Random(f"{round_.random.random()}"), stopped)) for _ in range(4)]
    for pause in round_.pauses(0.6, 1.5):
        await asyncio.sleep(pause)
        victim = round_.one_running()
        with round_.fault("kill -9", may_duplicate=True):
            await round_.cluster.kill(victim)
        await round_.cluster.start()
    with contextlib.suppress(TimeoutError):
        async with slowness.timeout(20):
            while not _was_cancelled(round_) or not _was_retried(round_):
                await asyncio.sleep(_PAUSE_SECONDS)
    stopped.set()
    await asyncio.gather(*clients)
    assert _was_cancelled(round_), "nothing was cancelled"
    assert _was_retried(round_), "nothing was retried"


def _was_cancelled(round_: Round) -> bool:
    return any((ask.kind, ask.status) == ("cancel", "cancelled") for ask in round_.asked)


def _was_retried(round_: Round) -> bool:
    return any(ask.kind == "retry" and ask.status is not None for ask in round_.asked)


async def _ask(round_: Round, random: Random, stopped: asyncio.Event) -> None:
    """Cancels what was just published, retries what is older. What was cancelled is not retried: see streams.py."""
    while not stopped.is_set():
        await asyncio.sleep(_PAUSE_SECONDS)
        events = [publish for publisher in round_.publishers for publish in publisher.history if publish.event_id]
        endpoint = random.choice(round_.registered)
        own = [publish for publish in events if publish.customer_id == endpoint.customer_id]
        if not own:
            continue
        kind = random.choice(("retry", "cancel"))
        event_id = (random.choice(own) if kind == "retry" else max(own, key=lambda p: p.answered_at)).event_id
        assert event_id is not None
        cancelled = {(ask.webhook_id, ask.event_id) for ask in round_.asked if ask.kind == "cancel"}
        if (endpoint.webhook_id, event_id) in cancelled:
            continue
        asked = Asked(kind, endpoint.webhook_id, event_id, time.time(), None)
        number = len(round_.asked)
        round_.asked.append(asked)
        status = await _call(round_, random, asked, endpoint.customer_id)
        round_.asked[number] = Asked(kind, endpoint.webhook_id, event_id, asked.asked_at, status)


async def _call(round_: Round, random: Random, asked: Asked, customer_id: int) -> str | None:
    parsed = parse_event_id(asked.event_id)
    assert parsed is not None
    delivery_id = delivery_id_text(parsed, asked.webhook_id)
    stub = round_.cluster.any(random).stub
    try:
        if asked.kind == "retry":
            retry = service_pb2.RetryDeliveryRequest(customer_id=customer_id, delivery_id=delivery_id)
            delivery = await stub.RetryDelivery(retry, timeout=slowness.scaled(_CALL_SECONDS))
        else:
            cancel = service_pb2.CancelDeliveryRequest(customer_id=customer_id, delivery_id=delivery_id)
            delivery = await stub.CancelDelivery(cancel, timeout=slowness.scaled(_CALL_SECONDS))
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        return None
    return _STATUSES[delivery.status]


async def _replay(round_: Round) -> None:
    """From half of the time on; waits until it has ended, though processes are killed."""
    await asyncio.sleep(round_.seconds / 2)
    round_.has_replayed = True
    replay = replay_pb2.Replay(customer_id=_CUSTOMER, statuses=[delivery_pb2.DELIVERY_STATUS_SUCCEEDED])
    replay.start_time.FromSeconds(int(time.time()) - 3600)
    create = service_pb2.CreateReplayRequest(replay=replay, request_id="replay")
    random = Random(0)
    while True:
        try:
            stub = round_.cluster.any(random).stub
            replay = await stub.CreateReplay(create, timeout=slowness.scaled(_CALL_SECONDS))
            if replay.status == replay_pb2.REPLAY_STATUS_COMPLETED and not replay.pending_count:
                break
            get = service_pb2.GetReplayRequest(customer_id=_CUSTOMER, replay_id=replay.replay_id)
            replay = await stub.GetReplay(get, timeout=slowness.scaled(_CALL_SECONDS))
            if replay.status == replay_pb2.REPLAY_STATUS_COMPLETED:
                break
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # it is repeated under its request id
        await asyncio.sleep(0.1)  # a replay gives no signal
    assert replay.succeeded_count, f"nothing was replayed: {replay}"


SCENARIOS = (
    Scenario(
        "kill -9 while asked",
        kill_while_asked,
        plan=FLAKY_PLAN,
        gap_seconds=0.2,
        drain_seconds_max=20.0,
        short_seconds=2,
    ),
)

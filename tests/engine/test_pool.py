"""The bounds of kept connections: per webhook, per host, in all, by age and by idleness."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import resource
import ssl
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Final
from unittest import mock

import pytest
import uvloop

from tests.engine.hostile import certificates
from tests.support import slowness
from tests.support.dns import Leading
from tests.support.raw import OK, RawServers, says
from webhook_grpc.domain.egress import EgressPolicy
from webhook_grpc.domain.model import AttemptResult, Outcome
from webhook_grpc.engine.http.faults import SenderFault
from webhook_grpc.engine.http.pool import KeptLimits, within_descriptors
from webhook_grpc.engine.http.sender import Request, Sender, SendLimits
from webhook_grpc.store.clock import DatabaseClock

from .wired_loop import Happening, Script, WiredLoop

LOCAL: Final = EgressPolicy(allow_http=True, allowed_networks=(ipaddress.IPv4Network("127.0.0.0/8"),))
CONTEXT: Final = ssl.create_default_context()  # takes longer to make than all the rest
ANSWERED: Final = Script([Happening(OK, 0.1)])


class Run:
    """A sender on simulated wires."""

    def __init__(self, limits: KeptLimits) -> None:
        self.loop = WiredLoop(1, [ANSWERED])
        names = Leading(["127.0.0.1"])
        self.sender = Sender(
            LOCAL, DatabaseClock(), Random(), SendLimits(10, kept=limits), resolver=names, ssl_context=CONTEXT
        )
        self.open_after = list[int]()

    def send(self, *rounds: Sequence[tuple[int, str]], then: Callable[[], float] = lambda: 0.0) -> None:
        """Sends the requests of each round at once, to webhooks and hosts; counts what is open after each."""

        async def run() -> None:
            for requests in rounds:
                results = await asyncio.gather(*(self._one(*request) for request in requests))
                assert {result.outcome for result in results} == {Outcome.SUCCEEDED}
                await asyncio.sleep(then())
                self.open_after.append(self.sender.pool.idle_count)
            await self.sender.close()

        with self.loop.patched_time():
            self.loop.run_until_complete(run())
        self.loop.close()
        assert not any(wire.is_open for wire in self.loop.wires)

    async def _one(self, webhook_id: int, host: str) -> AttemptResult:
        return await self.sender.send(Request(f"http://{host}/", {}, b"{}", 5.0, webhook_id=webhook_id))


@pytest.mark.parametrize(
    ("limits", "requests", "kept"),
    [
        (KeptLimits(per_webhook_max=2), [(1, "a.example")] * 5 + [(2, "a.example")], 3),
        (KeptLimits(per_host_max=3), [(n, "a.example") for n in range(5)] + [(1, "b.example")], 4),
        (KeptLimits(idle_max=4), [(n, f"{n}.example") for n in range(9)], 4),
        (KeptLimits(idle_max=0), [(1, "a.example")], 0),
    ],
    ids=["per webhook", "per host", "in all", "none"],
)
def test_no_more_are_kept_than_may_be(limits: KeptLimits, requests: list[tuple[int, str]], kept: int) -> None:
    run = Run(limits)
    run.send(requests)
    assert run.open_after == [kept]


def test_when_all_are_taken_the_one_that_is_idle_for_longest_makes_room() -> None:
    """Otherwise webhooks that are quiet would keep the busy ones from keeping any."""
    run = Run(KeptLimits(idle_max=2))
    run.send([(1, "a.example")], [(2, "b.example")], [(3, "c.example")])
    assert run.open_after == [1, 2, 2]
    assert [wire.is_open for wire in run.loop.wires] == [False] * 3


def test_what_is_idle_for_too_long_is_closed_without_anybody_asking_for_it() -> None:
    run = Run(KeptLimits(idle_seconds_max=10))
    run.send([(1, "a.example")], then=lambda: 8)
    assert run.open_after == [1]
    run = Run(KeptLimits(idle_seconds_max=10))
    run.send([(1, "a.example")], then=lambda: 12)
    assert run.open_after == [0]


def test_what_is_too_old_is_closed_without_anybody_asking_for_it() -> None:
    run = Run(KeptLimits(seconds_max=5))
    run.send([(1, "a.example")], then=lambda: 7.0)
    assert run.open_after == [0]


def test_idle_connections_leave_most_descriptors_to_what_is_under_way() -> None:
    with mock.patch("resource.getrlimit", return_value=(1024, 4096)):
        assert (within_descriptors(1000), within_descriptors(10)) == (256, 10)
    with mock.patch("resource.getrlimit", return_value=(resource.RLIM_INFINITY,) * 2):
        assert within_descriptors(1000) == 1000


def test_a_request_that_finds_no_descriptor_closes_what_is_idle() -> None:
    run = Run(KeptLimits())

    async def none_left(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "no descriptors")

    async def main() -> None:
        request = Request("http://a.example/", {}, b"{}", 5.0, webhook_id=1)
        await run.sender.send(request)
        run.loop.create_connection = none_left  # pyright: ignore[reportAttributeAccessIssue]
        with pytest.raises(SenderFault, match="EMFILE"):
            await run.sender.send(replace(request, webhook_id=2))
        assert run.sender.pool.idle_count == 0
        await run.sender.close()

    with run.loop.patched_time():
        run.loop.run_until_complete(main())
    run.loop.close()


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_connection_is_left_of_a_request_that_is_given_up_whatever_it_was_at(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], scheme: str
) -> None:
    """The service is being stopped, say. Given up after 0, 1, 2, ... turns of the loop."""

    async def run() -> None:
        servers, client = RawServers(), ssl.create_default_context()
        certificates.authority().configure_trust(client)
        url = await servers(says(OK), **({"ssl": certificates.in_order()} if scheme == "https" else {}))
        url = url.replace("http://127.0.0.1", f"{scheme}://{certificates.HOST}")
        sender = Sender(
            LOCAL, DatabaseClock(), Random(), SendLimits(10), resolver=Leading(["127.0.0.1"]), ssl_context=client
        )
        is_done, turns = False, 0
        while not is_done:
            task = asyncio.create_task(sender.send(Request(url, {}, b"{}", 30.0, webhook_id=turns)))
            for _ in range(turns):
                await asyncio.sleep(0)
            is_done = task.done()
            task.cancel()
            await asyncio.wait([task])
            turns += 1
        async with slowness.timeout(10):
            while len(vars(sender.pool)["_open"]) > sender.pool.idle_count:
                await asyncio.sleep(0.01)
        await sender.close()
        await servers.stop()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(run())

"""`watch --cursor-file`, killed again and again: nothing is missed, and only what is behind the cursor comes twice."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from tests.cli.test_signals import started
from tests.support import slowness
from tests.support.full import in_full
from tests.support.receiver import Receiver, answers
from tests.support.service import Service
from webhook_grpc_cli.values import plain

KILLS = in_full(100, short=4)
EVENTS = 60  # published while one run prints
WEBHOOKS = 2

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.slow(10),
    pytest.mark.timeout(in_full(3600, short=300)),
]


class Watched:
    """What all runs together have printed, and how much of it is behind the cursor that the next run begins with."""

    def __init__(self, service: Service, home: Path) -> None:
        self._service = service
        self._home = home
        self._file = home / "cursor"
        self.lines: list[dict[str, Any]] = []
        self.deliveries: list[dict[str, Any]] = []
        """Every line but those that the next run may print again."""

    async def run_until(self, count: int, how: signal.Signals = signal.SIGKILL) -> None:
        """Starts a run, and ends it when it has printed so many deliveries.

        One that is not killed has printed the cursor behind them, too: a message that is half printed is not finished.
        """
        start = () if self._file.exists() else ("--since", "1h")
        words = ("watch", "--cursor-file", "cursor", "-o", "json", "--with-cursor", *start)
        process = await started(self._service, self._home, *words)
        assert process.stdout is not None
        printed, found = list[bytes](), 0
        async with slowness.timeout(30 + count / 100):  # fewer deliveries than were missing: one was missed
            while found < count or not (how is signal.SIGKILL or b'"cursor"' in printed[-1]):
                printed.append(await process.stdout.readline())
                assert printed[-1], "it ended by itself"
                found += b'"delivery_id"' in printed[-1]
            process.send_signal(how)
            printed += (await process.communicate())[0].splitlines(keepends=True)
        self._note([json.loads(line) for line in printed if line.endswith(b"\n")])

    def _note(self, printed: list[dict[str, Any]]) -> None:
        self.lines += printed
        saved = self._file.read_text().strip() if self._file.exists() else ""
        cursors = [number for number, line in enumerate(printed) if line.get("cursor") == saved]
        if cursors:
            finished = printed[: cursors[-1] + 1]
        else:  # saved after the last delivery of a message, whose cursor was to be printed next; or this run saved none
            is_earlier = not saved or any(line.get("cursor") == saved for line in self.lines)
            finished = [] if is_earlier else printed
        self.deliveries += [line for line in finished if "delivery_id" in line]


def changes(deliveries: list[dict[str, Any]]) -> Counter[str]:
    """Counts how often each change is there."""
    return Counter(json.dumps(delivery, sort_keys=True) for delivery in deliveries)


async def test_no_change_is_missed_and_none_is_printed_twice_but_behind_the_cursor(
    service: Service, receiver: Receiver, home: Path
) -> None:
    since = Timestamp()
    since.GetCurrentTime()
    await service.create_webhook(receiver.url())
    await service.create_webhook(receiver.on("/now-and-then", answers(*[200, 500] * (KILLS * EVENTS))))
    watched, choice, reported = Watched(service, home), random.Random(23), list[dict[str, Any]]()
    place: dict[str, Any] = {"start_time": since}
    for _ in range(KILLS):
        async with service.watching(**place) as log:  # one for each: the service ends a stream after half an hour
            publishing = asyncio.create_task(service.publish_many(EVENTS))
            await watched.run_until(choice.randrange(1, EVENTS))
            await publishing
            await log.until_ended(EVENTS * WEBHOOKS, seconds=60)
        reported += map(plain, log.deliveries)
        place = {"cursor": log.cursor}
    expected = changes(reported)
    await watched.run_until(len(reported) - len(watched.deliveries), signal.SIGINT)
    assert changes(watched.deliveries) == expected
    assert changes([line for line in watched.lines if "delivery_id" in line]).keys() == expected.keys()

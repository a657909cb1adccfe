"""Large work of one customer in a thread: one piece in the queue, whoever comes when."""

from __future__ import annotations

import asyncio
from threading import Event

from webhook_grpc.api.events.offloading import LargeWork


async def test_a_piece_that_comes_as_another_one_ends_waits_behind_those_of_its_customer() -> None:
    work, done = LargeWork(), list[str]()
    may_end = {"first": Event(), "of another": Event()}

    def piece(name: str) -> None:
        if name in may_end:
            may_end[name].wait(60)
        done.append(name)

    async def begin(customer: int, name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work.run(customer, piece, name))
        await asyncio.sleep(0)  # it is in line
        return task

    first = await begin(1, "first")
    waiting = [await begin(2, "of another"), await begin(1, "second")]
    may_end["first"].set()
    await first
    waiting += [await begin(1, "third"), await begin(3, "of one more")]
    may_end["of another"].set()
    await asyncio.gather(*waiting)
    assert done == ["first", "of another", "second", "of one more", "third"]
    assert not work._of_customer  # pyright: ignore[reportPrivateUsage] - nothing is kept of whoever has left

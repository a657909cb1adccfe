"""Statements that run in the task of their caller: as if awaited, until the caller leaves or the deadline passes."""

from __future__ import annotations

import asyncio

import pytest

from tests.support import slowness
from webhook_grpc.store.connection import abandoning
from webhook_grpc.store.connection.abandoning import Abandoned

LONG_SECONDS = 600.0


class Statement:
    """Waits for an answer as the driver does: when it is cancelled, it waits for the server once more."""

    def __init__(self, *, cancels_ignored: int = 0) -> None:
        self.answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.may_end = asyncio.Event()
        self.tasks = list[asyncio.Task[object] | None]()
        self.cancel_count = 0
        self._cancels_ignored = cancels_ignored

    async def run(self) -> str:
        self.tasks.append(asyncio.current_task())
        try:
            return await asyncio.shield(self.answer)
        except asyncio.CancelledError:
            self.cancel_count += 1
            self.tasks.append(asyncio.current_task())
            await self._until_server_ends_it()
            raise

    async def _until_server_ends_it(self) -> None:
        while not self.may_end.is_set():
            try:
                await self.may_end.wait()
            except asyncio.CancelledError:
                self.cancel_count += 1
                if self.cancel_count > self._cancels_ignored:
                    raise


async def until_waiting(statement: Statement) -> None:
    while not statement.tasks:
        await asyncio.sleep(0)


async def test_a_statement_runs_in_the_task_of_its_caller() -> None:
    statement, abandoned = Statement(), Abandoned()
    asyncio.get_running_loop().call_soon(statement.answer.set_result, "rows")
    assert await abandoned.in_place(LONG_SECONDS, statement.run()) == "rows"
    assert statement.tasks == [asyncio.current_task()]
    assert not len(abandoned)


async def test_what_a_statement_waits_for_raises_where_it_stands() -> None:
    statement = Statement()
    asyncio.get_running_loop().call_soon(statement.answer.set_exception, ConnectionError("ended"))
    with pytest.raises(ConnectionError, match="ended"):
        await Abandoned().in_place(LONG_SECONDS, statement.run())


async def test_whoever_misses_the_deadline_goes_on_at_once_and_the_statement_is_ended_behind_it() -> None:
    statement, abandoned = Statement(), Abandoned()
    async with slowness.timeout(10):
        with pytest.raises(TimeoutError):
            await abandoned.in_place(0.0, statement.run())
        assert len(abandoned) == 1
        while not statement.cancel_count:
            await asyncio.sleep(0)
        assert statement.tasks[1] is not asyncio.current_task()
        statement.may_end.set()
        await abandoned.ended()
    assert (statement.cancel_count, len(abandoned)) == (1, 0)


async def test_whoever_is_cancelled_goes_on_at_once_and_the_statement_is_ended_behind_it() -> None:
    statement, abandoned = Statement(), Abandoned()
    caller = asyncio.create_task(abandoned.in_place(LONG_SECONDS, statement.run()))
    await until_waiting(statement)
    caller.cancel()
    async with slowness.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert len(abandoned) == 1
        statement.may_end.set()
        await abandoned.ended()
    assert statement.cancel_count == 1


async def test_a_caller_that_is_cancelled_as_the_answer_comes_has_left() -> None:
    statement, abandoned = Statement(), Abandoned()
    caller = asyncio.create_task(abandoned.in_place(LONG_SECONDS, statement.run()))
    await until_waiting(statement)
    statement.answer.set_result("rows")
    await asyncio.sleep(0)  # the answer has woken the caller, which has not run yet
    caller.cancel()
    statement.may_end.set()
    async with slowness.timeout(10):
        await asyncio.gather(caller, return_exceptions=True)
        await abandoned.ended()
    assert caller.cancelled()
    assert statement.cancel_count == 1


async def test_a_statement_that_does_not_end_is_cancelled_a_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abandoning, "_CANCEL_SECONDS", 0.01)
    statement, abandoned = Statement(cancels_ignored=1), Abandoned()
    with pytest.raises(TimeoutError):
        await abandoned.in_place(0.0, statement.run())
    async with slowness.timeout(10):
        while statement.cancel_count < 2:
            await asyncio.sleep(0.001)
        await abandoned.ended()
    assert statement.cancel_count == 2

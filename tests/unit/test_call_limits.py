"""Shares of tokens and customers, and the room for messages that are on their way."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, ExitStack

import pytest

from webhook_grpc.domain.access import ANONYMOUS, Caller
from webhook_grpc.domain.errors import Overloaded
from webhook_grpc.domain.fair_shares import ShareLimits
from webhook_grpc.server.call_limits import (
    CUSTOMER_REQUESTS_COMING_MAX,
    REQUESTS_COMING_MAX,
    UNREAD_ANSWER_BYTES_MIN,
    ComingRequests,
    Shares,
    UnreadAnswers,
    UnsentBytes,
)

ONE = Caller("one", None, frozenset())
TWO = Caller("two", None, frozenset())


def shares() -> Shares:
    return Shares(ShareLimits(process_max=5, token_max=3, customer_max=2), "RATE_LIMITED", "calls")


def test_a_token_and_a_customer_have_a_share_that_leaves_room_for_others() -> None:
    bounded = shares()
    with ExitStack() as held:
        for customer_id in (42, 42, None):
            place = held.enter_context(bounded.place())
            place.take_of_caller(ONE)
            place.take_of_customer(customer_id)

        place = held.enter_context(bounded.place())
        with pytest.raises(Overloaded, match="this token has 3 calls in progress") as refused:
            place.take_of_caller(ONE)
        with pytest.raises(Overloaded, match="customer 42 has 2 calls"):
            place.take_of_customer(42)
        place.take_of_caller(TWO)
        place.take_of_customer(43)
        held.enter_context(bounded.place()).take_of_customer(None)
        with pytest.raises(Overloaded, match="this server is serving 5 calls already"), bounded.place():
            pass

    assert (refused.value.reason, refused.value.retry_seconds) == ("RATE_LIMITED", 1.0)
    assert (bounded.in_progress, *bounded.of_tokens, *bounded.of_customers) == (0,), "all of it was given back"


@pytest.mark.parametrize(
    "limits", [ShareLimits(3000, 2400, 1500), ShareLimits(1000, 800, 500)], ids=["calls", "streams"]
)
def test_however_many_take_all_that_they_can_the_next_one_gets_a_place(limits: ShareLimits) -> None:
    """Two customers, and two tokens, once had all places of a process."""
    bounded, holders = Shares(limits, "RATE_LIMITED", "calls"), 8
    with ExitStack() as held:
        taken = [_taken_by(bounded, held, customer_id=number) for number in range(holders)]
        assert taken[0] == limits.customer_max, "who is alone has its whole share"
        assert all(count > 0 for count in taken), taken
        assert bounded.in_progress < limits.process_max
    with ExitStack() as held:
        assert _taken_by(bounded, held, token="a") == limits.token_max
        assert _taken_by(bounded, held, token="b") > 0
        assert _taken_by(bounded, held, token="c") > 0
        assert bounded.in_progress < limits.process_max
    assert (bounded.in_progress, *bounded.of_tokens, *bounded.of_customers) == (0,), "all of it was given back"


def test_who_has_much_gets_no_more_while_others_have_little() -> None:
    """However they came: places that end go to those who have fewer, until all have as many as are free."""
    bounded, of_each = Shares(ShareLimits(300, 240, 150), "RATE_LIMITED", "calls"), dict[int, list[ExitStack]]()
    for _ in range(300):  # each tries to have more, and one call of each ends
        for customer_id in (1, 2, 3):
            mine = of_each.setdefault(customer_id, [])
            while (place := _one_more(bounded, customer_id=customer_id)) is not None:
                mine.append(place)
        for mine in of_each.values():
            mine.pop().close()
    counts = sorted(len(mine) for mine in of_each.values())
    assert counts[-1] - counts[0] <= 2, counts
    for mine in of_each.values():
        for place in mine:
            place.close()


def test_a_customer_that_has_no_stream_gets_one_until_each_has_one() -> None:
    """Eleven customers could take all streams of a process, and the next one was refused until one of them ended."""
    limits, ended = ShareLimits(process_max=40, token_max=32, customer_max=20), list[int]()
    bounded = Shares(limits, "TOO_MANY_STREAMS", "streams", unknown_max=1)
    streams = dict[int, list[ExitStack]]()

    def begin(customer_id: int) -> bool:
        mine = streams.setdefault(customer_id, [])
        with ExitStack() as opened:
            try:
                place = opened.enter_context(bounded.place())
                place.take_of_caller(Caller(f"token of {customer_id}", frozenset((customer_id,)), frozenset()))
            except Overloaded:
                return False
            place.let_end(lambda: ended.append(customer_id))
            mine.append(opened.pop_all())
        return True

    customer_id = 0
    while bounded.in_progress < limits.process_max:
        customer_id += 1
        while begin(customer_id):
            pass
    assert customer_id < 12, "some take all"
    counts = {number: len(mine) for number, mine in streams.items() if mine}
    for newcomer in range(100, 100 + limits.process_max - len(counts)):
        most = max(counts.values())
        assert begin(newcomer)
        assert bounded.in_progress == limits.process_max + 1, "the other one is about to end"
        [whose] = ended
        assert counts[whose] == most
        streams[whose].pop().close()  # the newest
        ended.clear()
        counts[whose] -= 1
        assert not begin(newcomer), "no more than one"
        assert not begin(whose)
    assert set(counts.values()) == {1}
    assert not begin(999), "each has one, and all are taken"
    assert not ended
    for mine in streams.values():
        for stream in mine:
            stream.close()
    left = (
        bounded.in_progress,
        bounded.known,
        bounded.ending,
        *bounded.of_tokens,
        *bounded.of_customers,
        *bounded.may_end,
    )
    assert left == (0, 0, 0), "all of it was given back"


def test_whoever_is_not_known_ends_nobody() -> None:
    bounded = Shares(ShareLimits(2, 2, 2), "TOO_MANY_STREAMS", "streams", unknown_max=1)
    with ExitStack() as held:
        for _ in range(2):
            place = held.enter_context(bounded.place())
            place.take_of_caller(ONE)
            place.let_end(lambda: pytest.fail("it was ended"))
        with bounded.place() as unknown:
            with pytest.raises(Overloaded, match="serving 2 streams already"), bounded.place():
                pass
            with pytest.raises(Overloaded, match="serving 2 streams already"):
                unknown.take_of_caller(ANONYMOUS)
            with pytest.raises(Overloaded, match="serving 2 streams already"):
                unknown.take_of_caller(ONE)


def test_no_stream_is_ended_for_a_caller_of_several_customers_or_because_of_callers_that_are_not_known() -> None:
    """Theirs might still be refused when it is known for which customer they call."""
    ended = list[str]()
    bounded = Shares(ShareLimits(process_max=4, token_max=4, customer_max=4), "TOO_MANY_STREAMS", "streams", 3)
    with ExitStack() as held:
        for _ in range(3):
            place = held.enter_context(bounded.place())
            place.take_of_caller(ONE)
            place.let_end(lambda: ended.append("of one"))
        for _ in range(2):
            held.enter_context(bounded.place())  # nobody knows yet whose they are
        with bounded.place() as newcomer:
            newcomer.take_of_caller(Caller("token of 9", frozenset((9,)), frozenset()))  # a place is free
            for customer_ids in (frozenset((1, 9)), None):
                with bounded.place() as partner, pytest.raises(Overloaded, match="serving 4 streams already"):
                    partner.take_of_caller(Caller("partner", customer_ids, frozenset()))
    assert not ended
    assert (bounded.in_progress, bounded.known) == (0, 0)


def _taken_by(bounded: Shares, held: ExitStack, customer_id: int | None = None, token: str = "") -> int:
    """Takes as many places as one gets; returns how many that were."""
    count = 0
    while (place := _one_more(bounded, customer_id, token)) is not None:
        held.push(place)
        count += 1
    return count


def _one_more(bounded: Shares, customer_id: int | None = None, token: str = "") -> ExitStack | None:
    with ExitStack() as opened:
        try:
            place = opened.enter_context(bounded.place())
            if token:
                place.take_of_caller(Caller(token, None, frozenset()))
            place.take_of_customer(customer_id)
        except Overloaded:
            return None
        return opened.pop_all()


@pytest.mark.parametrize("customer_ids", [frozenset({42}), frozenset({42, 43})])
def test_tokens_of_the_same_customers_share_before_their_requests_have_come(customer_ids: frozenset[int]) -> None:
    """Nobody knows yet which customer a request names, and it may never come."""
    bounded = shares()
    with ExitStack() as held:
        for name in ("a", "b"):
            held.enter_context(bounded.place()).take_of_caller(Caller(name, customer_ids, frozenset()))
        with pytest.raises(Overloaded, match=r"ha(s|ve) 2 calls"):
            held.enter_context(bounded.place()).take_of_caller(Caller("c", customer_ids, frozenset()))
        other = held.enter_context(bounded.place())
        other.take_of_caller(Caller("d", frozenset({44}), frozenset()))
        other.take_of_customer(44)  # the same place
        assert bounded.of_customers[44] == 1
    assert (bounded.in_progress, *bounded.of_tokens, *bounded.of_customers) == (0,), "all of it was given back"


def test_callers_without_a_token_have_no_share_of_a_token() -> None:
    bounded = Shares(ShareLimits(process_max=20, token_max=3, customer_max=2), "RATE_LIMITED", "calls")
    with ExitStack() as held:
        for _ in range(10):
            held.enter_context(bounded.place()).take_of_caller(ANONYMOUS)


async def _has_room(coming: ComingRequests, caller: Caller) -> bool:
    """Returns whether a request of the caller may come without waiting."""
    place = coming.place(caller)
    entering = asyncio.ensure_future(place.__aenter__())
    await _settled()
    if entering.done():
        await place.__aexit__(None, None, None)
        return True
    entering.cancel()
    await asyncio.gather(entering, return_exceptions=True)
    return False


async def test_requests_of_one_token_that_do_not_come_whole_hold_up_no_other_token() -> None:
    coming = ComingRequests()
    async with AsyncExitStack() as held:
        for _ in range(REQUESTS_COMING_MAX):
            await held.enter_async_context(coming.place(ONE))

        assert not await _has_room(coming, ONE)
        assert await _has_room(coming, TWO)
    assert await _has_room(coming, ONE)


async def test_many_tokens_of_one_customer_have_no_more_requests_on_their_way_than_a_few() -> None:
    coming = ComingRequests()
    many = [Caller(f"token {number}", frozenset((42,)), frozenset()) for number in range(CUSTOMER_REQUESTS_COMING_MAX)]
    async with AsyncExitStack() as held:
        for token in many:
            await held.enter_async_context(coming.place(token))

        left = asyncio.ensure_future(coming.place(many[0]).__aenter__())
        await _settled()
        assert not left.done(), "one more waits, with whichever token"
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        assert await _has_room(coming, Caller("other", frozenset((43,)), frozenset()))
    assert await _has_room(coming, many[0]), "all of it was given back, by the one that left, too"


def test_who_does_not_read_its_answers_gets_no_further_ones_until_it_does() -> None:
    unread = UnreadAnswers(10 * UNREAD_ANSWER_BYTES_MIN, 100 * UNREAD_ANSWER_BYTES_MIN)
    large = unread.hold(1, 9 * UNREAD_ANSWER_BYTES_MIN)
    unread.check(1)
    small = unread.hold(1, 1)  # which counts as one more

    with pytest.raises(Overloaded, match="not read") as refused:
        unread.check(1)
    assert (refused.value.reason, refused.value.retry_seconds) == ("RATE_LIMITED", 1.0)
    unread.check(2)

    large()
    unread.check(1)
    small()
    assert not unread.keys, "all of it was given back"


def test_unread_answers_of_many_customers_have_a_bound_and_who_reads_gets_answers() -> None:
    unread = UnreadAnswers(10 * UNREAD_ANSWER_BYTES_MIN, 20 * UNREAD_ANSWER_BYTES_MIN)
    given = [unread.hold(customer, 5 * UNREAD_ANSWER_BYTES_MIN) for customer in range(4)]
    little = unread.hold(5, 1)

    for customer in range(4):
        with pytest.raises(Overloaded, match="not read"):
            unread.check(customer)
    unread.check(5)
    unread.check(6)  # of whom nothing is unread

    given.pop()()
    unread.check(0)  # there is room for all
    for taken in (*given, little):
        taken()
    assert not unread.keys, "all of it was given back"


async def test_messages_of_all_watchers_share_one_room_and_nobody_has_more_than_half() -> None:
    unsent, order, released = UnsentBytes(100), list[str](), asyncio.Event()

    async def send(name: str, key: int, size: int) -> None:
        async with unsent.held(key, size):
            order.append(name)
            await released.wait()

    tasks = [asyncio.ensure_future(send(name, key, 40)) for name, key in (("a", 1), ("b", 1), ("c", 2), ("d", 3))]
    await _settled()
    assert order == ["a", "c"], "the second of customer 1 waits for the first, that of customer 3 for room"

    released.set()
    await asyncio.gather(*tasks)
    assert sorted(order) == ["a", "b", "c", "d"]


async def test_who_stops_reading_leaves_room_to_others_however_many_do() -> None:
    unsent, order = UnsentBytes(120), list[int]()

    async def send(key: int) -> None:
        async with unsent.held(key, 1):
            order.append(key)
            await asyncio.Event().wait()

    tasks = [asyncio.ensure_future(send(key)) for key in (1, 2, 3) for _ in range(120)]
    await _settled()
    assert [order.count(key) for key in (1, 2, 3)] == [60, 30, 15]
    tasks.append(asyncio.ensure_future(send(4)))
    await _settled()
    assert order[-1] == 4
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_message_larger_than_the_room_is_sent_alone() -> None:
    async with UnsentBytes(100).held(1, 1000):
        pass


async def test_a_large_message_gets_its_room_although_small_ones_keep_coming() -> None:
    unsent, order = UnsentBytes(100), list[str]()

    async def send(name: str, key: int, size: int, released: asyncio.Event) -> None:
        async with unsent.held(key, size):
            order.append(name)
            await released.wait()

    first, others = asyncio.Event(), asyncio.Event()
    tasks = [
        asyncio.ensure_future(send(name, key, size, released))
        for name, key, size, released in (("a", 1, 40, first), ("b", 2, 30, others), ("large", 3, 70, others))
    ]
    await _settled()
    tasks.append(asyncio.ensure_future(send("later", 4, 30, others)))
    await _settled()
    first.set()
    await _settled()
    assert order == ["a", "b", "large"], "what came later waits behind it"

    others.set()
    await asyncio.gather(*tasks)
    assert order[-1] == "later"


async def test_a_watcher_that_leaves_while_it_waits_gives_its_room_back() -> None:
    unsent = UnsentBytes(100)

    async def send() -> None:
        async with unsent.held(2, 60):
            pass

    async with unsent.held(1, 60):
        waiting = asyncio.ensure_future(send())
        await _settled()
    waiting.cancel()  # in the moment in which it got its room
    await asyncio.gather(waiting, return_exceptions=True)

    await asyncio.wait_for(send(), 10)


async def _settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)

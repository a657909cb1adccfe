"""How much is served at once: in all, for each token and for each customer. All doors share these bounds.

What is refused here may succeed a moment later, so each refusal says when to try again.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, Self, TypeVar
from weakref import WeakValueDictionary

from webhook_grpc.domain.access import Caller
from webhook_grpc.domain.errors import Overloaded
from webhook_grpc.domain.fair_shares import RateLimits, ShareLimits, leaves_enough
from webhook_grpc.domain.token_buckets import Buckets

RETRY_SECONDS: Final = 1.0
REQUESTS_COMING_MAX: Final = 16  # of one token, that have not come whole: each may have 5 MiB in memory
CUSTOMER_REQUESTS_COMING_MAX: Final = 64  # of all tokens of one customer
UNKNOWN_MAX: Final = 100  # streams beyond the bound whose callers are not known yet: who has no stream gets a place
UNREAD_ANSWER_BYTES_MIN: Final = 16 * 1024  # what an unread answer counts for at least: its call takes memory, too

_Key = TypeVar("_Key", int, str)
_Shared = TypeVar("_Shared", bound=Hashable)


class Shares:
    """Bounds how many calls of a kind are in progress: a call holds places in the process, of its token, its customer.

    A caller without a token has no share of its own. When all places are taken, a customer without any gets the
    place of the newest call of the customer with most, if such calls may be ended (`Place.let_end`): streams may.
    """

    def __init__(self, limits: ShareLimits, reason: str, what: str, unknown_max: int = 0) -> None:
        """`unknown_max`: places beyond the bound, for as long as it is not known who calls."""
        self.limits = limits
        self.unknown_max = unknown_max
        self.reason = reason
        self.what = what
        self.in_progress = 0
        self.known = 0  # those of them whose callers are known
        self.of_tokens = Counter[str]()
        self.of_customers = Counter[Hashable]()  # a customer, or the customers that a caller is bound to
        self.may_end = dict[Hashable, dict[Place, Callable[[], None]]]()  # by whose they are, the newest last
        self.ending = 0  # those that have been ended and still have their places

    def place(self) -> Place:
        """Returns the place of one call. It is held by `with`, which raises Overloaded if the process has none left."""
        return Place(self)

    def leave_enough(self, taken: int, each_max: int) -> bool:
        """Returns whether one who has so many places may have another one: that of a call that is in progress."""
        return leaves_enough(taken, each_max, self.in_progress, self.limits.process_max)

    def has_room(self) -> bool:
        """Returns whether one more call of a known caller may be in progress."""
        return self.known - self.ending < self.limits.process_max

    def end_one_of_the_most(self) -> bool:
        """Ends the newest call of whoever has most of them, if these are several. Returns whether there was one."""
        if not self.may_end or len(most := max(self.may_end.values(), key=len)) <= 1:
            return False
        place, end = most.popitem()
        place.was_ended = True
        self.ending += 1
        end()
        return True


class Place:
    """What one call holds of the shares. All of it is given back when the call ends.

    (No generators: this is on the way of every call, and they cost three microseconds each.)
    """

    __slots__ = ("_customers", "_group", "_is_known", "_line", "_shares", "_token", "was_ended")

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self._line: Hashable = None
        self.was_ended = False
        self._is_known = False
        self._token: str | None = None
        self._customers: tuple[Hashable, ...] = ()
        self._group: Hashable = None

    def __enter__(self) -> Self:
        """Takes a place in the process. Raises Overloaded."""
        shares = self._shares
        if shares.in_progress >= shares.limits.process_max + shares.unknown_max:
            raise self._server_full()
        shares.in_progress += 1
        return self

    def take_of_caller(self, caller: Caller) -> None:
        """Takes a place of the caller's token, and of the customers that it is bound to. Raises Overloaded.

        This is done before the request comes: else calls that never send one, with a few tokens of one customer, could
        hold the places of all others.
        """
        shares = self._shares
        if not shares.has_room():
            self._make_room(caller)
        shares.known += 1
        self._is_known = True
        if not caller.has_token:
            return
        if not shares.leave_enough(taken := shares.of_tokens[caller.name], shares.limits.token_max):
            raise self._full(f"this token has {taken}", "in progress at this server already")
        shares.of_tokens[caller.name] += 1
        self._token = caller.name
        if caller.customer_id is not None:
            self.take_of_customer(caller.customer_id)
        elif caller.customer_ids is not None:
            self._take(caller.customer_ids, "the customers of this token have")
            self._group = caller.customer_ids

    def _make_room(self, caller: Caller) -> None:
        """Has another call ended for one of a customer that has none. Raises Overloaded if that can't be.

        Only for a caller of that customer alone: of others it is not known yet for which customer they call, so theirs
        might still be refused when another call has been ended for it.
        """
        shares, customer_id = self._shares, caller.customer_id
        is_alone = caller.has_token and customer_id is not None
        taken = shares.of_tokens[caller.name] + (shares.of_customers[customer_id] if customer_id is not None else 0)
        if not is_alone or taken or not shares.end_one_of_the_most():
            raise self._server_full()

    def let_end(self, end: Callable[[], None]) -> None:
        """Lets this call be ended when a customer without any call needs a place. Call `take_of_caller` before."""
        self._line = self._customers[-1] if self._customers else self._token
        if self._line is not None:
            self._shares.may_end.setdefault(self._line, {})[self] = end

    def take_of_customer(self, customer_id: int | None) -> None:
        """Takes a place of a customer's; None: the call is for no single one. Raises Overloaded.

        What was taken of the customers of its token together, while it was not known which, is given back.
        """
        self._take(customer_id, f"customer {customer_id} has")
        if customer_id is not None and self._group is not None:
            _give_back(self._shares.of_customers, self._group)
            self._customers = tuple(taken for taken in self._customers if taken is not self._group)
            self._group = None

    def _take(self, customers: Hashable, whose: str) -> None:
        if customers is None or customers in self._customers:
            return
        shares = self._shares
        if not shares.leave_enough(taken := shares.of_customers[customers], shares.limits.customer_max):
            raise self._full(f"{whose} {taken}", "in progress at this server already")
        shares.of_customers[customers] += 1
        self._customers = (*self._customers, customers)

    def __exit__(self, *_: object) -> None:
        shares = self._shares
        shares.in_progress -= 1
        shares.known -= self._is_known
        if self.was_ended:
            shares.ending -= 1
        elif self._line is not None:
            del shares.may_end[self._line][self]
            if not shares.may_end[self._line]:
                del shares.may_end[self._line]
        if self._token is not None:
            _give_back(shares.of_tokens, self._token)
        for customers in self._customers:
            _give_back(shares.of_customers, customers)

    def _server_full(self) -> Overloaded:
        return self._full(f"this server is serving {self._shares.limits.process_max}", "already")

    def _full(self, whose: str, state: str) -> Overloaded:
        return Overloaded(self._shares.reason, f"{whose} {self._shares.what} {state}; retry later", RETRY_SECONDS)


def _give_back(taken: Counter[_Shared], key: _Shared) -> None:
    taken[key] -= 1
    if not taken[key]:
        del taken[key]


class CallRates:
    """Bounds how many calls a second begin: of each token and of each customer, with a burst of a second."""

    def __init__(self, limits: RateLimits) -> None:
        self._of_tokens = Buckets(limits.token_per_second)
        self._of_customers = Buckets(limits.customer_per_second)

    def take_of_token(self, caller: Caller) -> None:
        """Counts one call of the caller's token. Raises Overloaded; a caller without a token is not counted."""
        if caller.has_token and (wait_seconds := self._of_tokens.take(caller.name, time.monotonic())):
            raise _too_many("this token", self._of_tokens, wait_seconds)

    def take_of_customer(self, customer_id: int | None) -> None:
        """Counts one call for a customer; None: the call is for no single one. Raises Overloaded."""
        if customer_id is not None and (wait_seconds := self._of_customers.take(customer_id, time.monotonic())):
            raise _too_many(f"customer {customer_id}", self._of_customers, wait_seconds)


def _too_many(whose: str, buckets: Buckets, wait_seconds: float) -> Overloaded:
    text = f"{whose} makes more than {buckets.rate_per_second:g} calls a second through this server; retry later"
    return Overloaded("RATE_LIMITED", text, wait_seconds)


class ComingRequests:
    """Bounds how many requests of one token, and of one customer, are in memory that have not come whole.

    Others of its calls wait. A caller for several customers counts for none: nobody knows yet which of them it is.
    """

    def __init__(self) -> None:
        self._of_tokens = WeakValueDictionary[str, asyncio.Semaphore]()  # of those that have calls, as below
        self._of_customers = WeakValueDictionary[int, asyncio.Semaphore]()

    def place(self, caller: Caller) -> ComingPlace:
        """Returns what a call has to hold while its request comes."""
        own = _bounded(self._of_tokens, caller.name, REQUESTS_COMING_MAX)
        if caller.customer_id is None:
            return ComingPlace(own, None)
        return ComingPlace(own, _bounded(self._of_customers, caller.customer_id, CUSTOMER_REQUESTS_COMING_MAX))


def _bounded(places: WeakValueDictionary[_Key, asyncio.Semaphore], key: _Key, count: int) -> asyncio.Semaphore:
    found = places.get(key)
    if found is None:
        found = places[key] = asyncio.Semaphore(count)
    return found


class ComingPlace:
    """The places of one request that comes. They are held by `async with`, which waits for them."""

    __slots__ = ("_of_customer", "_of_token")

    def __init__(self, of_token: asyncio.Semaphore, of_customer: asyncio.Semaphore | None) -> None:
        self._of_token = of_token
        self._of_customer = of_customer

    async def __aenter__(self) -> None:
        await self._of_token.acquire()
        if self._of_customer is not None:
            try:
                await self._of_customer.acquire()
            except BaseException:
                self._of_token.release()
                raise

    async def __aexit__(self, *_: object) -> None:
        if self._of_customer is not None:
            self._of_customer.release()
        self._of_token.release()


class UnreadAnswers:
    """Bounds the bytes of answers that callers have not taken: whoever has more than its share gets no further ones.

    A share is `each_max`; once all callers together have `all_max`, an equal part of that: who reads gets answers.
    """

    def __init__(self, each_max: int, all_max: int) -> None:
        self._each_max = each_max
        self._all_max = all_max
        self._held_by = Counter[Hashable]()
        self._held = 0

    @property
    def keys(self) -> Collection[Hashable]:
        """Returns whose answers are unread."""
        return self._held_by.keys()

    def check(self, key: Hashable) -> None:
        """Raises Overloaded if too much of this key is unread."""
        share = self._each_max
        if self._held >= self._all_max:
            share = min(share, self._all_max // len(self._held_by))
        if self._held_by[key] >= max(1, share):
            text = f"answers of {share} bytes are on their way and not read; read them, and retry later"
            raise Overloaded("RATE_LIMITED", text, RETRY_SECONDS)

    def hold(self, key: Hashable, size_bytes: int) -> Callable[..., None]:
        """Counts an answer that is about to be sent. Call what this returns once, when it is taken or its caller left.

        `key`: whose share it takes.
        """
        size_bytes = max(size_bytes, UNREAD_ANSWER_BYTES_MIN)
        self._held += size_bytes
        self._held_by[key] += size_bytes
        return partial(self._give_back, key, size_bytes)

    def _give_back(self, key: Hashable, size_bytes: int, *_: object) -> None:
        self._held -= size_bytes
        self._held_by[key] -= size_bytes
        if not self._held_by[key]:
            del self._held_by[key]


@dataclass(slots=True)
class _Waiting:
    key: Hashable
    size_bytes: int
    granted: asyncio.Future[None]


class UnsentBytes:
    """Bounds the bytes of messages that are on their way to watchers: one budget for a process.

    A customer has at most half of it, and not more than is free, so those who stop reading hold up nobody else.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._held_by = Counter[Hashable]()
        self._held = 0
        self._waiting = dict[int, _Waiting]()  # in the order in which they came; the key is a number of each

    @asynccontextmanager
    async def held(self, key: Hashable, size_bytes: int) -> AsyncGenerator[None]:
        """Holds room for a message, when there is any. What is larger than all the room waits until nobody holds any.

        `key`: whose share it takes.
        """
        if not self._waiting and self._has_share(key, size_bytes) and self._fits(size_bytes):
            self._add(key, size_bytes)
        else:
            await self._granted(key, size_bytes)
        try:
            yield
        finally:
            self._add(key, -size_bytes)
            self._grant()

    async def _granted(self, key: Hashable, size_bytes: int) -> None:
        waiting = _Waiting(key, size_bytes, asyncio.get_running_loop().create_future())
        self._waiting[id(waiting)] = waiting
        self._grant()
        try:
            await waiting.granted
        except asyncio.CancelledError:
            self._waiting.pop(id(waiting), None)
            if waiting.granted.done() and not waiting.granted.cancelled():  # both at once: the room is given back
                self._add(key, -size_bytes)
            self._grant()
            raise

    def _grant(self) -> None:
        """Gives room to those that wait, the first first; one whose share is used up holds up nobody.

        One that only lacks room holds up all behind it: small messages would take the room of a large one for ever.
        """
        for number, waiting in list(self._waiting.items()):
            if waiting.granted.done() or not self._has_share(waiting.key, waiting.size_bytes):
                continue
            if not self._fits(waiting.size_bytes):
                return
            del self._waiting[number]
            self._add(waiting.key, waiting.size_bytes)
            waiting.granted.set_result(None)

    def _has_share(self, key: Hashable, size_bytes: int) -> bool:
        own = self._held_by[key]
        return not own or own + size_bytes <= self._bytes_max - self._held - size_bytes

    def _fits(self, size_bytes: int) -> bool:
        return not self._held or self._held + size_bytes <= self._bytes_max

    def _add(self, key: Hashable, size_bytes: int) -> None:
        self._held += size_bytes
        self._held_by[key] += size_bytes
        if not self._held_by[key]:
            del self._held_by[key]

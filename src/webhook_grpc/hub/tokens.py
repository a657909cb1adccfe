"""The tokens of the database that callers use: looked up once, remembered, and looked at again every second.

A token that is revoked ends within two seconds in every process: a hint drops it at once, and if the hint is lost, the
next look does. Other changes of a token there are none.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from itertools import islice
from typing import Any, Final

from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.tokens import StoredToken
from webhook_grpc.store.connection.failures import watched
from webhook_grpc.store.db import Database, LoopConnection
from webhook_grpc.store.registry import tokens as store

KNOWN_MAX: Final = 10_000  # tokens that are remembered: about 5 MB
LOOK_SECONDS: Final = 1.0  # between two looks at the tokens that are known
_WAIT_SECONDS: Final = 2.0  # for the look-up of a token
_IDS_MAX: Final = 1000  # in one look-up


class KnownTokens:
    """Remembers tokens by their ids. Only its own look-ups and its loop write what is known."""

    def __init__(self, database: Database, connection: LoopConnection, kept_seconds: float, waiting_max: int) -> None:
        """`connection` looks at what is known, `database` looks up what is not.

        `kept_seconds`: how long a token that was known goes on while the database is away. `waiting_max`: calls that
        may wait for look-ups.
        """
        self._database = database
        self._connection = connection
        self._kept_seconds = kept_seconds
        self._waiting_max = waiting_max
        self._work = connection.progress.work("tokens")
        self._known = OrderedDict[int, StoredToken]()  # the one used last comes last
        self._confirmed_at = dict[int, float]()  # of each, in monotonic seconds: when the look began that found it
        self._looked_at = float("-inf")  # when the last look at all that is known began
        self._drops = 0
        self._wanted = dict[int, asyncio.Future[StoredToken | None]]()
        self._waiting_count = 0
        self._looking: asyncio.Task[None] | None = None
        self._holders = dict[int, set[Callable[[], None]]]()
        self._used = set[int]()
        self._changed = asyncio.Event()

    async def find(self, token_id: int) -> StoredToken | None:
        """Returns a token; None if there is none of this id. Raises Unavailable if nobody can say."""
        token = self._known.get(token_id)
        if token is not None and self._is_confirmed(token_id):
            self._known.move_to_end(token_id)
            return token
        if self._waiting_count >= self._waiting_max:
            raise _not_looked_up()
        self._waiting_count += 1
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                return await asyncio.shield(self._look_up(token_id))  # others may wait for the same
        except TimeoutError:
            raise _not_looked_up() from None
        finally:
            self._waiting_count -= 1

    def used(self, token_id: int) -> None:
        """Notes that a call had this token; that is stored later."""
        if len(self._used) < KNOWN_MAX:
            self._used.add(token_id)

    @contextlib.contextmanager
    def holding(self, token_id: int | None, on_revoked: Callable[[], None]) -> Generator[None]:
        """Calls `on_revoked` if the token is revoked before the block ends. `token_id` None: nobody can revoke it."""
        if token_id is None:
            yield
            return
        holders = self._holders.setdefault(token_id, set())
        holders.add(on_revoked)
        try:
            yield
        finally:
            holders.discard(on_revoked)
            if not holders and self._holders.get(token_id) is holders:
                del self._holders[token_id]

    def changed(self, token_ids: Iterable[int]) -> None:
        """Lets tokens be looked up again: they may have been revoked."""
        self._drops += 1
        for token_id in token_ids:
            self._forget(token_id)
        self._changed.set()

    def loops(self) -> Mapping[str, Coroutine[Any, Any, None]]:
        """Returns what has to run, by name. No loop ends by itself."""
        return {"tokens": self._run()}

    # --- what is not known -----------------------------------------------------------------------------------------

    def _look_up(self, token_id: int) -> asyncio.Future[StoredToken | None]:
        found = self._wanted.get(token_id)
        if found is None:
            found = self._wanted[token_id] = asyncio.get_running_loop().create_future()
            found.add_done_callback(_take_exception)
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look_up_all(), name="look up tokens")
        return found

    async def _look_up_all(self) -> None:
        """Looks up what is wanted, many at once: calls with tokens that do not exist cost one statement at a time."""
        while self._wanted:
            wanted = list(islice(self._wanted, _IDS_MAX))
            drops, began_at = self._drops, time.monotonic()
            try:
                found = await store.by_ids(self._database, wanted)
            except Exception as error:  # noqa: BLE001 - whoever waits gets it
                for token_id in wanted:
                    self._wanted.pop(token_id).set_exception(error)
                continue
            if drops != self._drops:
                continue  # what was read may be from before a token was revoked
            for token_id in wanted:
                token = found.get(token_id)
                if token is not None:
                    self._remember(token, began_at)
                self._wanted.pop(token_id).set_result(token)

    # --- what is known ---------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        uses_stored_at = time.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._changed.wait()
            self._changed.clear()
            with contextlib.suppress(Unavailable), watched(self._work):  # what is known goes on for a while
                await self._look()
                if time.monotonic() - uses_stored_at >= store.USES_SECONDS_MIN:
                    await self._store_uses()
                    uses_stored_at = time.monotonic()

    async def _look(self) -> None:
        """Looks whether the tokens that are known, or held by streams, are still there."""
        token_ids, began_at = {*self._known, *self._holders}, time.monotonic()
        found = await store.by_ids(self._connection, token_ids) if token_ids else {}
        self._looked_at = began_at
        for token_id in token_ids - found.keys():
            self._forget(token_id)
            for on_revoked in tuple(self._holders.get(token_id, ())):
                on_revoked()

    async def _store_uses(self) -> None:
        used, self._used = self._used, set[int]()
        if used:
            try:
                await store.store_uses(self._connection, used)
            except Unavailable:
                self._used |= used
                raise

    def _is_confirmed(self, token_id: int) -> bool:
        confirmed_at = max(self._looked_at, self._confirmed_at[token_id])
        return time.monotonic() - confirmed_at <= self._kept_seconds

    def _remember(self, token: StoredToken, began_at: float) -> None:
        self._known[token.token_id] = token
        self._known.move_to_end(token.token_id)
        self._confirmed_at[token.token_id] = began_at
        if len(self._known) > KNOWN_MAX:
            self._forget(next(iter(self._known)))

    def _forget(self, token_id: int) -> None:
        self._known.pop(token_id, None)
        self._confirmed_at.pop(token_id, None)


def _not_looked_up() -> Unavailable:
    return Unavailable("STORAGE_UNAVAILABLE", "the token can't be looked up now; retry later")


def _take_exception(found: asyncio.Future[StoredToken | None]) -> None:
    """Marks the exception of a look-up as seen: who waited for it has it, if anybody still did."""
    if not found.cancelled():
        found.exception()

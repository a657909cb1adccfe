"""Tokens that the database keeps: their form, and what a process remembers of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

import pytest

from tests.support.tokens import SEALER
from webhook_grpc.domain.access import PERMISSIONS_OF_ROLES, Role
from webhook_grpc.domain.errors import Unauthenticated, Unavailable
from webhook_grpc.domain.ids import INT64_MAX
from webhook_grpc.domain.progress import Progress
from webhook_grpc.domain.tokens import (
    SECRET_BYTES,
    StoredToken,
    TokenSpec,
    hash_of,
    parts_of,
    secret_of,
    token_text,
)
from webhook_grpc.hub import tokens as module
from webhook_grpc.hub.tokens import KnownTokens
from webhook_grpc.server.auth import Authenticator
from webhook_grpc.store.registry import tokens as store

NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
SECRET: Final = secret_of(bytes(range(SECRET_BYTES)))
CUSTOMER: Final = 42


def stored(token_id: int = 7, expire_time: datetime | None = None, secret: str = SECRET) -> StoredToken:
    spec = TokenSpec(Role.VIEWER, frozenset({CUSTOMER}), "a screen", expire_time)
    return StoredToken(token_id, hash_of(secret.encode()), spec, NOW, None)


class Table:
    """Both connections to a table of tokens. `reads`: the ids of each look; while it is `away`, looks fail."""

    def __init__(self, *tokens: StoredToken) -> None:
        self.progress = Progress()
        self.tokens = {token.token_id: token for token in tokens}
        self.reads: list[set[int]] = []
        self.uses: list[set[int]] = []
        self.is_away = False
        self.was_read = asyncio.Event()
        self.hold = asyncio.Event()
        self.hold.set()

    async def by_ids(self, _: object, token_ids: set[int]) -> dict[int, StoredToken]:
        self.reads.append(set(token_ids))
        found = {token_id: self.tokens[token_id] for token_id in token_ids if token_id in self.tokens}
        self.was_read.set()
        await self.hold.wait()
        if self.is_away:
            raise Unavailable("STORAGE_UNAVAILABLE", "away")
        return found

    async def store_uses(self, _: object, token_ids: set[int]) -> None:
        if self.is_away:
            raise Unavailable("STORAGE_UNAVAILABLE", "away")
        self.uses.append(set(token_ids))


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Table, KnownTokens]]:
    """Makes what a process remembers of a table."""

    def made(*tokens: StoredToken, kept_seconds: float = 900.0, waiting_max: int = 10) -> tuple[Table, KnownTokens]:
        table: Any = Table(*tokens)
        monkeypatch.setattr(store, "by_ids", table.by_ids)
        monkeypatch.setattr(store, "store_uses", table.store_uses)
        return table, KnownTokens(table, table, kept_seconds, waiting_max)

    return made


Make = Callable[..., tuple[Table, KnownTokens]]


@contextlib.asynccontextmanager
async def looking(known: KnownTokens) -> AsyncGenerator[None]:
    """Runs the loop."""
    [loop] = [asyncio.create_task(loop) for loop in known.loops().values()]
    try:
        yield
    finally:
        loop.cancel()


async def reason_of(known: KnownTokens, token: str) -> str:
    """Why a token is refused."""
    authenticator = Authenticator([], known, SEALER, anonymous_allowed=False)
    with pytest.raises(Unauthenticated) as raised:
        await authenticator.authenticate([f"Bearer {token}"], NOW)
    assert SECRET not in raised.value.message
    return raised.value.reason


# --- the form --------------------------------------------------------------------------------------------------------


def test_a_token_names_itself_and_its_secret_has_all_of_its_bits() -> None:
    text = token_text(INT64_MAX, SECRET)
    assert text == f"whk_{INT64_MAX}_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
    assert parts_of(text.encode()) == (INT64_MAX, SECRET.encode())


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"whk_",
        b"whk_7",
        f"whk_0_{SECRET}".encode(),
        f"whk_07_{SECRET}".encode(),
        f"whk_-7_{SECRET}".encode(),
        f"whk_{INT64_MAX + 1}_{SECRET}".encode(),
        f"wk_7_{SECRET}".encode(),
        f"WHK_7_{SECRET}".encode(),
        f"whk_7_{SECRET}=".encode(),
        f"whk_7_{SECRET[:-1]}".encode(),
        "whk_٧_".encode() + SECRET.encode(),
    ],
)
async def test_what_is_not_written_like_a_token_is_not_looked_up(token: bytes, make: Make) -> None:
    table, known = make(stored())
    assert parts_of(token) is None
    with pytest.raises(Unauthenticated) as raised:
        await Authenticator([], known, SEALER, anonymous_allowed=False).authenticate(
            [b"Bearer " + (token or b"x")], NOW
        )
    assert raised.value.reason == "TOKEN_INVALID"
    assert table.reads == []


def test_each_role_has_its_permissions() -> None:
    expected: Mapping[Role, set[str]] = {
        Role.ADMIN: {"read", "publish", "manage", "admin"},
        Role.PUBLISHER: {"publish"},
        Role.VIEWER: {"read"},
    }
    assert expected == PERMISSIONS_OF_ROLES
    assert set(PERMISSIONS_OF_ROLES) == set(Role)


# --- who -------------------------------------------------------------------------------------------------------------


async def test_a_stored_token_is_its_caller(make: Make) -> None:
    _, known = make(stored(expire_time=NOW + timedelta(seconds=1)))
    authenticator = Authenticator([], known, SEALER, anonymous_allowed=False)

    caller = await authenticator.authenticate([f"Bearer {token_text(7, SECRET)}"], NOW)

    assert (caller.name, caller.token_id, caller.customer_id) == ("whk_7", 7, CUSTOMER)
    assert caller.permissions == {"read"}
    assert caller.token_expire_time == NOW + timedelta(seconds=1)


async def test_of_an_expired_token_only_whoever_has_its_secret_learns(make: Make) -> None:
    _, known = make(stored(expire_time=NOW))
    other = secret_of(bytes(SECRET_BYTES))

    assert await reason_of(known, token_text(7, SECRET)) == "TOKEN_EXPIRED"
    assert await reason_of(known, token_text(7, other)) == "TOKEN_INVALID"
    assert await reason_of(known, token_text(8, SECRET)) == "TOKEN_INVALID"


async def test_a_token_that_was_not_proved_counts_as_not_used(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(store, "USES_SECONDS_MIN", 0)
    table, known = make(stored(7), stored(8), stored(9, expire_time=NOW))
    authenticator = Authenticator([], known, SEALER, anonymous_allowed=False)

    await reason_of(known, token_text(8, secret_of(bytes(SECRET_BYTES))))
    await reason_of(known, token_text(9, SECRET))
    for _ in range(3):
        await authenticator.authenticate([f"Bearer {token_text(7, SECRET)}"], NOW)
    assert table.uses == [], "never on the way of a call"
    async with looking(known):
        await until(lambda: bool(table.uses))

    assert table.uses == [{7}]


# --- what is remembered ----------------------------------------------------------------------------------------------


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


async def test_a_token_is_looked_up_once_for_all_calls(make: Make) -> None:
    table, known = make(stored())

    found = await asyncio.gather(*(known.find(7) for _ in range(10)))

    assert {token.token_id for token in found if token is not None} == {7}
    assert await known.find(7) is not None
    assert table.reads == [{7}]


async def test_many_tokens_that_nobody_knows_take_one_statement_at_a_time(make: Make) -> None:
    table, known = make(waiting_max=100)
    table.hold.clear()
    first = asyncio.create_task(known.find(1))
    await table.was_read.wait()
    others = [asyncio.create_task(known.find(token_id)) for token_id in range(2, 80)]
    await asyncio.sleep(0)
    table.hold.set()

    assert await asyncio.gather(first, *others) == [None] * 79
    assert table.reads == [{1}, set(range(2, 80))]


async def test_more_calls_than_may_wait_for_a_look_up_are_told_to_come_again(make: Make) -> None:
    table, known = make(stored(), waiting_max=2)
    table.hold.clear()
    waiting = [asyncio.create_task(known.find(token_id)) for token_id in (7, 8)]
    await table.was_read.wait()

    with pytest.raises(Unavailable):
        await known.find(9)
    table.hold.set()
    assert [token is not None for token in await asyncio.gather(*waiting)] == [True, False]


async def test_a_token_that_can_not_be_looked_up_is_not_called_unknown(make: Make) -> None:
    table, known = make(stored())
    table.is_away = True
    authenticator = Authenticator([], known, SEALER, anonymous_allowed=False)

    with pytest.raises(Unavailable):
        await authenticator.authenticate([f"Bearer {token_text(7, SECRET)}"], NOW)
    table.is_away = False
    assert (await authenticator.authenticate([f"Bearer {token_text(7, SECRET)}"], NOW)).token_id == 7


async def test_while_the_database_is_away_known_tokens_go_on_for_their_time(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(cast("Any", module).time, "monotonic", lambda: clock[0])
    table, known = make(stored(), kept_seconds=100.0)
    assert await known.find(7) is not None
    table.is_away = True

    clock[0] += 100.0
    assert await known.find(7) is not None
    clock[0] += 0.1
    with pytest.raises(Unavailable):
        await known.find(7)


async def test_a_revoked_token_is_forgotten_by_the_next_look_without_any_hint(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    table, known = make(stored())
    assert await known.find(7) is not None
    del table.tokens[7]

    async with looking(known):
        await until(lambda: table.reads.count({7}) >= 2)
        await until(lambda: set() not in table.reads and not known._known)  # pyright: ignore[reportPrivateUsage]

    assert await known.find(7) is None


async def test_the_looks_of_a_process_are_no_further_apart_than_half_of_what_is_promised() -> None:
    assert module.LOOK_SECONDS <= 1.0


async def test_a_hint_counts_also_for_a_look_up_that_is_under_way(make: Make) -> None:
    table, known = make(stored())
    table.hold.clear()
    looking_up = asyncio.create_task(known.find(7))
    await table.was_read.wait()

    del table.tokens[7]  # after the look-up has read it
    known.changed({7})
    table.hold.set()

    assert await looking_up is None
    assert await known.find(7) is None


async def test_a_hint_ends_what_holds_a_revoked_token_and_nothing_else(make: Make) -> None:
    table, known = make(stored(7), stored(8))
    ended: list[int] = []
    with known.holding(7, lambda: ended.append(7)), known.holding(8, lambda: ended.append(8)):
        async with looking(known):
            known.changed({7, 8})  # anybody may NOTIFY: a hint alone revokes nothing
            await until(lambda: bool(table.reads))
            assert ended == []
            del table.tokens[7]
            known.changed({7})
            await until(lambda: bool(ended))
    assert set(ended) == {7}


async def test_no_more_tokens_are_remembered_than_the_bound(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KNOWN_MAX", 2)
    table, known = make(stored(1), stored(2), stored(3))
    for token_id in (1, 2, 1, 3, 1):
        assert await known.find(token_id) is not None
    assert table.reads == [{1}, {2}, {3}], "the one that was not used for longest was forgotten"
    await known.find(2)
    assert table.reads[3:] == [{2}]

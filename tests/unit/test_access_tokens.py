"""Access tokens: what they say is believed only from a key of the service; they give no more than their maker has."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from google.protobuf.duration_pb2 import Duration
from webhook.v1 import service_pb2 as pb
from webhook.v1 import token_pb2

from tests.support.tokens import NoTokens
from webhook_grpc.api.access.access_tokens import AccessTokenMethods
from webhook_grpc.api.call import Call
from webhook_grpc.domain.access import Caller, Permission
from webhook_grpc.domain.access_tokens import AccessClaims, claims_in, signed
from webhook_grpc.domain.errors import InvalidArgument, PermissionDenied, Unauthenticated
from webhook_grpc.domain.sealing import Sealer
from webhook_grpc.server.auth import Authenticator
from webhook_grpc.store.clock import DatabaseClock

OLD, NEW, OTHER = bytes(range(32)), bytes(range(1, 33)), bytes(range(2, 34))
NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
CLAIMS: Final = AccessClaims("whk_7", 42, frozenset({"read"}), NOW + timedelta(seconds=60))
READ, MANAGE = token_pb2.ACCESS_PERMISSION_READ, token_pb2.ACCESS_PERMISSION_MANAGE


def caller(*permissions: Permission, **fields: Any) -> Caller:
    return replace(Caller("whk_7", frozenset({42}), frozenset(permissions)), **fields)


async def make(maker: Caller, sealer: Sealer | None = None, **fields: Any) -> token_pb2.AccessToken:
    methods = AccessTokenMethods(DatabaseClock(), sealer or Sealer([NEW]))
    return await methods.create(pb.CreateAccessTokenRequest(**fields), Call("CreateAccessToken", "id", maker))


async def authenticated(token: str, now: datetime, *keys: bytes) -> Caller:
    authenticator = Authenticator([], NoTokens(), Sealer(keys), anonymous_allowed=False)
    return await authenticator.authenticate([f"Bearer {token}"], now)


def test_what_one_key_has_signed_is_taken_by_whoever_has_that_key_among_others() -> None:
    token = signed(CLAIMS, Sealer([OLD])).encode()
    assert claims_in(token, Sealer([OLD])) == CLAIMS
    assert claims_in(token, Sealer([NEW, OLD])) == CLAIMS, "after a change of keys"
    assert claims_in(token, Sealer([NEW])) is None, "when the old key has gone"


def changed(token: str, **claims: Any) -> str:
    """The token with other claims and its own MAC."""
    payload, mac = token.removeprefix("wha_").split(".")
    document = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    other = base64.urlsafe_b64encode(json.dumps(document | claims, separators=(",", ":")).encode()).decode().rstrip("=")
    return f"wha_{other}.{mac}"


CHANGES: Final[list[Callable[[str], str]]] = [
    lambda token: changed(token, customer_id=43),
    lambda token: changed(token, permissions=["manage", "read"]),
    lambda token: changed(token, expires=4_000_000_000),
    lambda token: token[:-1],
    lambda token: token[:-1] + ("A" if token[-1] != "A" else "B"),
    lambda token: token.replace("wha_", "whb_"),
    lambda token: token.replace(".", "_"),
    lambda token: token.partition(".")[0] + ".",
    lambda token: f"wha_{'A' * 1025}.{'A' * 43}",
    lambda token: f"wha_{'A' * 10}.{'A' * 43}",
    lambda _: signed(CLAIMS, Sealer([OTHER])),
]


@pytest.mark.parametrize("change", CHANGES)
async def test_whatever_no_key_has_signed_is_an_invalid_token(change: Callable[[str], str]) -> None:
    token = signed(CLAIMS, Sealer([NEW]))
    assert changed(token) == token
    with pytest.raises(Unauthenticated) as raised:
        await authenticated(change(token), NOW, NEW)
    assert raised.value.reason == "TOKEN_INVALID"
    assert raised.value.message == "the token is not known"


async def test_it_is_good_until_its_second_for_its_customer_and_what_it_says() -> None:
    token = signed(CLAIMS, Sealer([NEW]))

    found = await authenticated(token, NOW + timedelta(seconds=59.999), NEW)

    assert (found.customer_id, found.permissions, found.token_expire_time) == (42, {"read"}, CLAIMS.expire_time)
    with pytest.raises(Unauthenticated) as raised:
        await authenticated(token, NOW + timedelta(seconds=60), NEW)
    assert raised.value.reason == "TOKEN_EXPIRED"


async def test_no_access_token_makes_anybody_an_admin() -> None:
    token = signed(AccessClaims("x", 42, frozenset({"read", "admin"}), CLAIMS.expire_time), Sealer([NEW]))
    assert (await authenticated(token, NOW, NEW)).permissions == {"read"}


# --- making ----------------------------------------------------------------------------------------------------------


async def test_it_may_read_for_an_hour_unless_more_is_asked_for() -> None:
    before = datetime.now(UTC)
    made = await make(caller("read", "manage"), customer_id=42)
    assert list(made.permissions) == [READ]
    life = made.expire_time.ToDatetime(UTC) - before
    assert timedelta(seconds=3590) < life < timedelta(seconds=3660)

    more = await make(caller("read", "manage"), permissions=[MANAGE, READ], life=Duration(seconds=60))
    assert more.customer_id == 42, "a caller of one customer need not name it"
    found = await authenticated(more.bearer_token, before, NEW)
    assert found.permissions == {"read", "manage"}


async def test_it_ends_with_the_token_that_made_it_at_the_latest() -> None:
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=100)
    made = await make(caller("read", token_expire_time=end))
    assert made.expire_time.ToDatetime(UTC) == end


@pytest.mark.parametrize(
    ("maker", "fields", "reason"),
    [
        (caller("read"), {"permissions": [MANAGE]}, "PERMISSION_MISSING"),
        (caller("publish"), {}, "PERMISSION_MISSING"),
        (caller("read"), {"customer_id": 43}, "CUSTOMER_NOT_ALLOWED"),
        (caller("read", may_make_access_tokens=False), {}, "PERMISSION_MISSING"),
    ],
)
async def test_it_gives_no_more_than_its_maker_has(maker: Caller, fields: Any, reason: str) -> None:
    with pytest.raises(PermissionDenied) as raised:
        await make(maker, **fields)
    assert raised.value.reason == reason


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"life": Duration(seconds=59)}, "life"),
        ({"life": Duration(seconds=86_401)}, "life"),
        ({"life": Duration(seconds=-60)}, "life"),
        ({"life": Duration(seconds=60, nanos=-1)}, "life"),
        ({"permissions": [0]}, "permissions"),
        ({"permissions": [READ, 99]}, "permissions"),
        ({"customer_id": -1}, "customer_id"),
    ],
)
async def test_what_is_malformed_is_named(fields: Any, field: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        await make(caller("read"), **fields)
    assert [violation.field for violation in raised.value.violations] == [field]

"""Who calls and what they may do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.tokens import SEALER, NoTokens
from webhook_grpc.domain.access import ANONYMOUS, PERMISSIONS_OF_ROLES, Caller, Role
from webhook_grpc.domain.errors import PermissionDenied, Unauthenticated, Violation
from webhook_grpc.domain.tokens import token_hash
from webhook_grpc.server.auth import Authenticator
from webhook_grpc.settings import ClientSan, Permission, Token

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECRET = "whk_operator"
CUSTOMER = 42


def authenticator(*tokens: Token, anonymous_allowed: bool = False) -> Authenticator:
    """Knows the operator's token and these."""
    configured = [Token(name="operator", sha256=token_hash(SECRET)), *tokens]
    return Authenticator(configured, NoTokens(), SEALER, anonymous_allowed=anonymous_allowed)


def caller_of(auth: Authenticator, *authorization: str | bytes) -> Caller:
    """Who sends these headers."""
    return asyncio.run(auth.authenticate(authorization, NOW))


def reason_of(auth: Authenticator, *authorization: str | bytes) -> str:
    """Why these headers are refused."""
    with pytest.raises(Unauthenticated) as raised:
        caller_of(auth, *authorization)
    assert SECRET not in raised.value.message
    return raised.value.reason


# --- who -------------------------------------------------------------------------------------------------------------


def test_only_the_hash_of_a_token_is_configured() -> None:
    assert token_hash("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    "authorization",
    [
        f"Bearer {SECRET}",
        f"bearer {SECRET}",
        f"BEARER {SECRET}",
        f"Bearer  {SECRET} ",
        f"Bearer {SECRET}".encode(),
    ],
)
def test_a_known_token_names_its_caller(authorization: str | bytes) -> None:
    caller = caller_of(authenticator(), authorization)
    assert caller == Caller("operator", None, frozenset({"read", "publish", "manage"}))


def test_a_caller_is_what_its_token_says() -> None:
    token = Token(name="publisher", sha256=token_hash("other"), customer_id=CUSTOMER, permissions=("publish",))
    caller = caller_of(authenticator(token), "Bearer other")
    assert caller == Caller("publisher", frozenset({CUSTOMER}), frozenset({"publish"}))


def test_a_token_in_another_script_is_known_by_its_bytes() -> None:
    token = Token(name="unusual", sha256=token_hash("schlüssel"))
    assert caller_of(authenticator(token), "Bearer schlüssel").name == "unusual"
    assert caller_of(authenticator(token), "Bearer schlüssel".encode()).name == "unusual"


def test_without_a_token_nobody_is_known() -> None:
    assert reason_of(authenticator()) == "TOKEN_MISSING"


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer  ",
        SECRET,
        f"Basic {SECRET}",
        f"Bearer{SECRET}",
        f"Bearer\t{SECRET}",
        f" Bearer {SECRET}",
        f"Bearer {SECRET}x",
        f"Bearer {SECRET.upper()}",
        f"Bearer {SECRET[:-1]}",
        f"Bearer {SECRET} {SECRET}",
        f"Bearer {token_hash(SECRET)}",  # the hash is no token
        "Bearer schlüssel",
        "Bearer \ud800",
        "Bearer \0",
        b"\xff\xfe",
        b"Bearer \xff\xfe",
        f"Bearer {'x' * 100_000}",
    ],
)
def test_anything_else_is_refused_and_never_an_error_of_ours(authorization: str | bytes) -> None:
    assert reason_of(authenticator(), authorization) == "TOKEN_INVALID"


def test_two_tokens_are_refused_even_when_both_are_known() -> None:
    assert reason_of(authenticator(), f"Bearer {SECRET}", f"Bearer {SECRET}") == "TOKEN_INVALID"


@pytest.mark.parametrize(
    ("seconds", "accepted"),
    [(3600, True), (0.001, True), (0, False), (-0.001, False), (-3600, False)],
)
def test_a_token_is_good_until_the_moment_it_expires(seconds: float, *, accepted: bool) -> None:
    token = Token(name="temporary", sha256=token_hash("other"), expires=NOW + timedelta(seconds=seconds))
    auth = authenticator(token)
    if accepted:
        assert caller_of(auth, "Bearer other").name == "temporary"
    else:
        assert reason_of(auth, "Bearer other") == "TOKEN_EXPIRED"


def test_anonymous_callers_may_do_everything_where_they_are_allowed() -> None:
    auth = authenticator(anonymous_allowed=True)
    assert caller_of(auth) == ANONYMOUS
    assert caller_of(auth, "Bearer whatever") == ANONYMOUS
    for permission in ("read", "publish", "manage", "admin"):
        ANONYMOUS.must_have(permission)


def test_without_any_token_nobody_gets_in() -> None:
    auth = Authenticator([], NoTokens(), SEALER, anonymous_allowed=False)
    assert reason_of(auth) == "TOKEN_MISSING"
    assert reason_of(auth, f"Bearer {SECRET}") == "TOKEN_INVALID"


# --- by a certificate ------------------------------------------------------------------------------------------------

SHOP = ClientSan(name="shop", san="URI:spiffe://example.org/shop", role=Role.PUBLISHER, customer_ids=(CUSTOMER,))
SHOP_BY_DNS = ClientSan(name="shop", san="DNS:shop.example.org", role=Role.PUBLISHER, customer_ids=(CUSTOMER,))
VIEWER = ClientSan(name="viewer", san="DNS:viewer.example.org", role=Role.VIEWER)


def by_certificate(names: Sequence[str], *authorization: str, anonymous_allowed: bool = False) -> Caller:
    """Who calls on a connection whose certificate has these names, with these headers."""
    tokens = [] if anonymous_allowed else [Token(name="operator", sha256=token_hash(SECRET))]
    clients = [] if anonymous_allowed else [SHOP, SHOP_BY_DNS, VIEWER]
    auth = Authenticator(tokens, NoTokens(), SEALER, anonymous_allowed=anonymous_allowed, clients=clients)
    return asyncio.run(auth.authenticate(authorization, NOW, lambda: names))


def test_a_name_in_the_certificate_is_the_caller_of_the_settings() -> None:
    publisher = Caller("shop", frozenset({CUSTOMER}), PERMISSIONS_OF_ROLES[Role.PUBLISHER])
    assert by_certificate([SHOP.san]) == publisher
    assert by_certificate(["DNS:unknown.example.org", SHOP.san]) == publisher
    assert by_certificate([SHOP.san, SHOP_BY_DNS.san]) == publisher, "two names of one caller"
    assert by_certificate([VIEWER.san]) == Caller("viewer", None, PERMISSIONS_OF_ROLES[Role.VIEWER])


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ([], "names no caller"),
        (["DNS:unknown.example.org"], "names no caller"),
        (["DNS:*.example.org", "DNS:example.org", "DNS:shop.example.org.evil"], "names no caller"),
        (["URI:shop.example.org", "DNS:spiffe://example.org/shop"], "names no caller"),
        ([f"{SHOP.san}/", SHOP.san.upper(), f"{SHOP.san}\0"], "names no caller"),
        ([SHOP.san, VIEWER.san], "names several callers"),
    ],
)
def test_a_certificate_that_does_not_name_one_caller_is_none(names: Sequence[str], says: str) -> None:
    with pytest.raises(Unauthenticated, match=says) as raised:
        by_certificate(names)
    assert raised.value.reason == "TOKEN_MISSING"
    assert not any(name in raised.value.message for name in names)


def test_where_a_token_is_sent_nobody_looks_at_the_certificate() -> None:
    assert by_certificate([SHOP.san], f"Bearer {SECRET}").name == "operator"
    assert by_certificate([], f"Bearer {SECRET}").name == "operator"
    for bad in (["Bearer nobody"], [""], [f"Bearer {SECRET}"] * 2):
        with pytest.raises(Unauthenticated) as raised:
            by_certificate([SHOP.san], *bad)
        assert raised.value.reason == "TOKEN_INVALID"


def test_where_nobody_is_configured_a_certificate_changes_nothing() -> None:
    assert by_certificate([SHOP.san], anonymous_allowed=True) == ANONYMOUS


# --- what ------------------------------------------------------------------------------------------------------------

ALL: list[Permission] = ["read", "publish", "manage", "admin"]


@pytest.mark.parametrize("permission", ALL)
def test_a_caller_may_do_what_it_has_the_permission_for_and_nothing_else(permission: Permission) -> None:
    caller = Caller("x", None, frozenset({permission}))
    caller.must_have(permission)
    for other in ALL:
        if other != permission:
            with pytest.raises(PermissionDenied) as raised:
                caller.must_have(other)
            assert raised.value.reason == "PERMISSION_MISSING"
            assert other in raised.value.message


def test_a_caller_without_permissions_may_do_nothing() -> None:
    for permission in ALL:
        with pytest.raises(PermissionDenied):
            Caller("x", None, frozenset()).must_have(permission)


# --- for whom --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "requested", "customer_id", "at_fault"),
    [
        (None, CUSTOMER, CUSTOMER, False),
        (None, 0, 0, True),
        (None, -1, -1, True),
        (CUSTOMER, CUSTOMER, CUSTOMER, False),
        (CUSTOMER, 0, CUSTOMER, False),
        (CUSTOMER, -1, -1, True),
    ],
)
def test_a_request_is_about_the_customer_that_it_names_or_that_the_token_implies(
    own: int | None, requested: int, customer_id: int, *, at_fault: bool
) -> None:
    violations: list[Violation] = []
    caller = Caller("x", None if own is None else frozenset({own}), frozenset(ALL))
    assert caller.customer(requested, "webhook.customer_id", violations) == customer_id
    assert [violation.field for violation in violations] == ["webhook.customer_id"] * at_fault


@pytest.mark.parametrize(
    ("own", "requested", "customer_id"),
    [(None, 0, None), (None, CUSTOMER, CUSTOMER), (CUSTOMER, 0, CUSTOMER), (CUSTOMER, CUSTOMER, CUSTOMER)],
)
def test_only_a_token_of_all_customers_can_ask_for_all_of_them(
    own: int | None, requested: int, customer_id: int | None
) -> None:
    violations: list[Violation] = []
    caller = Caller("x", None if own is None else frozenset({own}), frozenset(ALL))
    assert caller.customer_or_all(requested, "customer_id", violations) == customer_id
    assert violations == []


def test_a_token_of_one_customer_gets_nothing_of_another() -> None:
    caller = Caller("x", frozenset({CUSTOMER}), frozenset(ALL))
    for ask in (caller.customer, caller.customer_or_all):
        with pytest.raises(PermissionDenied) as raised:
            ask(CUSTOMER + 1, "customer_id", [])
        assert raised.value.reason == "CUSTOMER_NOT_ALLOWED"


def test_a_token_of_some_customers_serves_each_of_them_and_must_name_one() -> None:
    caller = Caller("x", frozenset({CUSTOMER, CUSTOMER + 1}), frozenset(ALL), default_customer_id=CUSTOMER + 2)
    for ask in (caller.customer, caller.customer_or_all):
        assert [ask(customer_id, "customer_id", []) for customer_id in (CUSTOMER, CUSTOMER + 1)] == [
            CUSTOMER,
            CUSTOMER + 1,
        ]
        violations: list[Violation] = []
        ask(0, "customer_id", violations)
        assert [violation.field for violation in violations] == ["customer_id"]
        with pytest.raises(PermissionDenied):
            ask(CUSTOMER + 2, "customer_id", [])
    with pytest.raises(PermissionDenied):
        caller.must_be_for_all_customers()


def test_a_negative_customer_is_at_fault_where_all_may_be_asked_for() -> None:
    violations: list[Violation] = []
    Caller("x", None, frozenset(ALL)).customer_or_all(-1, "customer_id", violations)
    assert [violation.field for violation in violations] == ["customer_id"]

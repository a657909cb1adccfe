"""Tokens: create, list, revoke. Whoever is bound to some customers deals with tokens for no others."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from google.protobuf.empty_pb2 import Empty
from webhook.v1 import service_pb2, token_pb2

from webhook_grpc.api.call import Call, refuse_if, set_fields
from webhook_grpc.api.messages import reading, times
from webhook_grpc.api.messages.paging import PageToken, fitting, page_size
from webhook_grpc.domain import tokens as domain
from webhook_grpc.domain import validation
from webhook_grpc.domain.access import PERMISSIONS_OF_ROLES, Caller, Role
from webhook_grpc.domain.errors import PermissionDenied, Violation
from webhook_grpc.domain.ids import INT64_MAX
from webhook_grpc.domain.tokens import StoredToken, TokenQuota, TokenSpec
from webhook_grpc.hub.hints import Hints
from webhook_grpc.store.clock import DatabaseClock
from webhook_grpc.store.db import Database
from webhook_grpc.store.registry import tokens as store

TOKEN_ROLES: Final = {
    Role.ADMIN: token_pb2.TOKEN_ROLE_ADMIN,
    Role.PUBLISHER: token_pb2.TOKEN_ROLE_PUBLISHER,
    Role.VIEWER: token_pb2.TOKEN_ROLE_VIEWER,
}
_ROLE_OF: Final[Mapping[int, Role]] = {number: role for role, number in TOKEN_ROLES.items()}


class TokenMethods:
    """The calls that manage tokens."""

    def __init__(
        self,
        database: Database,
        clock: DatabaseClock,
        hints: Hints,
        tokens_max: int,
        tokens_per_customer_max: int,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._database = database
        self._clock = clock
        self._hints = hints
        self._tokens_max = tokens_max
        self._tokens_per_customer_max = tokens_per_customer_max
        self._entropy = entropy

    async def create(self, request: service_pb2.CreateTokenRequest, call: Call) -> token_pb2.Token:
        """Makes a token, and shows it once."""
        violations = list[Violation]()
        spec = _read_spec(request.token, self._clock.now(), violations)
        refuse_if(violations)
        _refuse_more_than(call.caller, spec)
        secret = domain.secret_of(self._entropy(domain.SECRET_BYTES))
        sha256, audit = domain.hash_of(secret.encode("ascii")), call.audit(fields=set_fields(request.token))
        quota = TokenQuota(self._tokens_max, self._tokens_per_customer_max, call.caller.customer_ids)
        made = await store.create(self._database, spec, sha256, quota, audit=audit)
        message = token_message(made)
        message.bearer_token = domain.token_text(made.token_id, secret)
        return message

    async def list(self, request: service_pb2.ListTokensRequest, call: Call) -> service_pb2.ListTokensResponse:
        """Lists tokens, newest first."""
        violations = list[Violation]()
        size = page_size(request.page_size, violations)
        refuse_if(violations)
        page = PageToken(request, ">q")
        key = page.read()
        before = int(key[0]) if key else INT64_MAX
        found = await store.list_page(self._database, call.caller.customer_ids, before, size + 1)
        listed = await fitting(found[:size], token_message)
        return service_pb2.ListTokensResponse(
            tokens=listed,
            next_page_token="" if len(listed) == len(found) else page.after(listed[-1].token_id),
        )

    async def revoke(self, request: service_pb2.RevokeTokenRequest, call: Call) -> Empty:
        """Deletes a token, and reports that to every process."""
        violations = list[Violation]()
        token_id = reading.read_id(request.token_id, "token_id", violations)
        refuse_if(violations)
        await store.delete(self._database, call.caller.customer_ids, token_id, audit=call.audit(f"token:{token_id}"))
        self._hints.token_revoked(token_id)
        return Empty()


def token_message(token: StoredToken) -> token_pb2.Token:
    """Returns a token as callers see it: without its secret, which nobody knows any more."""
    spec = token.spec
    return token_pb2.Token(
        token_id=token.token_id,
        role=TOKEN_ROLES[spec.role],
        customer_ids=sorted(spec.customer_ids or ()),
        all_customers=spec.customer_ids is None,
        description=spec.description,
        expire_time=None if spec.expire_time is None else times.timestamp(spec.expire_time),
        create_time=times.timestamp(token.create_time),
        last_use_time=None if token.last_use_time is None else times.timestamp(token.last_use_time),
    )


def _read_spec(message: token_pb2.Token, now: datetime, violations: list[Violation]) -> TokenSpec:
    role = _ROLE_OF.get(message.role)
    if role is None:
        violations.append(Violation("token.role", "must be a value of the enum other than UNSPECIFIED"))
    if (problem := validation.text_problem(message.description, domain.DESCRIPTION_LENGTH_MAX)) is not None:
        violations.append(Violation("token.description", problem))
    return TokenSpec(
        role or Role.VIEWER,
        _read_customers(message, violations),
        message.description,
        _read_expiry(message, now, violations),
    )


def _read_customers(message: token_pb2.Token, violations: list[Violation]) -> frozenset[int] | None:
    field = "token.customer_ids"
    if message.all_customers == bool(message.customer_ids):
        violations.append(Violation(field, "must name customers, or all_customers must be set, and not both"))
    elif len(message.customer_ids) > domain.CUSTOMERS_MAX:
        violations.append(Violation(field, f"must have at most {domain.CUSTOMERS_MAX}"))
    elif any(customer_id <= 0 for customer_id in message.customer_ids):
        violations.append(Violation(field, "must be positive"))
    return None if message.all_customers else frozenset(message.customer_ids)


def _read_expiry(message: token_pb2.Token, now: datetime, violations: list[Violation]) -> datetime | None:
    if not message.HasField("expire_time"):
        return None
    expire_time = times.read_time(message.expire_time, "token.expire_time", violations)
    if expire_time <= now and not violations:
        violations.append(Violation("token.expire_time", "must be in the future"))
    return expire_time


def _refuse_more_than(caller: Caller, spec: TokenSpec) -> None:
    """Raises PermissionDenied unless the caller may do all that the token would be for, for all of its customers."""
    for permission in sorted(PERMISSIONS_OF_ROLES[spec.role]):
        caller.must_have(permission)
    if spec.customer_ids is None:
        caller.must_be_for_all_customers()
        return
    for customer_id in sorted(spec.customer_ids):
        if not caller.may_act_for(customer_id):
            raise PermissionDenied("CUSTOMER_NOT_ALLOWED", f"the token is not for customer {customer_id}")

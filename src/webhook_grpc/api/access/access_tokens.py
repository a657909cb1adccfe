"""Access tokens: signed, for one customer, for a short time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Final

from webhook.v1 import service_pb2, token_pb2

from webhook_grpc.api.call import Call, refuse_if
from webhook_grpc.api.messages import times
from webhook_grpc.domain import access_tokens as domain
from webhook_grpc.domain.access import Permission
from webhook_grpc.domain.access_tokens import AccessClaims
from webhook_grpc.domain.errors import PermissionDenied, Violation
from webhook_grpc.domain.sealing import Sealer
from webhook_grpc.store.clock import DatabaseClock

_NUMBER_OF: Final = {
    "read": token_pb2.ACCESS_PERMISSION_READ,
    "publish": token_pb2.ACCESS_PERMISSION_PUBLISH,
    "manage": token_pb2.ACCESS_PERMISSION_MANAGE,
}
_GIVABLE: Final[tuple[Permission, ...]] = ("read", "publish", "manage")
_PERMISSION_OF: Final[Mapping[int, Permission]] = {_NUMBER_OF[permission]: permission for permission in _GIVABLE}


class AccessTokenMethods:
    """The call that makes access tokens."""

    def __init__(self, clock: DatabaseClock, sealer: Sealer) -> None:
        self._clock = clock
        self._sealer = sealer

    async def create(self, request: service_pb2.CreateAccessTokenRequest, call: Call) -> token_pb2.AccessToken:
        """Signs a token that may do no more than its maker, for no longer."""
        caller, violations = call.caller, list[Violation]()
        customer_id = call.customer(request.customer_id, "customer_id", violations)
        permissions = _read_permissions(request.permissions, violations)
        life_seconds = _read_life(request, violations)
        refuse_if(violations)
        if not caller.may_make_access_tokens:
            raise PermissionDenied("PERMISSION_MISSING", "an access token makes no further ones")
        for permission in sorted(permissions):
            caller.must_have(permission)
        expire_time = (self._clock.now() + timedelta(seconds=life_seconds)).replace(microsecond=0)
        if caller.token_expire_time is not None:
            expire_time = min(expire_time, caller.token_expire_time.replace(microsecond=0))
        claims = AccessClaims(caller.name, customer_id, permissions, expire_time)
        return token_pb2.AccessToken(
            bearer_token=domain.signed(claims, self._sealer),
            customer_id=customer_id,
            permissions=sorted(_NUMBER_OF[permission] for permission in permissions),
            expire_time=times.timestamp(expire_time),
        )


def _read_permissions(values: Iterable[int], violations: list[Violation]) -> frozenset[Permission]:
    given = set(values)
    if not given <= _PERMISSION_OF.keys():
        violations.append(Violation("permissions", "must be values of the enum other than UNSPECIFIED"))
    return frozenset(_PERMISSION_OF[value] for value in given & _PERMISSION_OF.keys()) or frozenset({"read"})


def _read_life(request: service_pb2.CreateAccessTokenRequest, violations: list[Violation]) -> float:
    if not request.HasField("life"):
        return domain.LIFE_SECONDS
    seconds = times.seconds_of(request.life)
    if not domain.LIFE_SECONDS_MIN <= seconds <= domain.LIFE_SECONDS_MAX:
        violations.append(Violation("life", "must be between 60 and 86400 seconds"))
    return seconds

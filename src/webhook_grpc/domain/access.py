"""Who calls, and what they may do."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal

from .errors import PermissionDenied, Violation
from .record import record

Permission = Literal["read", "publish", "manage", "admin"]

ALL_PERMISSIONS: Final[frozenset[Permission]] = frozenset({"read", "publish", "manage", "admin"})


class Role(StrEnum):
    """What the tokens of the database are for."""

    ADMIN = "admin"
    PUBLISHER = "publisher"
    VIEWER = "viewer"


# What each role may do. Which permission a method takes is in METHODS (api/methods.py).
PERMISSIONS_OF_ROLES: Final[Mapping[Role, frozenset[Permission]]] = {
    Role.ADMIN: ALL_PERMISSIONS,
    Role.PUBLISHER: frozenset({"publish"}),
    Role.VIEWER: frozenset({"read"}),
}


def name_of(kind: str, value: str) -> str:
    """Returns a name in a certificate as it is compared: `URI:spiffe://example.org/shop`, `DNS:shop.example.org`.

    The case of a DNS name says nothing (RFC 4343).
    """
    return f"{kind}:{value.lower() if kind == 'DNS' else value}"


@record
class Caller:
    """An authenticated caller. `customer_ids` None: the caller acts for all customers."""

    name: str
    customer_ids: frozenset[int] | None
    permissions: frozenset[Permission]
    default_customer_id: int | None = None  # of a caller of all customers who names none
    token_expire_time: datetime | None = None  # None: never
    has_token: bool = True  # or a certificate that names it
    token_id: int | None = None  # of a token that the database keeps
    may_make_access_tokens: bool = True  # an access token may not, or it would never end
    parent: str = ""  # of an access token: the name of the caller that it was made by

    @property
    def customer_id(self) -> int | None:
        """Returns the customer that the caller is bound to; None if these are several, or all."""
        if self.customer_ids is None or len(self.customer_ids) != 1:
            return None
        return next(iter(self.customer_ids))

    @property
    def may_see_callers(self) -> bool:
        """Returns whether the caller may learn who made which call, as from the audit."""
        return "admin" in self.permissions

    def may_act_for(self, customer_id: int) -> bool:
        """Returns whether this is one of the caller's customers."""
        return self.customer_ids is None or customer_id in self.customer_ids

    def customer_of(self, named: int) -> int | None:
        """Returns the customer that a call counts for: the caller's own, else the one it names (0: none).

        None if there is neither, or if the caller may not act for it: a call never counts for somebody else.
        """
        if self.customer_id is not None:
            return self.customer_id
        customer_id = named or self.default_customer_id
        return customer_id if customer_id is not None and self.may_act_for(customer_id) else None

    def line_of(self, customer_id: int | None) -> Hashable:
        """Returns in whose turn a call waits: that of its customer; None: of all that the caller is for, or its own."""
        return customer_id or self.customer_ids or self.name

    def must_have(self, permission: Permission) -> None:
        """Raises PermissionDenied unless the caller has this permission."""
        if permission not in self.permissions:
            raise PermissionDenied("PERMISSION_MISSING", f"the token lacks the permission `{permission}`")

    def must_be_for_all_customers(self) -> None:
        """Raises PermissionDenied if the caller is bound to some customers."""
        if self.customer_ids is not None:
            raise PermissionDenied("CUSTOMER_NOT_ALLOWED", "this takes a token for all customers")

    def customer(self, requested: int, field: str, violations: list[Violation]) -> int:
        """Returns the customer that a request is about: the one it names, else the one the caller is bound to.

        Adds a violation if there is neither. Raises PermissionDenied if the caller is bound to other customers.
        """
        own = self.customer_id or (self.default_customer_id if self.customer_ids is None else None)
        if requested < 0:
            violations.append(Violation(field, "must be positive"))
        elif requested == 0 and own is None:
            violations.append(Violation(field, "must be set: the caller is not bound to one customer"))
        elif requested and not self.may_act_for(requested):
            raise PermissionDenied("CUSTOMER_NOT_ALLOWED", f"the token is not for customer {requested}")
        return requested or own or 0

    def customer_or_all(self, requested: int, field: str, violations: list[Violation]) -> int | None:
        """Returns the same, but None, which means all customers, where the request names none and the caller may."""
        if requested == 0 and self.customer_ids is None:
            return None
        return self.customer(requested, field, violations)


ANONYMOUS = Caller("anonymous", None, ALL_PERMISSIONS, has_token=False)

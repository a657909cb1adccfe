"""Who calls, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from .errors import PermissionDenied, Violation

Permission = Literal["read", "publish", "manage"]

_ALL: frozenset[Permission] = frozenset({"read", "publish", "manage"})


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller. `customer_id` None: the caller acts for all customers."""

    name: str
    customer_id: int | None
    permissions: frozenset[Permission]
    default_customer_id: int | None = None  # of a caller of all customers who names none
    token_expire_time: datetime | None = None  # None: never
    has_token: bool = True

    def must_have(self, permission: Permission) -> None:
        """Raises PermissionDenied unless the caller has this permission."""
        if permission not in self.permissions:
            raise PermissionDenied("PERMISSION_MISSING", f"the token lacks the permission `{permission}`")

    def must_be_for_all_customers(self) -> None:
        """Raises PermissionDenied if the caller is bound to one customer."""
        if self.customer_id is not None:
            raise PermissionDenied("CUSTOMER_NOT_ALLOWED", "this takes a token for all customers")

    def customer(self, requested: int, field: str, violations: list[Violation]) -> int:
        """Returns the customer that a request is about: the one it names, else the one the caller is bound to.

        Adds a violation if there is neither. Raises PermissionDenied if the caller is bound to another customer.
        """
        if requested < 0:
            violations.append(Violation(field, "must be positive"))
        elif requested == 0 and self.customer_id is None and self.default_customer_id is None:
            violations.append(Violation(field, "must be set: the caller is not bound to one customer"))
        elif requested and self.customer_id is not None and requested != self.customer_id:
            raise PermissionDenied("CUSTOMER_NOT_ALLOWED", f"the token is not for customer {requested}")
        return requested or self.customer_id or self.default_customer_id or 0

    def customer_or_all(self, requested: int, field: str, violations: list[Violation]) -> int | None:
        """Returns the same, but None, which means all customers, where the request names none and the caller may."""
        if requested == 0 and self.customer_id is None:
            return None
        return self.customer(requested, field, violations)


ANONYMOUS = Caller("anonymous", None, _ALL, has_token=False)

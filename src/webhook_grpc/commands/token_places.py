"""Where `webhook-grpc tokens` finds tokens: at a server over HTTP, or in the database without any server."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable, Generator, Iterable
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar
from urllib.parse import quote

import orjson

from webhook_grpc.domain import tokens as domain
from webhook_grpc.domain.audit import AuditEntry
from webhook_grpc.domain.errors import WebhookError
from webhook_grpc.domain.ids import INT64_MAX
from webhook_grpc.domain.tokens import StoredToken, TokenQuota, TokenSpec
from webhook_grpc.store.connection.placing import Place
from webhook_grpc.store.db import Database
from webhook_grpc.store.registry import tokens as store

from .database import run_in_database

if TYPE_CHECKING:  # no other command needs a client of HTTP
    from urllib.error import HTTPError

_Result = TypeVar("_Result")
_PAGE: Final = 1000
_SECONDS_MAX: Final = 30.0
_QUOTA: Final = TokenQuota(1_000_000, 1_000_000)  # whoever reaches the database needs none
_ANSWER_BYTES_MAX: Final = 8_000_000


class TokensFailed(Exception):
    """A server or the database refused; the message says why."""


class TokenPlace(Protocol):
    """Where tokens are. Each method raises TokensFailed."""

    def create(self, spec: TokenSpec) -> str:
        """Makes a token, and returns it as callers send it."""
        ...

    def tokens(self) -> Iterable[dict[str, Any]]:
        """Returns all tokens, newest first, as the HTTP API shows them."""
        ...

    def revoke(self, token_id: int) -> None:
        """Deletes a token."""
        ...


class InDatabase:
    """The table itself."""

    def __init__(self, place: Place) -> None:
        self._place = place

    @classmethod
    @contextmanager
    def opened(cls, database: Callable[[], AbstractContextManager[Place]]) -> Generator[TokenPlace]:
        """Opens the database, and closes it when the block ends."""
        with database() as place:
            yield cls(place)

    def create(self, spec: TokenSpec) -> str:
        """Makes a token, and returns it as callers send it."""
        secret = domain.secret_of(os.urandom(domain.SECRET_BYTES))
        sha256 = domain.hash_of(secret.encode("ascii"))
        audit = _audit("CreateToken")
        made = self._run(lambda database: store.create(database, spec, sha256, _QUOTA, audit=audit))
        return domain.token_text(made.token_id, secret)

    def tokens(self) -> Iterable[dict[str, Any]]:
        """Returns all tokens, newest first."""
        return self._run(_all_tokens)

    def revoke(self, token_id: int) -> None:
        """Deletes a token. Servers notice by themselves within two seconds."""
        audit = _audit("RevokeToken", f"token:{token_id}")
        self._run(lambda database: store.delete(database, None, token_id, audit=audit))

    def _run(self, act: Callable[[Database], Awaitable[_Result]]) -> _Result:
        try:
            return run_in_database(self._place, act)
        except WebhookError as error:
            raise TokensFailed(error.message) from None


def _audit(method: str, *resources: str) -> AuditEntry:
    """Returns the entry of what is done in the database without a call: nobody knows by whom."""
    return AuditEntry(method, "webhook-grpc tokens --database", None, "", "", None, resources)


async def _all_tokens(database: Database) -> list[dict[str, Any]]:
    found, before = list[dict[str, Any]](), INT64_MAX
    while page := await store.list_page(database, None, before, _PAGE):
        found += map(_shown, page)
        before = page[-1].token_id
    return found


def _shown(token: StoredToken) -> dict[str, Any]:
    spec = token.spec
    times = {
        "expire_time": spec.expire_time,
        "create_time": token.create_time,
        "last_use_time": token.last_use_time,
    }
    return {
        "token_id": token.token_id,
        "role": spec.role.value,
        "customer_ids": sorted(spec.customer_ids or ()),
        "all_customers": spec.customer_ids is None,
        "description": spec.description,
        **{name: moment for name, moment in times.items() if moment is not None},
    }


class OverHttp:
    """A server's HTTP API."""

    def __init__(self, url: str, own_token: str | None) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Content-Type": "application/json"}
        if own_token is not None:
            self._headers["Authorization"] = f"Bearer {own_token}"

    @classmethod
    @contextmanager
    def opened(cls, url: str, own_token: str | None) -> Generator[TokenPlace]:
        """Returns the place; nothing is connected before it is needed."""
        yield cls(url, own_token)

    def create(self, spec: TokenSpec) -> str:
        """Makes a token, and returns it as callers send it."""
        body = {
            "role": spec.role.value,
            "customer_ids": sorted(spec.customer_ids or ()),
            "all_customers": spec.customer_ids is None,
            "description": spec.description,
            **({} if spec.expire_time is None else {"expire_time": spec.expire_time}),
        }
        return str(self._call("POST", "/v1/tokens", body)["bearer_token"])

    def tokens(self) -> Iterable[dict[str, Any]]:
        """Returns all tokens that the caller may see, newest first."""
        page_token = ""
        while True:
            page = self._call("GET", f"/v1/tokens?page_size={_PAGE}&page_token={quote(page_token)}")
            yield from page.get("tokens", ())
            page_token = page.get("next_page_token", "")
            if not page_token:
                return

    def revoke(self, token_id: int) -> None:
        """Deletes a token."""
        self._call("DELETE", f"/v1/tokens/{token_id}")

    def _call(self, verb: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        from http.client import HTTPException  # noqa: PLC0415 - only a command that calls a server needs it
        from urllib.error import HTTPError  # noqa: PLC0415 - only a command that calls a server needs it
        from urllib.request import Request  # noqa: PLC0415 - only a command that calls a server needs it

        from .no_redirects import OPENER  # noqa: PLC0415 - only a command that calls a server needs it

        if not self._url.startswith(("http://", "https://")):
            raise TokensFailed(f"{self._url} is not an http or https URL")
        data = None if body is None else orjson.dumps(body)
        request = Request(self._url + path, data, self._headers, method=verb)  # noqa: S310 - checked
        try:
            with OPENER.open(request, timeout=_SECONDS_MAX) as response:
                return orjson.loads(response.read(_ANSWER_BYTES_MAX) or b"{}")
        except HTTPError as error:
            raise TokensFailed(_detail(error)) from None
        except (OSError, ValueError, HTTPException) as error:
            raise TokensFailed(f"{self._url} did not answer: {error}") from None


def _detail(error: HTTPError) -> str:
    """Returns what a problem document says (RFC 9457), else the status."""
    if 300 <= error.code < 400:
        return f"the server answered {error.code}, which leads elsewhere; name the URL of the service itself"
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(orjson.loads(error.read(_ANSWER_BYTES_MAX))["detail"])
    return f"the server answered {error.code}"

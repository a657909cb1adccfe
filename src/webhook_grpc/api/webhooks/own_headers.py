"""A webhook's own headers as callers give them: sealed before they are stored, kept where HIDDEN is sent back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from webhook_grpc.domain import own_headers
from webhook_grpc.domain.errors import Violation
from webhook_grpc.domain.model import Webhook, WebhookSpec
from webhook_grpc.domain.sealing import ENTROPY_BYTES, KeyMissing, Sealer, UnsealError
from webhook_grpc.store.db import Database
from webhook_grpc.store.schema.versions import WITH_SEALED_HEADERS, count_older

from .secrets import sealing_key_missing


class OwnHeaders:
    """Seals and opens values of headers for the calls that create and change webhooks."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    def replaced(self, given: Mapping[str, str], current: Webhook, violations: list[Violation]) -> Mapping[str, str]:
        """Returns the headers that a caller gives, HIDDEN replaced by the webhook's value. Raises Unavailable.

        Values that were changed in the database, so that no key opens them, count as missing.
        """
        if not own_headers.is_sealed(given):
            return given
        try:
            before = own_headers.opened(self._sealer, current)
        except KeyMissing as error:
            raise sealing_key_missing(current.webhook_id, "the values of the headers", error) from None
        except UnsealError:
            before = {}
        return own_headers.replaced(given, before, violations)

    async def sealed(self, spec: WebhookSpec, customer_id: int, webhook_id: int) -> WebhookSpec:
        """Returns the spec with its headers sealed, as they are stored. Raises Unavailable.

        While a process of an older version runs, which would send no value that is sealed, they stay in the clear until
        the janitor seals them. What is sealed already stays as it is.
        """
        if not own_headers.is_clear(spec.headers):
            return spec if spec.headers else replace(spec, sealed_headers=None)
        if own_headers.is_sealed(spec.headers):
            return spec
        if await count_older(self._database, WITH_SEALED_HEADERS):
            return replace(spec, sealed_headers=None)
        entropy = os.urandom(ENTROPY_BYTES)
        sealed = own_headers.sealed(self._sealer, spec.headers, customer_id, webhook_id, entropy)
        return replace(spec, headers=own_headers.names_only(spec.headers), sealed_headers=sealed)

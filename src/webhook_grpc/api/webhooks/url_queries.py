"""The query of a webhook's URL: sealed before it is stored, opened for callers, who see the URL as they gave it."""

from __future__ import annotations

import os
from dataclasses import replace

from webhook_grpc.domain import url_queries
from webhook_grpc.domain.model import Webhook, WebhookSpec
from webhook_grpc.domain.sealing import ENTROPY_BYTES, Sealer, UnsealError
from webhook_grpc.store.db import Database
from webhook_grpc.store.schema.versions import may_seal_queries


async def sealed(
    database: Database, sealer: Sealer, spec: WebhookSpec, customer_id: int, webhook_id: int
) -> WebhookSpec:
    """Returns the spec with the query of its URL sealed, as it is stored. Raises Unavailable.

    While a process of an older version runs, or may be started again, the query stays in the clear until the janitor
    seals it: that process would not call such a URL. What is sealed already stays as it is.
    """
    if not url_queries.is_clear(spec.url):
        return spec if url_queries.is_sealed(spec.url) else replace(spec, sealed_query=None)
    if not await may_seal_queries(database):
        return replace(spec, sealed_query=None)
    query = url_queries.sealed(sealer, spec.url, customer_id, webhook_id, os.urandom(ENTROPY_BYTES))
    return replace(spec, url=url_queries.hidden(spec.url), sealed_query=query)


def shown(sealer: Sealer, webhook: Webhook) -> Webhook:
    """Returns the webhook with its URL as its caller gave it; with HIDDEN if no key here opens the query."""
    try:
        return replace(webhook, url=url_queries.opened(sealer, webhook)) if webhook.sealed_query else webhook
    except UnsealError:
        return webhook

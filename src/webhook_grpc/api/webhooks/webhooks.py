"""Webhooks: create, get, list, update, delete, pause, resume."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final

from google.protobuf.empty_pb2 import Empty
from webhook.v1 import service_pb2, webhook_pb2

from webhook_grpc.api.call import Call, refuse_if, set_fields
from webhook_grpc.api.messages import reading, words, writing
from webhook_grpc.api.messages.masks import Updatable
from webhook_grpc.api.messages.paging import PageToken, fitting, page_size
from webhook_grpc.domain import matching, own_headers, signing, url_queries, validation
from webhook_grpc.domain.egress import EgressPolicy
from webhook_grpc.domain.errors import Violation
from webhook_grpc.domain.ids import INT64_MAX
from webhook_grpc.domain.model import Webhook, WebhookSpec, WebhookStatus
from webhook_grpc.domain.sealing import ENTROPY_BYTES, Sealer
from webhook_grpc.hub.hints import Hints
from webhook_grpc.hub.type_rules import EventTypes
from webhook_grpc.store.db import Database
from webhook_grpc.store.registry import webhooks as store
from webhook_grpc.store.registry.event_types import event_type_archived, event_type_unknown

from . import url_queries as queries
from .own_headers import OwnHeaders
from .secrets import new_secret, opened
from .signing_keys import NewSigningKeys

# The fields that UpdateWebhook may change, each with the attribute of WebhookSpec that it sets.
_CHANGEABLE: Final = {
    "name": "name",
    "url": "url",
    "events": "events",
    "retry_policy": "retry_delays_seconds",
    "timeout": "timeout_seconds",
    "max_in_flight": "max_in_flight",
    "rate_limit_per_second": "rate_limit_per_second",
    "headers": "headers",
    "labels": "labels",
    "description": "description",
    "signature_type": "signature_type",
}
_OUTPUT_ONLY: Final = (
    "webhook_id",
    "status",
    "status_reason",
    "secret_hint",
    "secret_overlap_end_time",
    "create_time",
    "update_time",
    "disable_time",
    "etag",
)
# A mask may name the customer: a gateway makes such masks of the body of a PATCH. That changes nothing, because
# the webhook was looked up by its customer.
_UPDATABLE: Final = Updatable(
    "webhook", "a webhook", _CHANGEABLE, (*_OUTPUT_ONLY, "customer_id"), refused_when_set=("secret",)
)


class WebhookMethods:
    """The calls that manage webhooks."""

    def __init__(
        self,
        database: Database,
        sealer: Sealer,
        hints: Hints,
        event_types: EventTypes,
        egress_policy: EgressPolicy,
        webhooks_max: int,
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._hints = hints
        self._event_types = event_types
        self._egress_policy = egress_policy
        self._webhooks_max = webhooks_max
        self._own_headers = OwnHeaders(database, sealer)
        self._signing_keys = NewSigningKeys(database, sealer)

    async def create(self, request: service_pb2.CreateWebhookRequest, call: Call) -> webhook_pb2.Webhook:
        """Registers a webhook; the response has the secret if the service made it."""
        message, violations = request.webhook, list[Violation]()
        customer_id = call.customer(message.customer_id, "webhook.customer_id", violations)
        request_id = reading.read_request_id(request.request_id, violations)
        spec = reading.webhook_spec(message, violations)
        own_headers.replaced(spec.headers, {}, violations)
        if violation := validation.secret_violation(message.secret):
            violations.append(violation)
        reading.read_url(message.url, self._egress_policy, violations)
        refuse_if(violations)

        webhook_id = await store.next_id(self._database)
        secret = message.secret or new_secret()
        stored = await self._sealed(spec, customer_id, webhook_id)
        is_query_clear = url_queries.is_clear(stored.url)
        new = store.NewWebhook(
            webhook_id=webhook_id,
            customer_id=customer_id,
            spec=stored,
            sealed_secret=self._sealer.seal(secret, customer_id, webhook_id, os.urandom(ENTROPY_BYTES)),
            secret_hint=signing.hint_of(secret),
            secret_generated=not message.secret,
            request_id=request_id,
            fingerprints=_fingerprints(message, customer_id, self._sealer, is_query_clear) if request_id else (),
        )
        created = await store.created_before(self._database, new)
        if created is None:
            await self._refuse_unusable_types(spec.events)
            audit = call.audit(f"webhook:{webhook_id}", fields=set_fields(message))
            new = replace(new, signing_key=await self._signing_keys.wanted_by(spec, customer_id))
            created = await store.create(self._database, new, self._webhooks_max, audit=audit)
        return self._shown(created.webhook, self._secret_to_show(created))

    async def _sealed(
        self, spec: WebhookSpec, customer_id: int, webhook_id: int, *, with_url: bool = True
    ) -> WebhookSpec:
        """Returns the spec as it is stored; without `with_url` its URL stays as it is there. Raises Unavailable."""
        with_headers = await self._own_headers.sealed(spec, customer_id, webhook_id)
        if not with_url:
            return with_headers
        return await queries.sealed(self._database, self._sealer, with_headers, customer_id, webhook_id)

    def _shown(self, webhook: Webhook, secret: str = "") -> webhook_pb2.Webhook:
        """Returns the webhook as callers see it, with the secret if they are to know it."""
        return writing.webhook_message(queries.shown(self._sealer, webhook), secret)

    def _secret_to_show(self, created: store.Created) -> str:
        """Returns the secret if the service made it, else nothing.

        A repeated call gets the secret too, because the response to the first call may have been lost.
        """
        if not created.secret_generated:
            return ""
        return opened(self._sealer, created.webhook)

    async def get(self, request: service_pb2.GetWebhookRequest, call: Call) -> webhook_pb2.Webhook:
        """Returns one webhook."""
        return self._shown(await self._named(request, call))

    async def list(self, request: service_pb2.ListWebhooksRequest, call: Call) -> service_pb2.ListWebhooksResponse:
        """Lists webhooks, newest first."""
        violations = list[Violation]()
        customer_id = call.customer_or_all(request.customer_id, "customer_id", violations)
        size = page_size(request.page_size, violations)
        statuses = words.read_webhook_statuses(request.statuses, violations)
        refuse_if(violations)
        token = PageToken(request, ">q")
        key = token.read()
        before = int(key[0]) if key else INT64_MAX
        found = await store.list_page(self._database, customer_id, statuses, before, size + 1)
        webhooks = await fitting(found[:size], self._shown)
        return service_pb2.ListWebhooksResponse(
            webhooks=webhooks,
            next_page_token="" if len(webhooks) == len(found) else token.after(webhooks[-1].webhook_id),
        )

    async def update(self, request: service_pb2.UpdateWebhookRequest, call: Call) -> webhook_pb2.Webhook:
        """Changes the fields that the mask names."""
        message, violations = request.webhook, list[Violation]()
        customer_id = call.customer(message.customer_id, "webhook.customer_id", violations)
        webhook_id = reading.read_id(message.webhook_id, "webhook.webhook_id", violations)
        refuse_if(violations)
        fields = _UPDATABLE.fields_to_change(message, request.update_mask)
        current = await store.get(self._database, customer_id, webhook_id)
        if message.etag and message.etag != str(current.version):
            raise store.etag_mismatch(current)
        changed = self._changed_spec(current, message, fields)
        # Only a URL that this call sets is sealed here: the janitor seals stored URLs
        spec = await self._sealed(changed, current.customer_id, webhook_id, with_url="url" in fields)
        await self._refuse_unusable_types(set(spec.events) - set(current.events))
        signing_key = await self._signing_keys.wanted_by(spec, customer_id) if "signature_type" in fields else None
        audit = call.audit(f"webhook:{webhook_id}", fields=fields)
        webhook = await store.update(self._database, current, spec, audit=audit, signing_key=signing_key)
        self._hints.webhook_changed(webhook_id)
        return self._shown(webhook)

    def _changed_spec(self, current: Webhook, message: webhook_pb2.Webhook, fields: frozenset[str]) -> WebhookSpec:
        violations = list[Violation]()
        given = reading.webhook_spec(message, list[Violation]())
        if "signature_type" in fields:
            words.read_signature_type(message.signature_type, violations)
        changes = {_CHANGEABLE[field]: getattr(given, _CHANGEABLE[field]) for field in fields}
        spec = replace(_spec_of(current), **changes)
        if "headers" in fields:
            spec = replace(spec, headers=self._own_headers.replaced(given.headers, current, violations))
        violations += validation.webhook_violations(spec)
        if "url" in fields:
            reading.read_url(message.url, self._egress_policy, violations)
        refuse_if(violations)
        return spec

    async def _refuse_unusable_types(self, patterns: Collection[str]) -> None:
        """Raises FailedPrecondition if one of these patterns is an exact type that is unknown or archived."""
        types = sorted(filter(matching.is_event_type, patterns))
        rules = await self._event_types.rules(types)
        for event_type in types:
            if event_type not in rules:
                raise event_type_unknown(event_type)
            if rules[event_type].archived:
                raise event_type_archived(event_type)

    async def delete(self, request: service_pb2.DeleteWebhookRequest, call: Call) -> Empty:
        """Deletes a webhook; the owner of its shard cancels the pending deliveries."""
        webhook = await self._named(request, call)
        if request.etag and request.etag != str(webhook.version):
            raise store.etag_mismatch(webhook)
        version = webhook.version if request.etag else None
        await self._set_status(webhook, call, WebhookStatus.DELETED, _NOT_DELETED, version)
        return Empty()

    async def pause(self, request: service_pb2.PauseWebhookRequest, call: Call) -> webhook_pb2.Webhook:
        """Stops deliveries to a webhook; they stay pending."""
        webhook = await self._named(request, call)
        return await self._set_status(webhook, call, WebhookStatus.PAUSED, (WebhookStatus.ACTIVE,))

    async def resume(self, request: service_pb2.ResumeWebhookRequest, call: Call) -> webhook_pb2.Webhook:
        """Starts deliveries to a webhook again."""
        webhook = await self._named(request, call)
        audit = call.audit(f"webhook:{webhook.webhook_id}")
        resumed = await store.resume(self._database, webhook, audit=audit)
        self._hints.webhook_changed(resumed.webhook_id)
        return self._shown(resumed)

    async def _set_status(
        self,
        webhook: Webhook,
        call: Call,
        status: WebhookStatus,
        from_statuses: tuple[WebhookStatus, ...],
        version: int | None = None,
    ) -> webhook_pb2.Webhook:
        audit = call.audit(f"webhook:{webhook.webhook_id}")
        changed = await store.set_status(self._database, webhook, status, from_statuses, audit=audit, version=version)
        self._hints.webhook_changed(changed.webhook_id)
        return self._shown(changed) if status is not WebhookStatus.DELETED else webhook_pb2.Webhook()

    async def _named(
        self,
        request: service_pb2.GetWebhookRequest
        | service_pb2.DeleteWebhookRequest
        | service_pb2.PauseWebhookRequest
        | service_pb2.ResumeWebhookRequest,
        call: Call,
    ) -> Webhook:
        violations = list[Violation]()
        customer_id = call.customer(request.customer_id, "customer_id", violations)
        webhook_id = reading.read_id(request.webhook_id, "webhook_id", violations)
        refuse_if(violations)
        return await store.get(self._database, customer_id, webhook_id)


_NOT_DELETED: Final = (WebhookStatus.ACTIVE, WebhookStatus.PAUSED, WebhookStatus.DISABLED)


def _spec_of(webhook: Webhook) -> WebhookSpec:
    chosen = {name: getattr(webhook, name) for name in _CHANGEABLE.values()}
    return WebhookSpec(**chosen, sealed_headers=webhook.sealed_headers, sealed_query=webhook.sealed_query)


def _fingerprints(
    message: webhook_pb2.Webhook, customer_id: int, sealer: Sealer, is_query_clear: bool
) -> Sequence[int]:
    """Returns digests of what the caller chose. Whether the customer was named or implied makes no difference.

    The first one is stored. The secret, the headers and the URL's query are in it only as a keyed digest, so that
    no reader of the database can check a guess. The others are compared only: those with older keys, and those of
    older versions, which had the query, the query and the headers, or all three in the clear. `is_query_clear`: the
    query is stored in the clear for an older version, which may get the repeated call; then the first one has it too.
    """
    chosen = webhook_pb2.Webhook()
    chosen.CopyFrom(message)
    for field in _OUTPUT_ONLY:
        chosen.ClearField(field)
    chosen.customer_id = customer_id
    if not url_queries.is_clear(chosen.url):
        return _fingerprints_with_url(chosen, sealer)
    hidden = webhook_pb2.Webhook(secret=chosen.secret, headers=chosen.headers, url=chosen.url)
    shown = webhook_pb2.Webhook()
    shown.CopyFrom(chosen)
    shown.ClearField("secret")
    shown.ClearField("headers")
    shown.url = url_queries.hidden(chosen.url)
    content = shown.SerializeToString(deterministic=True)
    digests = sealer.digests(b"webhook hidden" + hidden.SerializeToString(deterministic=True))
    newest = [reading.fingerprint(content + digest) for digest in digests]
    with_url = _fingerprints_with_url(chosen, sealer)
    return (*with_url, *newest) if is_query_clear else (*newest, *with_url)


def _fingerprints_with_url(chosen: webhook_pb2.Webhook, sealer: Sealer) -> Sequence[int]:
    """Returns those that have the URL in the clear; takes the secret and the headers out of `chosen`."""
    hidden = webhook_pb2.Webhook(secret=chosen.secret, headers=chosen.headers)
    in_clear = reading.fingerprint(chosen.SerializeToString(deterministic=True))
    if not hidden.secret and not hidden.headers:
        return (in_clear,)
    chosen.ClearField("secret")
    with_headers = chosen.SerializeToString(deterministic=True)
    chosen.ClearField("headers")
    content = chosen.SerializeToString(deterministic=True)
    of_both = sealer.digests(b"webhook hidden" + hidden.SerializeToString(deterministic=True)) if hidden.headers else ()
    of_secret = sealer.digests(b"webhook request" + hidden.secret.encode("utf-8")) if hidden.secret else ()
    return (
        *(reading.fingerprint(content + digest) for digest in of_both),
        *(reading.fingerprint(with_headers + digest) for digest in of_secret),
        in_clear,
    )

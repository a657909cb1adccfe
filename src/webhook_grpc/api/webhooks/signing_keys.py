"""Signing keys of customers: the public ones, a new one, and the first one for a webhook that needs it."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping

from webhook.v1 import service_pb2, signing_key_pb2

from webhook_grpc.api.call import Call, refuse_if
from webhook_grpc.api.messages import writing
from webhook_grpc.domain.errors import Violation
from webhook_grpc.domain.ids import INT64_MAX
from webhook_grpc.domain.model import SignatureType, WebhookSpec
from webhook_grpc.domain.sealing import ENTROPY_BYTES, Sealer
from webhook_grpc.domain.signing_keys import SEED_BYTES, PrivateSigningKey, jwks, seal, thumbprint_of
from webhook_grpc.hub.hints import Hints
from webhook_grpc.store.db import Database
from webhook_grpc.store.registry import signing_keys as store
from webhook_grpc.store.registry.signing_keys import NewSigningKey
from webhook_grpc.store.schema.versions import WITH_SIGNING_KEYS, refuse_beside_older

from .secrets import read_overlap


class NewSigningKeys:
    """Makes keys, sealed as they are stored."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    async def make(self, customer_id: int) -> NewSigningKey:
        """Returns a new key. Raises Unavailable, FailedPrecondition beside processes that would not sign with it."""
        await refuse_beside_older(self._database, "an Ed25519 signature", WITH_SIGNING_KEYS)
        key_id, seed = await store.next_id(self._database), os.urandom(SEED_BYTES)
        sealed = seal(self._sealer, seed, customer_id, key_id, os.urandom(ENTROPY_BYTES))
        return NewSigningKey(key_id, customer_id, PrivateSigningKey(seed).public_key, sealed)

    async def wanted_by(self, spec: WebhookSpec, customer_id: int) -> NewSigningKey | None:
        """Returns a key for the customer of a webhook, in case it has none; None if the webhook needs no key."""
        return await self.make(customer_id) if spec.signature_type is SignatureType.ED25519 else None


class SigningKeyMethods:
    """The calls that list and rotate signing keys."""

    def __init__(self, database: Database, sealer: Sealer, hints: Hints) -> None:
        self._database = database
        self._new = NewSigningKeys(database, sealer)
        self._hints = hints

    async def get(self, request: service_pb2.GetSigningKeysRequest, call: Call) -> service_pb2.GetSigningKeysResponse:
        """Returns the public keys of a customer."""
        violations = list[Violation]()
        customer_id = call.customer(request.customer_id, "customer_id", violations)
        refuse_if(violations)
        keys = await store.of_customer(self._database, customer_id)
        return service_pb2.GetSigningKeysResponse(signing_keys=map(writing.signing_key_message, keys))

    async def rotate(self, request: service_pb2.RotateSigningKeyRequest, call: Call) -> signing_key_pb2.SigningKey:
        """Makes a new key; until the overlap ends, requests are signed with the old key too."""
        violations = list[Violation]()
        customer_id = call.customer(request.customer_id, "customer_id", violations)
        overlap_seconds = read_overlap(request, violations)
        refuse_if(violations)
        new = await self._new.make(customer_id)
        audit = call.audit(f"signing_key:{thumbprint_of(new.public_key)}")
        rotated = await store.rotate(self._database, new, overlap_seconds, audit=audit)
        for webhook_id in rotated.webhook_ids:
            self._hints.webhook_changed(webhook_id)
        return writing.signing_key_message(rotated.key)

    async def jwks(self, customer_ids: Collection[int]) -> Mapping[int, bytes]:
        """Returns the JSON Web Key Set of each customer, an empty one for an id of no customer. Raises Unavailable."""
        possible = [customer_id for customer_id in customer_ids if 0 < customer_id <= INT64_MAX]
        keys = await store.of_customers(self._database, possible)
        return {customer_id: jwks(keys.get(customer_id, ())) for customer_id in customer_ids}

"""Webhooks with Ed25519: the customer's keys, their rotation, and receivers that verify throughout."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from webhook.v1 import service_pb2, webhook_pb2
from webhook.v1.signing_key_pb2 import SigningKey

from tests.api.asking import refusal
from tests.support import slowness
from tests.support.postgres import TestPostgres
from tests.support.receiver import Received, Receiver
from tests.support.service import CUSTOMER, SECRET, Service
from webhook_grpc.store.registry import signing_keys
from webhook_grpc_client import verify_signature

pytestmark = [pytest.mark.fast, pytest.mark.asyncio(loop_scope="module")]

URL = "https://hooks.example.com/"
HMAC, ED25519 = webhook_pb2.SIGNATURE_TYPE_HMAC, webhook_pb2.SIGNATURE_TYPE_ED25519
HOUR = Duration(seconds=3600)
NONE = Duration()


async def keys(service: Service) -> list[SigningKey]:
    answer = await service.stub.GetSigningKeys(service_pb2.GetSigningKeysRequest(customer_id=CUSTOMER))
    return list(answer.signing_keys)


async def rotate(service: Service, overlap: Duration) -> SigningKey:
    request = service_pb2.RotateSigningKeyRequest(customer_id=CUSTOMER, overlap=overlap)
    return await service.stub.RotateSigningKey(request)


async def change_type(service: Service, webhook_id: int, signature_type: Any) -> webhook_pb2.Webhook:
    webhook = webhook_pb2.Webhook(customer_id=CUSTOMER, webhook_id=webhook_id, signature_type=signature_type)
    mask = FieldMask(paths=["signature_type"])
    return await service.stub.UpdateWebhook(service_pb2.UpdateWebhookRequest(webhook=webhook, update_mask=mask))


async def signed_by(service: Service, receiver: Receiver, count: int) -> Received:
    """Publishes until a request comes with so many Ed25519 signatures: processes hear of new keys within a second."""
    async with slowness.timeout(20):
        while True:
            before = len(receiver.requests)
            await service.publish()
            await receiver.wait_for(before + 1)
            request = receiver.requests[before]
            if request.headers["webhook-signature"].count("v1a,") == count:
                return request


def verify(request: Received, *public_keys: str) -> None:
    """Each of the private keys has signed, and the secret as always."""
    for key in public_keys:
        verify_signature(request.headers, request.body, public_keys=[key])
    assert request.headers["webhook-signature"].count("v1a,") == len(public_keys)
    request.verify(SECRET)


async def test_the_first_webhook_with_ed25519_makes_the_customers_key_and_others_use_it(service: Service) -> None:
    plain = await service.create_webhook(URL)
    assert plain.signature_type == HMAC
    assert await keys(service) == []

    made = await service.create_webhook(URL, signature_type=ED25519)
    [key] = await keys(service)
    assert made.signature_type == ED25519
    assert key.public_key.startswith("whpk_")
    assert not key.HasField("retire_time")

    changed = await change_type(service, plain.webhook_id, ED25519)
    assert changed.signature_type == ED25519
    assert await service.webhook(plain.webhook_id) == changed
    assert (await change_type(service, plain.webhook_id, HMAC)).signature_type == HMAC
    assert await keys(service) == [key]


async def test_many_webhooks_at_once_make_one_key(service: Service) -> None:
    await asyncio.gather(*(service.create_webhook(URL, signature_type=ED25519) for _ in range(10)))
    assert len(await keys(service)) == 1


async def test_a_type_that_there_is_not_is_refused(service: Service) -> None:
    webhook = await service.create_webhook(URL)
    for call in (
        service.create_webhook(URL, signature_type=99),
        change_type(service, webhook.webhook_id, 99),
    ):
        assert (await refusal(call)).fields == ["webhook.signature_type"]


async def test_requests_are_signed_with_both_keys_while_a_rotation_overlaps_and_then_with_the_new_one(
    service: Service, receiver: Receiver
) -> None:
    await service.create_webhook(receiver.url(), signature_type=ED25519)
    [old] = await keys(service)
    verify(await signed_by(service, receiver, 1), old.public_key)

    new = await rotate(service, HOUR)
    listed = await keys(service)
    assert listed[0] == new
    assert [key.key_id for key in listed] == [new.key_id, old.key_id]
    assert (listed[1].retire_time.ToDatetime() - new.create_time.ToDatetime()).total_seconds() == 3600
    verify(await signed_by(service, receiver, 2), new.public_key, old.public_key)

    refused = await refusal(rotate(service, HOUR))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SIGNING_KEY_OVERLAP")

    newest = await rotate(service, NONE)
    assert await keys(service) == [newest]
    verify(await signed_by(service, receiver, 1), newest.public_key)


async def test_a_webhook_that_gets_the_type_later_is_signed_from_then_on(service: Service, receiver: Receiver) -> None:
    webhook = await service.create_webhook(receiver.url())
    verify(await signed_by(service, receiver, 0))
    await change_type(service, webhook.webhook_id, ED25519)
    [key] = await keys(service)
    verify(await signed_by(service, receiver, 1), key.public_key)


async def test_a_key_that_signs_no_more_is_not_listed_and_deleted(service: Service, postgres: TestPostgres) -> None:
    await rotate(service, NONE)
    new = await rotate(service, HOUR)
    assert len(await keys(service)) == 2
    await signing_keys.delete_retired(service.app.database)
    assert len(await keys(service)) == 2, "it still signs"

    postgres.rows("UPDATE signing_keys SET retire_at = now() WHERE retire_at IS NOT NULL")
    assert await keys(service) == [new]
    await signing_keys.delete_retired(service.app.database)
    assert postgres.rows("SELECT count(*) FROM signing_keys") == [(1,)]


async def test_an_erased_customer_has_no_keys_any_more(service: Service, postgres: TestPostgres) -> None:
    await service.create_webhook(URL, signature_type=ED25519)
    request = service_pb2.DeleteCustomerDataRequest(customer_id=CUSTOMER)
    async with slowness.timeout(20):
        while not (await service.stub.DeleteCustomerData(request)).complete:
            pass
    assert postgres.rows("SELECT count(*) FROM signing_keys") == [(0,)]


async def test_without_its_key_nothing_is_sent_that_a_receiver_could_not_verify(
    service: Service, receiver: Receiver, postgres: TestPostgres
) -> None:
    webhook = await service.create_webhook(receiver.url(), signature_type=ED25519)
    postgres.rows("DELETE FROM signing_keys")
    tested = await service.stub.TestWebhook(
        service_pb2.TestWebhookRequest(customer_id=CUSTOMER, webhook_id=webhook.webhook_id)
    )
    assert "secret could not be opened" in tested.delivery.last_attempt.error_message
    assert receiver.requests == []

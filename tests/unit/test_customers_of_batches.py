"""Whose turn a batch takes: a customer's, whichever way it is named and with whichever token."""

from __future__ import annotations

import pytest
from webhook.v1 import event_pb2, service_pb2

from webhook_grpc.domain.access import Caller
from webhook_grpc.server.log_subjects import customer_of

ALL = Caller("backend", None, frozenset())
TWO = frozenset({7, 8})


def batch(*customer_ids: int, customer_id: int = 0) -> service_pb2.BatchPublishEventsRequest:
    events = (event_pb2.Event(customer_id=of_event) for of_event in customer_ids)
    requests = [service_pb2.PublishEventRequest(event=event) for event in events]
    return service_pb2.BatchPublishEventsRequest(requests=requests, customer_id=customer_id)


@pytest.mark.parametrize(
    ("request_of_caller", "customer_id"),
    [(batch(7, 7), 7), (batch(0, 0, customer_id=7), 7), (batch(7, 8), None), (batch(7, 0), None), (batch(), None)],
)
def test_a_batch_is_its_customers_where_all_of_its_events_are(
    request_of_caller: service_pb2.BatchPublishEventsRequest, customer_id: int | None
) -> None:
    assert customer_of(request_of_caller, ALL) == customer_id


def test_what_is_for_no_single_customer_waits_in_one_line_for_all_tokens_of_the_same_customers() -> None:
    lines = {Caller(name, TWO, frozenset()).line_of(None) for name in ("a", "b")}
    assert lines == {TWO}
    assert ALL.line_of(None) == "backend"
    assert ALL.line_of(7) == Caller("c", TWO, frozenset()).line_of(7) == 7

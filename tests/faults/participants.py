"""Who takes part in a round: the webhooks that are registered, the publishers, the watchers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from random import Random

from google.protobuf.duration_pb2 import Duration
from webhook.v1 import service_pb2, webhook_pb2

from tests.invariants.history import Endpoint
from tests.support import slowness
from tests.support.process import Process
from tests.support.service import SECRET
from webhook_grpc.domain.validation import MAX_IN_FLIGHT_MAX

from .cluster import Cluster
from .endpoints import EndpointPlan, Endpoints
from .scenario import Scenario
from .workload import Publisher, ResumingWatcher


def path_of(number: int) -> str:
    """The path of the number-th endpoint of a plan."""
    return f"/{number}"


async def register(scenario: Scenario, endpoints: Endpoints, process: Process) -> list[Endpoint]:
    """Registers a webhook for each endpoint of the plan, in order."""
    registered: list[Endpoint] = []
    await endpoints.behave({path_of(number): plan.behaviour for number, plan in enumerate(scenario.plan)})
    for number, planned in enumerate(scenario.plan):
        plan = at_this_pace(planned)
        request = service_pb2.CreateWebhookRequest(webhook=_webhook(plan, endpoints, path_of(number)))
        created = await process.stub.CreateWebhook(request)
        endpoints.belongs(path_of(number), created.webhook_id)
        registered.append(
            Endpoint(
                created.webhook_id,
                plan.customer_id,
                plan.in_flight_max,
                plan.own_delays_seconds or scenario.delays_seconds,
                plan.prompt,
                plan.rate_limit,
                plan.timeout_seconds,
            )
        )
    return registered


def publishers(scenario: Scenario, cluster: Cluster, seed: int) -> Iterator[Publisher]:
    """Some for each customer; one of them takes "unknown" for an answer, so that this is looked at as well."""
    for customer_id in _customers(scenario):
        is_quiet = customer_id == scenario.quiet_customer
        for number in range(1 if is_quiet else scenario.publishers_per_customer):
            name = f"{customer_id}-{number}"
            gap_seconds = 0.5 if is_quiet else scenario.gap_seconds
            publisher = Publisher(name, customer_id, cluster, Random(f"{seed}-{name}"), gap_seconds)
            publisher.gives_up = number == 2
            yield publisher


def watchers(scenario: Scenario, cluster: Cluster, seed: int) -> Iterator[ResumingWatcher]:
    """Some for each customer."""
    for customer_id in _customers(scenario):
        for number in range(scenario.watchers_per_customer):
            name = f"{customer_id}-{number}"
            watcher = ResumingWatcher(name, customer_id, cluster, Random(f"{seed}-watcher-{name}"))
            watcher.reconnect_seconds, watcher.away_seconds = scenario.reconnect_seconds, scenario.away_seconds
            watcher.begins_again = scenario.restored
            yield watcher


def at_this_pace(plan: EndpointPlan) -> EndpointPlan:
    """Returns the plan as it means the same on this machine.

    On a slow one less is published: a limit that is to be reached has to be lower. Each request takes longer there: one
    that is not to make others late has to be higher.
    """
    if plan.rate_limit is not None:
        plan = replace(plan, rate_limit=max(1, round(plan.rate_limit / slowness.ratio())))
    if plan.prompt:
        plan = replace(plan, in_flight_max=min(MAX_IN_FLIGHT_MAX, math.ceil(slowness.scaled(plan.in_flight_max))))
    return plan


def _customers(scenario: Scenario) -> list[int]:
    return sorted({plan.customer_id for plan in scenario.plan})


def _webhook(plan: EndpointPlan, endpoints: Endpoints, path: str) -> webhook_pb2.Webhook:
    webhook = webhook_pb2.Webhook(
        customer_id=plan.customer_id,
        name=path,
        url=endpoints.url(path, plan),
        events=["*"],
        secret=SECRET,
        max_in_flight=plan.in_flight_max,
        rate_limit_per_second=plan.rate_limit or 0,
        timeout=Duration(seconds=plan.timeout_seconds),
    )
    for seconds in plan.own_delays_seconds:
        webhook.retry_policy.delays.add().FromMilliseconds(round(seconds * 1000))
    return webhook

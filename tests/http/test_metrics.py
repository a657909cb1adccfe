"""/metrics: who may read it, that its numbers are right, and that what is made of them asks for what there is."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import promql_parser
import pytest
import yaml
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.support import slowness
from tests.support.process import ROOT
from tests.support.receiver import Gate, Receiver, answer
from tests.support.service import CUSTOMER, Service, ServiceFactory
from webhook_grpc.server.http.address.listening import HttpAddressInUse

from .client import Http

QUICKLY = {"http_address": "127.0.0.1:0", "metrics_poll_seconds": 0.1}
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}


class Page:
    """What /metrics says at one moment."""

    def __init__(self, text: str) -> None:
        self.families: list[Metric] = list(text_string_to_metric_families(text))

    def value(self, name: str, **labels: str) -> float | None:
        """The value of a sample; None if there is none."""
        found = [
            sample.value
            for family in self.families
            for sample in family.samples
            if sample.name == name and sample.labels == labels
        ]
        return found[0] if found else None

    def values(self, name: str) -> dict[Any, float]:
        """The samples of a name with one label, by its value, without zeros."""
        found = [sample for family in self.families for sample in family.samples if sample.name == name]
        return {next(iter(sample.labels.values())): sample.value for sample in found if sample.value}

    def names(self) -> set[str]:
        """Every name that a query can find here."""
        return {f"{family.name}{suffix}" for family in self.families for suffix in SUFFIXES[family.type]}


async def read(http: Http) -> Page:
    """Reads /metrics once."""
    answered = await http.get("/metrics")
    assert answered.status == 200, answered.text
    assert answered.headers["content-type"].startswith("text/plain; version=0.0.4")
    return Page(answered.text)


async def read_until(http: Http, enough: Callable[[Page], bool]) -> Page:
    """Reads /metrics until it shows enough: some figures are read every so often, and a text stays for a moment."""
    async with slowness.timeout(20):
        while not enough(page := await read(http)):
            await asyncio.sleep(0.1)
    return page


# --- the numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_what_happened_to_events_is_in_the_numbers(services: ServiceFactory, receiver: Receiver) -> None:
    service = await services.start(**QUICKLY)
    slow = Gate()
    await service.create_webhook(receiver.url("/ok"), events=["job.completed"])
    await service.create_webhook(receiver.on("/bad", answer(500)), events=["job.completed"])
    await service.create_webhook(receiver.on("/slow", slow), events=["job.failed"])
    async with Http(service) as http, service.watching() as watch:
        for number in range(3):
            await service.publish(event_type="job.completed", request_id=f"n{number}")
        await service.publish(event_type="job.completed", request_id="n0")
        await watch.until_ended(6)
        await service.publish(event_type="job.failed")
        await receiver.wait_for(1, "/slow")
        page = await read_until(http, lambda page: page.value("webhook_deliveries_pending") == 1)

        assert page.values("webhook_events_total") == {"new": 4, "duplicate": 1}
        assert page.value("webhook_deliveries_created_total") == 7
        assert page.value("webhook_rpcs_total", method="PublishEvent", door="grpc", code="OK") == 5
        assert page.value("webhook_rpc_seconds_count", method="PublishEvent", door="grpc") == 5
        assert page.value("webhook_rpcs_total", method="ListWebhooks", door="http", code="OK") is None
        assert page.value("webhook_watchers") == 1
        assert page.value("webhook_http_connections") == 1
        assert page.values("webhook_attempts_total") == {"succeeded": 3, "http_error": 12}
        assert page.values("webhook_deliveries_ended_total") == {"succeeded": 3, "failed": 3}
        assert page.value("webhook_first_attempt_seconds_count") == 6
        assert page.value("webhook_delivery_seconds_count") == 6
        assert page.value("webhook_statement_rows_sum", statement="settle") == 15
        assert page.value("webhook_statement_rows_sum", statement="publish") == 5
        assert page.value("webhook_attempts_in_flight") == 1
        assert page.value("webhook_shards_owned") == 64
        assert page.values("webhook_webhooks") == {"active": 3}
        assert page.value("webhook_ready") == 1

        await http.get(f"/api/webhooks?customer_id={CUSTOMER}")
        slow.opened.set()
        await watch.until_ended(7)
        page = await read_until(http, lambda page: page.value("webhook_deliveries_pending") == 0)
        assert page.value("webhook_rpcs_total", method="ListWebhooks", door="http", code="OK") == 1
        assert page.values("webhook_attempts_total") == {"succeeded": 4, "http_error": 12}
        assert page.value("webhook_attempts_in_flight") == 0


async def test_a_webhook_that_is_disabled_and_one_that_is_paused_are_counted(
    services: ServiceFactory, receiver: Receiver
) -> None:
    service = await services.start(**QUICKLY)
    await service.create_webhook(receiver.on("/gone", answer(410)))
    paused = await service.create_webhook(receiver.url("/paused"))
    await service.pause_webhook(paused.webhook_id)
    await service.publish()
    async with Http(service) as http:
        await read_until(http, lambda page: "gone" in page.values("webhook_webhooks_disabled_total"))
        page = await read_until(http, lambda page: "disabled" in page.values("webhook_webhooks"))
    assert page.values("webhook_webhooks") == {"disabled": 1, "paused": 1}
    assert page.values("webhook_webhooks_disabled_total") == {"gone": 1}


async def test_a_receiver_that_is_down_opens_a_breaker_and_is_no_lag(
    services: ServiceFactory, receiver: Receiver
) -> None:
    service = await services.start(**QUICKLY, breaker_failures=2, breaker_probe_seconds_min=600)
    await service.create_webhook(receiver.on("/bad", answer(500)))
    await service.publish_many(5)
    async with Http(service) as http:
        await read_until(http, lambda page: page.value("webhook_breakers", state="open") == 1)
        await read_until(http, lambda page: page.value("webhook_attempts_in_flight") == 0)
        await read_until(http, lambda page: page.value("webhook_deliveries_pending") == 5)
        await read_until(http, lambda page: page.value("webhook_due_lag_seconds") == 0)


async def test_a_test_is_an_attempt_and_a_cancellation_an_ending(services: ServiceFactory, receiver: Receiver) -> None:
    service = await services.start(**QUICKLY)
    async with Http(service) as http:
        webhook = await http.create(receiver.url("/ok"))
        tested = await http.post(f"/api/webhooks/{webhook['webhook_id']}:test", {"customer_id": CUSTOMER})
        assert tested.status == 200, tested.text
        page = await read_until(http, lambda page: bool(page.values("webhook_attempts_total")))
        assert page.values("webhook_attempts_total") == {"succeeded": 1}
        await service.pause_webhook(webhook["webhook_id"])
        event_id = (await service.publish()).event_id
        delivery_id = f"{event_id.replace('evt_', 'dlv_')}_{webhook['webhook_id']}"
        cancelled = await http.post(f"/api/deliveries/{delivery_id}:cancel", {"customer_id": CUSTOMER})
        assert cancelled.status == 200, cancelled.text
        page = await read_until(http, lambda page: "cancelled" in page.values("webhook_deliveries_ended_total"))
    assert page.value("webhook_first_attempt_seconds_count") == 0, "a test was not published"


async def test_to_read_touches_no_database(services: ServiceFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    service = await services.start(http_address="127.0.0.1:0", metrics_poll_seconds=300)

    async def fail(*_: object, **__: object) -> None:
        raise AssertionError("the database was read")

    async with Http(service) as http:
        await read_until(http, lambda page: page.value("webhook_figures_age_seconds") is not None)
        monkeypatch.setattr(service.app.database, "rows", fail)
        assert (await read(http)).value("webhook_ready") == 1


# --- who may read ----------------------------------------------------------------------------------------------------


def token(secret: str, **fields: Any) -> dict[str, Any]:
    return {"name": secret, "sha256": hashlib.sha256(secret.encode()).hexdigest(), **fields}


async def test_where_tokens_are_needed_a_token_for_all_customers_reads_the_figures(services: ServiceFactory) -> None:
    tokens = (token("all", permissions=("publish",)), token("one", customer_id=CUSTOMER))
    async with Http(await services.start(**QUICKLY, tokens=tokens)) as http:
        assert (await http.get("/metrics", authorization="Bearer all")).status == 200
        without = await http.get("/metrics")
        assert (without.status, without.reason) == (401, "TOKEN_MISSING")
        assert "www-authenticate" in without.headers
        of_one = await http.get("/metrics", authorization="Bearer one")
        assert (of_one.status, of_one.reason) == (403, "CUSTOMER_NOT_ALLOWED")


async def test_a_page_of_another_origin_reads_nothing(services: ServiceFactory) -> None:
    async with Http(await services.start(**QUICKLY)) as http:
        assert (await http.get("/metrics", origin="https://evil.example")).reason == "ORIGIN_NOT_ALLOWED"
        assert (await http.get("/metrics", host="evil.example")).reason == "HOST_NOT_ALLOWED"


async def statuses(port: int | None, **headers: str) -> Mapping[str, int]:
    """The status of each path for operators on a port."""
    found: dict[str, int] = {}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=headers) as session:
        for path in ("/metrics", "/healthz", "/readyz", "/api/webhooks"):
            async with slowness.timeout(10), session.get(path) as response:
                found[path] = response.status
    return found


async def test_an_address_of_its_own_needs_no_token_and_has_nothing_else(services: ServiceFactory) -> None:
    service = await services.start(**QUICKLY, metrics_address="127.0.0.1:0", tokens=(token("all"),))
    own = await statuses(service.app.metrics_port)
    assert own == {"/metrics": 200, "/healthz": 200, "/readyz": 200, "/api/webhooks": 404}
    api = await statuses(service.app.http_port, Authorization="Bearer all")
    assert (api["/metrics"], api["/healthz"], api["/readyz"]) == (404, 200, 200)
    assert (await statuses(service.app.metrics_port, Host="evil.example"))["/metrics"] == 403
    assert (await statuses(service.app.metrics_port, Origin="https://evil.example"))["/metrics"] == 403
    async with Http(service) as http:
        assert "/metrics" not in (await http.get("/")).text


async def test_without_http_the_address_of_its_own_is_there(services: ServiceFactory) -> None:
    service = await services.start(http_address="", metrics_address="127.0.0.1:0")
    assert service.app.http_port is None
    assert (await statuses(service.app.metrics_port))["/metrics"] == 200


async def test_an_address_for_metrics_that_is_taken_refuses_the_start(services: ServiceFactory) -> None:
    taken = await services.start(http_address="127.0.0.1:0")
    with pytest.raises(HttpAddressInUse, match="cannot listen on"):
        await services.start(metrics_address=f"127.0.0.1:{taken.app.http_port}")


# --- what is made of them --------------------------------------------------------------------------------------------


def alert_rules() -> list[dict[str, Any]]:
    rules = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())
    return [rule for group in rules["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text())
    return loaded


def dashboard_queries() -> list[str]:
    """The queries of the panels, as Grafana sends them."""
    return [
        target["expr"].replace("$__rate_interval", "1m")
        for panel in dashboard()["panels"]
        for target in panel.get("targets", ())
    ]


QUERIES = [*(rule["expr"] for rule in alert_rules()), *dashboard_queries()]


def named(query: str) -> set[str]:
    """The names of the metrics that a query reads. Raises if it is not PromQL."""
    found: set[str] = set()

    def visit(node: object) -> None:
        if isinstance(node, promql_parser.VectorSelector) and node.name:
            found.add(node.name)

    promql_parser.walk(promql_parser.parse(query), visit)
    return found


@pytest.fixture(scope="module")
def documented() -> dict[str, set[str]]:
    """The metrics in the table of the document, as `# TYPE` names them, with their labels."""
    text = (ROOT / "docs/metrics.md").read_text()
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \|([^|]*)\|", text, re.MULTILINE)
    return {
        name: set(re.findall(r"`(\w+)`", re.sub(r"\(.*?\)", "", cell).partition(":")[0]))
        for names, cell in rows
        for name in re.findall(r"`(\w+)`", names)
    }


async def exposed(service: Service) -> str:
    async with Http(service) as http:
        return (await http.get("/metrics")).text


async def test_the_document_names_every_metric_with_its_labels_and_no_other(
    services: ServiceFactory, documented: Mapping[str, set[str]]
) -> None:
    text = await exposed(await services.start(**QUICKLY))
    assert documented.keys() == set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = family.name if family.name in documented else f"{family.name}_total"
            assert sample.labels.keys() - {"le"} == documented[name], name


async def test_dashboard_and_alerts_ask_for_metrics_that_there_are(services: ServiceFactory) -> None:
    names = Page(await exposed(await services.start(**QUICKLY))).names()
    asked = {name for query in QUERIES for name in named(query)}
    assert asked - names == set()
    shown = {re.sub("_(bucket|count|sum)$", "", name) for name in asked}
    own = {re.sub("_(bucket|count|sum)$", "", name) for name in names if name.startswith("webhook_")}
    assert own - shown == {"webhook_build_info"}, "is shown nowhere"


async def test_labels_in_queries_have_values_that_there_are(services: ServiceFactory) -> None:
    """A misspelt label or value selects nothing, and no parser says so."""
    families = Page(await exposed(await services.start(**QUICKLY))).families
    values = {
        (family.name, label): {one.labels[label] for one in family.samples if label in one.labels}
        for family in families
        for sample in family.samples
        for label in sample.labels
    }
    compared = re.findall(r'(webhook_\w+?)(?:_total|_bucket)?\{[^}]*?(\w+)(?:=|!=|=~|!~)"([\w.|]+)"', " ".join(QUERIES))
    checked = 0
    for name, label, wanted in compared:
        if known := values.get((name, label)):
            assert set(wanted.split("|")) <= known, (name, label)
            checked += 1
    assert checked > 5


@pytest.mark.parametrize("rule", alert_rules(), ids=[rule["alert"] for rule in alert_rules()])
def test_each_alert_says_what_it_means_and_what_to_do(rule: dict[str, Any]) -> None:
    assert named(rule["expr"])
    assert set(rule["annotations"]) == {"summary", "description", "action", "runbook"}
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    sections = (ROOT / page).read_text().split("\n## ")
    [section] = [text for text in sections if text.partition("\n")[0].lower().replace(" ", "-") == anchor]
    assert re.search(rf"^\*Alerts?:\* .*`{rule['alert']}`", section, re.MULTILINE)


def test_the_runbook_names_no_alert_that_there_is_not() -> None:
    lines = re.findall(r"^\*Alerts?:\* .*$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE)
    named_there = [name for line in lines for name in re.findall(r"`(Webhooks?[A-Z]\w+)`", line)]
    assert sorted(named_there) == sorted(rule["alert"] for rule in alert_rules()), "each has one section"


def test_each_panel_has_a_place_a_name_and_the_data_source_of_the_dashboard() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)
    for panel in panels:
        assert panel["title"]
        assert panel["type"] == "row" or panel["datasource"]["uid"] == "${datasource}"

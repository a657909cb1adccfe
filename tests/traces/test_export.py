"""A collector that is away, slow or refuses; the end of the process; and a start that can't be."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from webhook.v1 import service_pb2, webhook_pb2

from tests.support import slowness
from tests.support.postgres import TestPostgres
from tests.support.process import Process, run_cli
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER, SECRET_KEY, ServiceFactory, test_settings
from webhook_grpc import app
from webhook_grpc.app import App
from webhook_grpc.settings import SettingsError

from .collector import Collector
from .test_recording import an_event, publish

pytestmark = pytest.mark.slow


@pytest.mark.symptom("spans")
async def test_a_collector_that_is_away_holds_up_nothing_and_is_reported_once(
    services: ServiceFactory, receiver: Receiver, collector: Collector, capfd: pytest.CaptureFixture[str]
) -> None:
    service = await services.start(traces="otlp")
    await service.create_webhook(receiver.url())
    collector.status = 400  # not repeated, so that the test need not wait for that
    with capture_logs() as lines:
        for count in range(1, 4):
            await publish(service)
            await receiver.wait_for(count)
            await collector.wait_until_refused()
            collector.refused_count = 0
        collector.status = 200
        await publish(service)
        await collector.wait_for(1)
        await services.stop_one(service)
    said = [line for line in lines if line["event"].startswith("spans")]
    assert [(line["event"], line["log_level"]) for line in said] == [
        ("spans are not exported", "warning"),
        ("spans are exported again", "info"),
    ]
    assert (said[0]["cause"], said[1]["failed_spans"]) == ("HTTP 400", 3)
    assert not [line for line in lines if line["event"] == "opentelemetry"]
    assert "opentelemetry" not in capfd.readouterr().err


async def test_nothing_listens_where_the_collector_should_be(
    services: ServiceFactory, receiver: Receiver, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    await collector.stop()
    service = await services.start(traces="otlp")
    await service.create_webhook(receiver.url())
    with capture_logs() as lines:
        for _ in range(3):
            await publish(service)
        await receiver.wait_for(3)
        await services.stop_one(service)
    [line] = [line for line in lines if line["event"].startswith("spans")]
    assert (line["event"], line["cause"]) == ("spans are not exported", "ConnectionError")


async def test_a_process_says_it_in_its_own_log_and_nothing_else_reaches_stderr(
    database_url: str, receiver: Receiver, collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    await collector.stop()
    log, settings = tmp_path / "log", {"WEBHOOK_TRACES": "otlp", "WEBHOOK_LOG_FORMAT": "json"}
    process = await Process.start(log, WEBHOOK_DATABASE_URL=database_url, **settings)
    try:
        hook = webhook_pb2.Webhook(customer_id=CUSTOMER, name="test", url=receiver.url(), events=["*"])
        await process.stub.CreateWebhook(service_pb2.CreateWebhookRequest(webhook=hook))
        for count in range(1, 4):
            await process.stub.PublishEvent(service_pb2.PublishEventRequest(event=an_event()))
            await receiver.wait_for(count)
        assert await process.terminate() == 0
    finally:
        await process.end()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["cause"] for line in lines if line["event"].startswith("spans")] == ["ConnectionError"]
    assert [line for line in lines if "opentelemetry" in str(line)] == []


async def test_deliveries_go_on_while_the_collector_does_not_answer_and_its_queue_is_full(
    services: ServiceFactory, receiver: Receiver, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "4")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2")
    monkeypatch.setattr(app, "_SPANS_SECONDS_AT_STOP", 0.1)
    collector.opened.clear()
    service = await services.start(traces="otlp")
    await service.create_webhook(receiver.url())
    with capture_logs() as lines:
        await service.publish_many(40)
        await receiver.wait_for(40)
        await services.stop_one(service)
    assert [line["text"] for line in lines if line["event"] == "opentelemetry"] == ["Queue full, dropping …."]
    assert [line["waited_seconds"] for line in lines if line["event"] == "the last spans were not exported"] == [0.1]
    collector.opened.set()
    for thread in threading.enumerate():
        if thread.name == "close":  # it still exports, and what it says would be in the log of another test
            await asyncio.to_thread(thread.join)


async def test_the_last_spans_are_exported_at_the_stop(
    services: ServiceFactory, receiver: Receiver, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
    service = await services.start(traces="otlp")
    await service.create_webhook(receiver.url())
    await service.publish_many(20)
    await receiver.wait_for(20)
    assert not collector.spans
    await services.stop_one(service)
    assert len(collector.spans) == 20


def refused(postgres: TestPostgres, tmp_path: Path) -> str:
    """Returns why a start with traces is refused."""
    with pytest.raises(SettingsError) as error:
        App(test_settings(postgres.url, tmp_path, traces="otlp"), postgres.url, [SECRET_KEY], lambda: 0)
    return str(error.value)


def test_without_the_extra_the_start_says_what_to_install(
    postgres: TestPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("webhook_grpc.traces.")]:
        if name.endswith((".export", ".recording")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    assert refused(postgres, tmp_path).startswith(
        "WEBHOOK_TRACES=otlp needs the extra `otel`: install a clone with pip install '/path/to/clone[otel]'"
    )


async def test_without_the_extra_serve_ends_with_that_sentence(postgres: TestPostgres, tmp_path: Path) -> None:
    library = tmp_path / "opentelemetry.py"
    library.write_text("raise ImportError('not installed')")
    settings = {"WEBHOOK_DATABASE_URL": postgres.url, "WEBHOOK_TRACES": "otlp", "PYTHONPATH": str(tmp_path)}
    status, _, stderr = await run_cli("serve", **settings)
    assert stderr == (
        "webhook-grpc: WEBHOOK_TRACES=otlp needs the extra `otel`: install a clone with pip install "
        "'/path/to/clone[otel]' (not installed)\n"
    )
    assert status == 1


def test_a_protocol_that_is_not_spoken_is_refused_at_the_start(
    postgres: TestPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    assert refused(postgres, tmp_path).endswith("OTEL_EXPORTER_OTLP_PROTOCOL says something else")


def test_a_variable_of_opentelemetry_that_can_not_be_used_is_refused_at_the_start(
    postgres: TestPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    assert "max_queue_size must be a positive integer" in refused(postgres, tmp_path)


async def test_a_variable_that_opentelemetry_ignores_is_in_the_log(
    services: ServiceFactory, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "sometimes")
    with capture_logs() as lines:
        await services.start(traces="otlp")
    assert [line["text"] for line in lines if line["event"] == "opentelemetry"] == ["Couldn't recognize sampler …."]


async def test_what_opentelemetry_says_of_a_variable_does_not_bring_its_value_into_the_log(
    services: ServiceFactory, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "hidden-key")
    with capture_logs() as lines:
        await services.start(traces="otlp")
    [line] = [line for line in lines if line["event"] == "opentelemetry"]
    assert line["text"].startswith("Header format invalid!")
    assert "hidden-key" not in str(lines)


OFF = """
import asyncio
import sys
import webhook_grpc.cli
from webhook_grpc.app import App
from webhook_grpc.settings import load_settings
async def make():
    App(load_settings(), "", [bytes(32)], lambda: 0)
asyncio.run(make())
print([name for name in sys.modules if name.partition(".")[0] in ("opentelemetry", "requests")])
"""


@pytest.mark.parametrize("to_receivers", ["false", "true"])
def test_nothing_of_opentelemetry_is_imported_when_traces_are_off(to_receivers: str) -> None:
    environment = {"WEBHOOK_TRACEPARENT_TO_RECEIVERS": to_receivers, "PATH": ""}
    command = [sys.executable, "-c", OFF]
    ran = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=slowness.scaled(60)
    )
    assert (ran.stdout, ran.returncode) == ("[]\n", 0), ran.stderr

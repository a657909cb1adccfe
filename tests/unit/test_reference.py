"""The pages that are written from the source are up to date; the command shows the same."""

from __future__ import annotations

import re

import orjson
import pytest
from click.testing import CliRunner
from scripts.reference import ROOT, pages
from webhook.v1 import service_pb2

from webhook_grpc.cli import main
from webhook_grpc.commands.settings import described, standings
from webhook_grpc.server.http.routes import routes_of
from webhook_grpc.settings import PREFIX, Settings

SECRETS = {"DATABASE_URL", "EGRESS_PROXY_URL", "SECRET_KEYS", "TOKENS"}


def test_the_pages_are_as_the_source_says() -> None:
    for path, text in pages().items():
        assert path.read_text() == text, "run: make reference"


def test_the_page_of_http_names_each_kind_of_path() -> None:
    text = (ROOT / "docs" / "http.md").read_text()
    routes = routes_of(service_pb2.DESCRIPTOR.services_by_name["WebhookService"])
    kinds = {re.split(r"[/:]", route.path)[2] for route in routes}
    assert {"webhooks", "auditEntries"} <= kinds
    assert {kind for kind in kinds if f"/api/{kind}" not in text} == set()


def test_every_setting_is_described_with_what_it_does_and_what_it_may_be() -> None:
    found = described()
    assert [one.variable for one in found] == [PREFIX + name.upper() for name in Settings.model_fields]
    assert {one.variable.removeprefix(PREFIX) for one in found if one.is_secret} == SECRETS
    for one in found:
        assert one.group, one
        assert one.meaning.endswith("."), one
        assert len(one.meaning) > 20, one


@pytest.mark.parametrize(
    ("name", "default", "form"),
    [
        ("GRPC_ADDRESS", "127.0.0.1:50051", "host:port"),
        ("HTTP_PLAINTEXT", "false", "`true`, `false`"),
        ("PROCESSES", "1", "number from 1 to 64, `auto`"),
        ("BREAKER_FAILURE_SHARE", "0.7", "share above 0 to 1"),
        ("PREFETCH_BYTES_MAX", "64000000", "bytes from 1,000,000"),
        ("DISABLE_AFTER_SECONDS", "432000", "seconds from 1 to 31,536,000"),
        ("EVENTS_RETENTION_DAYS", "30", "days from 1 to 3,650"),
        ("RETRY_DELAYS_SECONDS", "5,30,120,600,1800,7200,18000,36000,50400,72000,86400", "list of seconds"),
        ("DATABASE_POOLER", "none", "`none`, `session`, `transaction`"),
        ("REFLECTION", "auto", "`true`, `false`, `auto`, `callers`"),
        ("TLS_KEY_FILE", "", "file"),
        ("TOKENS", "", "JSON"),
        ("SECRET_KEYS", "", "list"),
    ],
)
def test_defaults_and_bounds_are_those_of_the_source(name: str, default: str, form: str) -> None:
    [one] = [one for one in described() if one.variable == PREFIX + name]
    assert (one.default, one.form) == (default, form)


def test_values_come_from_the_environment_or_are_defaults() -> None:
    environment = {"WEBHOOK_POLL_SECONDS": "0.5", "WEBHOOK_LOG_LEVEL": "", "WEBHOOK_HTTP_ADDRESS": ""}
    found = {one.setting.variable: (one.value, one.origin) for one in standings(environment)}
    assert found["WEBHOOK_POLL_SECONDS"] == ("0.5", "environment")
    assert found["WEBHOOK_LOG_LEVEL"] == ("info", "default"), "empty is as if it were not set"
    assert found["WEBHOOK_HTTP_ADDRESS"] == ("", "environment"), "empty means none"
    assert found["WEBHOOK_LEASE_SECONDS"] == ("4", "default")
    assert found["WEBHOOK_DATA_DIR"][0] in {"~/.local/share/webhook-grpc", "/var/lib/webhook-grpc"}, "that of this user"


def listed(monkeypatch: pytest.MonkeyPatch, *arguments: str, status: int = 0, **variables: str) -> str:
    """What the command prints, with its errors at the end."""
    environment = dict.fromkeys((PREFIX + name.upper() for name in Settings.model_fields), "")
    for name, value in (environment | variables).items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
    ran = CliRunner().invoke(main, ["settings", *arguments])
    assert ran.exit_code == status, ran.output
    return ran.output


def test_no_value_of_a_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "canary0secret0canary0secret0canary0secret0A="
    given = {
        "WEBHOOK_DATABASE_URL": f"postgresql://app:{secret}@db/webhooks",
        "WEBHOOK_EGRESS_PROXY_URL": f"http://user:{secret}@proxy.example:3128",
        "WEBHOOK_SECRET_KEYS": secret,
        "WEBHOOK_TOKENS": f'[{{"name": "{secret}", "sha256": "{"0" * 64}"}}]',
    }
    for arguments in ((), ("-o", "json")):
        said = listed(monkeypatch, *arguments, status=0, **given)
        assert "canary" not in said
        assert len(re.findall("environment", said)) == len(given)


def test_as_json_each_setting_is_an_object(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [orjson.loads(line) for line in listed(monkeypatch, "-o", "json").splitlines()]
    assert [one["name"] for one in found] == [one.variable for one in described()]
    [lease] = [one for one in found if one["name"] == "WEBHOOK_LEASE_SECONDS"]
    assert (lease["value"], lease["origin"], lease["form"]) == ("4", "default", "seconds from 1 to 60")


def test_the_list_is_printed_though_a_value_is_refused_and_the_status_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    said = listed(monkeypatch, status=1, WEBHOOK_LEASE_SECONDS="0")
    assert "WEBHOOK_LEASE_SECONDS=0  # environment; seconds from 1 to 60" in said
    assert "WEBHOOK_TRACES=off  # default" in said
    assert "WEBHOOK_LEASE_SECONDS: must be at least 1" in said


def test_the_page_has_a_row_for_each_setting_and_no_other_page_has_a_table_of_them() -> None:
    there = [one.variable for one in described()]
    for path in (ROOT / "docs").glob("*.md"):
        rows = re.findall(r"^\| `(WEBHOOK_\w+)` \|", path.read_text(), re.MULTILINE)
        found = [name for name in rows if name in there]
        assert found == (there if path.name == "settings.md" else []), path.name


def test_the_text_of_a_setting_names_others_as_an_operator_writes_them() -> None:
    [one] = [one for one in described() if one.variable == "WEBHOOK_TLS_CERTIFICATE_FILE"]
    assert "`WEBHOOK_TLS_KEY_FILE`" in one.meaning


def test_the_index_by_question_leads_to_every_page() -> None:
    index = (ROOT / "docs/README.md").read_text()
    led_to = set(re.findall(r"\]\((?:\.\./)?([\w./-]+\.md)", index))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - led_to - {"README.md"} == set()

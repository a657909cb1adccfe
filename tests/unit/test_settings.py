"""Settings from the environment: defaults that are safe, and every mistake told at once without telling a secret."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from pydantic import ValidationError

from webhook_grpc.domain.access import Role
from webhook_grpc.domain.egress import EgressPolicy
from webhook_grpc.domain.retention import RetentionPolicy
from webhook_grpc.domain.retry import RetryPolicy
from webhook_grpc.process.credentials import load_tokens
from webhook_grpc.settings import (
    PREFIX,
    Settings,
    SettingsError,
    decode_secret_key,
    load_database_settings,
    load_settings,
    unknown_variables,
)

HASH = "0123456789abcdef" * 4
SECRET_KEY = base64.b64encode(bytes(range(32))).decode()
DATABASE_URL = "postgresql://app:canary-password@db.example.com/webhooks"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


def load(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    """The settings with these variables, named without their prefix and in lower case."""
    for name, value in variables.items():
        monkeypatch.setenv(PREFIX + name.upper(), value)
    return load_settings()


def problem_with(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """What is wrong with these variables."""
    with pytest.raises(SettingsError) as raised:
        load(monkeypatch, **variables)
    return str(raised.value)


def tokens(*entries: Mapping[str, object]) -> str:
    """WEBHOOK_TOKENS, or WEBHOOK_CLIENT_SANS."""
    return orjson.dumps(entries).decode()


# --- defaults and values ---------------------------------------------------------------------------------------------


def test_the_defaults_need_nothing_and_open_nothing() -> None:
    settings = load_settings()
    assert settings.database_url is None
    assert settings.grpc_address == "127.0.0.1:50051"
    assert settings.is_loopback
    assert settings.anonymous_allowed
    assert settings.egress_policy == EgressPolicy(allow_http=False, allowed_networks=(), denied_networks=())
    assert settings.retry_policy == RetryPolicy()
    assert settings.attempt_timeout_seconds == 15
    assert settings.data_dir.is_absolute()


def test_every_kind_of_value_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = load(
        monkeypatch,
        database_url=DATABASE_URL,
        data_dir=str(tmp_path),
        grpc_address="[::1]:0",
        reflection="false",
        secret_keys=f"{SECRET_KEY}, {SECRET_KEY}",
        egress_allow_http="true",
        egress_allow_cidrs="127.0.0.0/8, ::1/128",
        egress_deny_cidrs="8.8.8.0/24",
        retry_delays_seconds="1, 2.5,30",
        overload_delay_seconds_min="0",
        poll_seconds="0.5",
        log_level="debug",
    )
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == DATABASE_URL
    assert settings.data_dir == tmp_path
    assert settings.is_loopback
    assert settings.reflection is False
    assert [key.get_secret_value() for key in settings.secret_keys] == [SECRET_KEY, SECRET_KEY]
    assert settings.egress_policy == EgressPolicy(
        allow_http=True,
        allowed_networks=(ip_network("127.0.0.0/8"), ip_network("::1/128")),
        denied_networks=(ip_network("8.8.8.0/24"),),
    )
    assert settings.retry_policy == RetryPolicy((1.0, 2.5, 30.0), overload_delay_seconds_min=0)
    assert settings.poll_seconds == 0.5
    assert settings.log_level == "debug"


def test_tokens_are_a_json_list(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(
        monkeypatch,
        tokens=tokens(
            {"name": "operator", "sha256": HASH},
            {
                "name": "publisher",
                "sha256": HASH[::-1],
                "customer_id": 42,
                "permissions": ["publish"],
                "expires": "2027-01-31T00:00:00Z",
            },
        ),
    )
    operator, publisher = settings.tokens
    assert (operator.name, operator.sha256, operator.customer_id, operator.expires) == ("operator", HASH, None, None)
    assert operator.permissions == ("read", "publish", "manage")
    assert publisher.customer_id == 42
    assert publisher.permissions == ("publish",)
    assert publisher.expires == datetime(2027, 1, 31, tzinfo=UTC)


def test_what_is_given_wins_over_a_variable_whose_name_may_be_in_lower_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("webhook_log_level", "debug")
    assert load_settings().log_level == "debug"
    assert load_settings(log_level="error").log_level == "error"
    assert load_settings(log_format="json").model_fields_set == {"log_level", "log_format"}


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, poll_seconds="", tokens="", database_url="", allow_anonymous="")
    assert settings == load_settings()
    assert settings.database_url is None
    assert settings.allow_anonymous is None


def test_the_data_directory_may_be_below_the_home_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load(monkeypatch, data_dir="~/data").data_dir == tmp_path / "data"


def test_settings_can_not_be_changed_later() -> None:
    settings = load_settings()
    with pytest.raises(ValidationError):
        settings.poll_seconds = 1.0  # pyright: ignore[reportAttributeAccessIssue] - that is the point


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("grpc_address", "50051", "must be host:port"),
        ("grpc_address", ":50051", "must be host:port"),
        ("grpc_address", "127.0.0.1", "must be host:port"),
        ("grpc_address", "127.0.0.1:", "must be host:port"),
        ("grpc_address", "127.0.0.1:65536", "must be host:port"),
        ("grpc_address", "127.0.0.1:-1", "must be host:port"),
        ("grpc_address", "127.0.0.1:\u0665\u0660\u0660\u0665\u0661", "must be host:port"),
        ("grpc_address", "::1:50051", "must be host:port"),
        ("grpc_address", "[::1]", "must be host:port"),
        ("grpc_address", "unix:/tmp/socket", "must be host:port"),
        ("reflection", "perhaps", "must be true or false"),
        ("tokens", "not json", "must be a JSON list"),
        ("tokens", "[", "must be a JSON list"),
        ("tokens", '{"name": "x"}', "put the entry into brackets"),
        ("tokens", '"x"', "must be a list"),
        ("tokens", '["x"]', "must be an object"),
        ("secret_keys", "not base64!", "must be base64"),
        ("secret_keys", "AAAA", "must be base64 of 32 bytes"),
        ("secret_keys", f"{SECRET_KEY},AAAA", "must be base64 of 32 bytes"),
        ("secret_keys", "é" * 44, "ASCII"),
        ("egress_allow_http", "yes please", "must be true or false"),
        ("egress_allow_cidrs", "everything", "must be networks like"),
        ("egress_allow_cidrs", "10.0.0.0/33", "must be networks like"),
        ("egress_deny_cidrs", "10.0.0.1/8", "must be networks like"),
        ("retry_delays_seconds", "soon", "must be a number"),
        ("retry_delays_seconds", "5,-1", "at most 86400 seconds"),
        ("retry_delays_seconds", "0", "at most 86400 seconds"),
        ("retry_delays_seconds", "nan", "at most 86400 seconds"),
        ("retry_delays_seconds", "86401", "at most 86400 seconds"),
        ("retry_delays_seconds", ",".join(["1"] * 21), "at most 20 delays"),
        ("overload_delay_seconds_min", "-1", "must be at least 0"),
        ("overload_delay_seconds_min", "3601", "must be at most 3600"),
        ("attempt_timeout_seconds", "0.5", "must be at least 1"),
        ("attempt_timeout_seconds", "31", "must be at most 30"),
        ("attempt_timeout_seconds", "nan", "must be at"),
        ("webhook_in_flight_max", "0", "must be at least 1"),
        ("webhook_in_flight_max", "101", "must be at most 100"),
        ("webhook_in_flight_max", "2.5", "must be a whole number"),
        ("customer_in_flight_max", "0", "must be at least 1"),
        ("process_in_flight_max", "0", "must be at least 1"),
        ("webhooks_per_customer_max", "0", "must be at least 1"),
        ("webhooks_per_customer_max", "1001", "must be at most 1000"),
        ("event_types_max", "6", "must be at least 7"),
        ("event_types_max", "10001", "must be at most 10000"),
        ("lease_seconds", "0.5", "must be at least 1"),
        ("lease_seconds", "61", "must be at most 60"),
        ("poll_seconds", "0", "must be at least 0.02"),
        ("poll_seconds", "11", "must be at most 10"),
        ("poll_seconds", "inf", "must be at most 10"),
        ("lane_prefetch_max", "0", "must be at least 1"),
        ("prefetch_bytes_max", "999999", "must be at least 1000000"),
        ("settle_batch_max", "5001", "must be at most 5000"),
        ("settle_wait_seconds", "1.5", "must be at most 1"),
        ("drain_seconds", "601", "must be at most 600"),
        ("shutdown_delay_seconds", "301", "must be at most 300"),
        ("response_body_bytes_max", "16385", "must be at most 16384"),
        ("publish_batch_max", "5001", "must be at most 5000"),
        ("publish_waiting_max", "499", "must be at least 500"),
        ("publish_waiting_bytes_max", "9999999", "must be at least 10000000"),
        ("publish_rate_per_customer", "-1", "must be at least 0"),
        ("calls_max", "0", "must be at least 1"),
        ("streams_max", "0", "must be at least 1"),
        ("stream_buffer_max", "99", "must be at least 100"),
        ("stream_write_seconds_max", "0", "must be at least 0.1"),
        ("call_seconds_max", "301", "must be at most 300"),
        ("database_pool_size", "0", "must be at least 1"),
        ("database_timeout_seconds", "0", "must be at least 0.1"),
        ("metrics_address", "9464", "must be host:port"),
        ("metrics_poll_seconds", "0", "must be at least 0.1"),
        ("log_level", "loud", "'debug', 'info', 'warning' or 'error'"),
        ("log_format", "xml", "'auto', 'json' or 'console'"),
    ],
)
def test_a_bad_value_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, problem: str
) -> None:
    message = problem_with(monkeypatch, **{name: value})
    assert message.startswith(f"WEBHOOK_{name.upper()}")
    assert problem in message


@pytest.mark.parametrize(
    ("entry", "where"),
    [
        ({"sha256": HASH}, "entry 1, name"),
        ({"name": "", "sha256": HASH}, "entry 1, name"),
        ({"name": "n" * 65, "sha256": HASH}, "entry 1, name"),
        ({"name": "x"}, "entry 1, sha256"),
        ({"name": "x", "sha256": "canary-token"}, "entry 1, sha256"),  # the token instead of its hash
        ({"name": "x", "sha256": HASH.upper()}, "entry 1, sha256"),
        ({"name": "x", "sha256": HASH + "\n"}, "entry 1, sha256"),
        ({"name": "x", "sha256": HASH, "customer_id": 0}, "entry 1, customer_id"),
        ({"name": "x", "sha256": HASH, "customer_id": 2**63}, "entry 1, customer_id"),
        ({"name": "x", "sha256": HASH, "permissions": ["write"]}, "entry 1, permissions, entry 1"),
        ({"name": "x", "sha256": HASH, "expires": "tomorrow"}, "entry 1, expires"),
        ({"name": "x", "sha256": HASH, "expires": "2027-01-31T00:00:00"}, "entry 1, expires"),
        (
            {"name": "x", "sha256": HASH, "costumer_id": 42},
            "entry 1, costumer_id",
        ),  # misspelt it would mean all customers
    ],
)
def test_a_bad_token_is_refused_by_its_place(
    monkeypatch: pytest.MonkeyPatch, entry: dict[str, object], where: str
) -> None:
    message = problem_with(monkeypatch, tokens=tokens(entry))
    assert message.startswith(f"WEBHOOK_TOKENS, {where}: ")
    assert "canary" not in message


def test_everything_that_is_wrong_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    message = problem_with(
        monkeypatch,
        grpc_address="nowhere",
        poll_seconds="99",
        log_level="loud",
        secret_keys="AAAA",
        egress_allow_cidrs="127.0.0.0/8,somewhere,elsewhere",
        retry_delays_seconds="1,soon",
        tokens=tokens({"name": "x", "sha256": HASH}, {"name": "y", "sha256": "z"}),
    )
    assert sorted(problem.split(":")[0] for problem in message.split("; ")) == [
        "WEBHOOK_EGRESS_ALLOW_CIDRS",
        "WEBHOOK_GRPC_ADDRESS",
        "WEBHOOK_LOG_LEVEL",
        "WEBHOOK_POLL_SECONDS",
        "WEBHOOK_RETRY_DELAYS_SECONDS, entry 2",
        "WEBHOOK_SECRET_KEYS",
        "WEBHOOK_TOKENS, entry 2, sha256",
    ]


def test_everything_that_is_wrong_with_one_token_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    message = problem_with(monkeypatch, tokens=tokens({"name": "", "sha256": "z", "customer_id": -1}))
    assert "WEBHOOK_TOKENS, entry 1, name: " in message
    assert "WEBHOOK_TOKENS, entry 1, sha256: " in message
    assert "WEBHOOK_TOKENS, entry 1, customer_id: " in message


@pytest.mark.parametrize(
    "variables",
    [
        {"secret_keys": "canary-key"},
        {"secret_keys": f"{SECRET_KEY},Y2FuYXJ5"},
        {"database_url": DATABASE_URL},
        {"database_url": DATABASE_URL, "grpc_address": "0.0.0.0:50051", "poll_seconds": "99"},
        {"tokens": "canary-token"},
        {"tokens": '["canary-token"]'},
        {"tokens": '{"token": "canary-token"}'},
        {"tokens": '[{"name": "x", "sha256": "canary-token", "secret": "canary-secret", "expires": "canary"}]'},
        {"tokens": '[{"name": "x", "sha256": "canary-token"'},
    ],
)
def test_no_secret_stands_in_the_message(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    message = problem_with(monkeypatch, **variables)
    assert "canary" not in message
    assert "Y2FuYXJ5" not in message


def test_no_secret_stands_in_the_settings_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, database_url=DATABASE_URL, secret_keys=SECRET_KEY)
    assert "canary" not in f"{settings!r} {settings}"
    assert SECRET_KEY not in f"{settings!r} {settings}"


def test_hosts_that_may_be_called_are_names_and_suffixes(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, egress_allow_hosts=" Receiver., *.svc.cluster.local,,hooks.internal")
    assert settings.egress_policy.allowed_hosts == ("receiver", "*.svc.cluster.local", "hooks.internal")


def test_all_hosts_that_may_not_be_allowed_are_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    message = problem_with(monkeypatch, egress_allow_hosts="receiver,10.0.0.1,*.com")
    assert message == (
        "WEBHOOK_EGRESS_ALLOW_HOSTS: 10.0.0.1 must be a name: addresses belong into WEBHOOK_EGRESS_ALLOW_CIDRS, "
        "*.com must not open a whole top-level domain"
    )


# --- what does not go together ---------------------------------------------------------------------------------------


def test_white_space_around_the_database_url_is_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that was made with `echo` has a line end."""
    monkeypatch.setenv("WEBHOOK_DATABASE_URL", " postgresql://host/db\n")
    url = load_database_settings().database_url
    assert url is not None
    assert url.get_secret_value() == "postgresql://host/db"
    monkeypatch.setenv("WEBHOOK_DATABASE_URL", " \n")
    assert load_database_settings().database_url is None


def test_where_the_database_is_needs_no_other_setting_to_be_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_DATABASE_URL", "postgresql://host/db")
    monkeypatch.setenv("WEBHOOK_POLL_SECONDS", "often")
    assert load_database_settings().database_url is not None


def test_a_database_of_ones_own_needs_secret_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    message = problem_with(monkeypatch, database_url=DATABASE_URL)
    assert message.startswith("WEBHOOK_DATABASE_URL needs WEBHOOK_SECRET_KEYS or WEBHOOK_SECRET_KEYS_FILE")


@pytest.mark.parametrize("keys", [{"secret_keys": SECRET_KEY}, {"secret_keys_file": "/run/secrets/keys"}])
def test_a_database_of_ones_own_takes_keys_from_a_variable_or_a_file(
    monkeypatch: pytest.MonkeyPatch, keys: dict[str, str]
) -> None:
    assert load(monkeypatch, database_url=DATABASE_URL, **keys).database_url is not None


REACHABLE = ["0.0.0.0:50051", "[::]:50051", "10.0.0.1:50051", "webhooks.example.com:50051", "[2606:4700::1]:0"]
LOOPBACK = ["127.0.0.1:50051", "127.9.9.9:0", "[::1]:50051", "localhost:50051"]


@pytest.mark.parametrize("address", REACHABLE)
def test_an_address_that_others_can_reach_needs_tokens(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    message = problem_with(monkeypatch, grpc_address=address)
    assert message.startswith("WEBHOOK_GRPC_ADDRESS is reachable from other machines")


@pytest.mark.parametrize("address", REACHABLE)
def test_with_tokens_others_may_reach_it_and_nobody_is_anonymous(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    settings = load(monkeypatch, grpc_address=address, tokens=tokens({"name": "x", "sha256": HASH}))
    assert not settings.is_loopback
    assert not settings.anonymous_allowed


def test_a_file_of_tokens_counts_as_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, grpc_address="0.0.0.0:50051", tokens_file="/run/secrets/tokens")
    assert not settings.anonymous_allowed


@pytest.mark.parametrize("address", LOOPBACK)
def test_a_loopback_address_may_be_used_by_anybody(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    settings = load(monkeypatch, grpc_address=address)
    assert settings.is_loopback
    assert settings.anonymous_allowed


def test_tokens_on_a_loopback_address_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not load(monkeypatch, tokens=tokens({"name": "x", "sha256": HASH})).anonymous_allowed


# --- HTTP ------------------------------------------------------------------------------------------------------------


def test_http_that_others_can_reach_needs_tokens_and_a_word_that_it_is_plain_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    message = problem_with(monkeypatch, http_address="0.0.0.0:8080")
    assert message.startswith("WEBHOOK_HTTP_ADDRESS is reachable from other machines, so WEBHOOK_TOKENS")
    assert "set WEBHOOK_HTTP_PLAINTEXT=true" in message
    known = tokens({"name": "x", "sha256": HASH})
    assert "plain text" in problem_with(monkeypatch, http_address="0.0.0.0:8080", tokens=known)
    assert not load(monkeypatch, http_address="0.0.0.0:8080", tokens=known, http_plaintext="true").is_loopback


def test_http_that_others_can_reach_makes_nobody_anonymous_over_grpc_either(monkeypatch: pytest.MonkeyPatch) -> None:
    known = tokens({"name": "x", "sha256": HASH})
    settings = load(monkeypatch, http_address="0.0.0.0:8080", http_plaintext="true", tokens=known)
    assert not settings.anonymous_allowed


def test_an_address_that_others_can_reach_has_no_default_customer(monkeypatch: pytest.MonkeyPatch) -> None:
    reachable = {"http_address": "0.0.0.0:8080", "http_plaintext": "true", "allow_anonymous": "true"}
    assert load(monkeypatch, **reachable).default_customer is None


OPEN = {"grpc_address": "0.0.0.0:50051", "http_address": "0.0.0.0:8080"}
TLS = {"tls_certificate_file": "tls.crt", "tls_key_file": "tls.key"}


def test_http_that_others_can_reach_may_have_tls_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    known = tokens({"name": "x", "sha256": HASH})
    assert not load(monkeypatch, http_address="0.0.0.0:8080", tokens=known, **TLS).is_loopback


def test_a_certificate_of_each_client_is_as_good_as_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    authorities = {"grpc_client_ca_file": "ca.crt", "http_client_ca_file": "ca.crt"}
    assert load(monkeypatch, **OPEN, **TLS, **authorities).anonymous_allowed


@pytest.mark.parametrize(("with_mtls", "without"), [("GRPC", "HTTP"), ("HTTP", "GRPC")])
def test_a_door_without_mtls_needs_tokens_even_if_the_other_has_it(
    monkeypatch: pytest.MonkeyPatch, with_mtls: str, without: str
) -> None:
    message = problem_with(monkeypatch, **OPEN, **TLS, **{f"{with_mtls.lower()}_client_ca_file": "ca.crt"})
    assert message.startswith(f"WEBHOOK_{without}_ADDRESS is reachable from other machines, so WEBHOOK_TOKENS")


@pytest.mark.parametrize("name", ["grpc", "http"])
def test_mtls_needs_a_certificate_of_the_service(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    message = problem_with(monkeypatch, **{f"{name}_client_ca_file": "ca.crt"})
    assert message.startswith(f"WEBHOOK_{name.upper()}_CLIENT_CA_FILE needs WEBHOOK_TLS_CERTIFICATE_FILE")


@pytest.mark.parametrize("name", TLS)
def test_a_certificate_and_its_key_need_each_other(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert problem_with(monkeypatch, **{name: "file"}).endswith("need each other")


def test_grpc_in_plain_text_that_others_can_reach_is_warned_of_unless_somebody_means_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reachable = {"grpc_address": "0.0.0.0:50051", "tokens": tokens({"name": "x", "sha256": HASH})}
    warning = load(monkeypatch, **reachable).plain_text_warning
    assert warning is not None
    assert "WEBHOOK_GRPC_PLAINTEXT=true" in warning
    assert load(monkeypatch, **reachable, grpc_plaintext="true").plain_text_warning is None


def test_grpc_with_tls_or_on_loopback_is_not_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    reachable = {"grpc_address": "0.0.0.0:50051", "tokens": tokens({"name": "x", "sha256": HASH})}
    assert load(monkeypatch, **reachable, **TLS).plain_text_warning is None
    monkeypatch.undo()
    assert load(monkeypatch).plain_text_warning is None


def test_no_http_is_no_address_that_others_can_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, http_address="")
    assert settings.http_address == "", "an empty variable means no HTTP here, and not the default"
    assert settings.is_loopback


def test_metrics_may_be_reached_without_a_token_and_in_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, metrics_address="0.0.0.0:9464")
    assert (settings.metrics_address, settings.is_metrics_loopback) == ("0.0.0.0:9464", False)
    assert settings.is_loopback, "the API is not where metrics are"
    assert settings.default_customer == 1


@pytest.mark.parametrize("name", ["http_address", "grpc_address"])
def test_metrics_need_an_address_of_their_own(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    message = problem_with(monkeypatch, **{name: "127.0.0.1:9464", "metrics_address": "127.0.0.1:9464"})
    assert message.startswith("WEBHOOK_METRICS_ADDRESS must be an address of its own")
    assert load(monkeypatch, **{name: "127.0.0.1:0", "metrics_address": "127.0.0.1:0"}).metrics_address


@pytest.mark.parametrize("origins", ["*", "https://*.example.com", "https://example.com/", "example.com", "null"])
def test_origins_are_named_one_by_one(monkeypatch: pytest.MonkeyPatch, origins: str) -> None:
    assert "must be origins like" in problem_with(monkeypatch, http_allow_origins=origins)


@pytest.mark.parametrize(
    ("given", "customer"),
    [
        ({}, 1),
        ({"default_customer_id": "7"}, 7),
        ({"default_customer_id": "0"}, None),
        ({"tokens": [{"name": "x", "sha256": HASH}]}, None),
        ({"tokens": [{"name": "x", "sha256": HASH}], "default_customer_id": "7"}, 7),
    ],
)
def test_calls_that_name_no_customer_are_for_the_first_one_only_on_the_default_start(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], customer: int | None
) -> None:
    values = {name: tokens(*value) if name == "tokens" else value for name, value in given.items()}
    assert load(monkeypatch, **values).default_customer == customer


def test_an_operator_may_leave_a_reachable_address_open_by_saying_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(monkeypatch, grpc_address="0.0.0.0:50051", allow_anonymous="true").anonymous_allowed


def test_an_operator_who_forbids_anonymous_calls_gets_none_on_a_reachable_address_without_tokens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its tokens are those of the database."""
    assert not load(monkeypatch, grpc_address="0.0.0.0:50051", allow_anonymous="false").anonymous_allowed


def test_an_operator_who_forbids_anonymous_calls_gets_none_on_a_loopback_address_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    try:
        settings = load(monkeypatch, allow_anonymous="false")
    except SettingsError:
        return
    assert not settings.anonymous_allowed


def test_tokens_and_anonymous_calls_exclude_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    message = problem_with(monkeypatch, allow_anonymous="true", tokens=tokens({"name": "x", "sha256": HASH}))
    assert message == "WEBHOOK_ALLOW_ANONYMOUS=true excludes tokens and WEBHOOK_CLIENT_SANS"


def test_settings_that_do_not_go_together_are_told_at_once_too(monkeypatch: pytest.MonkeyPatch) -> None:
    message = problem_with(monkeypatch, database_url=DATABASE_URL, grpc_address="0.0.0.0:50051")
    assert "WEBHOOK_DATABASE_URL needs" in message
    assert "WEBHOOK_GRPC_ADDRESS is reachable" in message


# --- helpers ---------------------------------------------------------------------------------------------------------


def test_a_secret_key_is_base64_of_32_bytes() -> None:
    assert decode_secret_key(SECRET_KEY) == bytes(range(32))


@pytest.mark.parametrize("text", ["", "AAAA", "*" * 44, SECRET_KEY.rstrip("="), SECRET_KEY + "\n", "é" * 44])
def test_anything_else_is_no_secret_key(text: str) -> None:
    with pytest.raises(ValueError, match=r"base64|ASCII") as raised:
        decode_secret_key(text)
    assert not text or text not in str(raised.value)


def test_misspelt_variables_are_found() -> None:
    environment = {
        "WEBHOOK_DATABSE_URL": "x",
        "WEBHOOK_poll_seconds": "x",
        "WEBHOOK_POLL_SECONDS": "x",
        "WEBHOOK_TEST_DATABASE_URL": "x",
        "PATH": "x",
        "MY_WEBHOOK_URL": "x",
    }
    assert unknown_variables(environment) == ["WEBHOOK_DATABSE_URL", "WEBHOOK_poll_seconds"]


def test_the_log_is_kept_at_least_as_long_as_the_events(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, events_retention_days="7", attempts_retention_days="7")
    assert settings.retention_policy == RetentionPolicy(7, 7, 168, 400)
    message = problem_with(monkeypatch, events_retention_days="8")
    assert message.startswith("WEBHOOK_ATTEMPTS_RETENTION_DAYS must be at least WEBHOOK_EVENTS_RETENTION_DAYS: ")


@pytest.mark.parametrize(
    "name", ["events_retention_days", "attempts_retention_days", "idempotency_keys_retention_hours"]
)
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "100000"])
def test_nothing_is_kept_for_no_time_or_for_ever(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    assert name.upper() in problem_with(monkeypatch, **{name: value})


# --- callers by their certificates -----------------------------------------------------------------------------------

SHOP: Final = {"name": "shop", "san": "URI:spiffe://example.org/shop", "role": "publisher", "customer_ids": [7]}
MTLS: Final = {**TLS, "grpc_client_ca_file": "ca.crt"}


def test_names_in_certificates_are_callers_and_nobody_is_anonymous_then(monkeypatch: pytest.MonkeyPatch) -> None:
    dns = {"name": "all", "san": "DNS:Ops.Example.org", "role": "admin"}
    settings = load(monkeypatch, **OPEN, **MTLS, client_sans=tokens(SHOP, dns))
    assert not settings.anonymous_allowed
    shop, everybody = settings.client_sans
    assert (shop.san, shop.role, shop.customer_ids) == (SHOP["san"], Role.PUBLISHER, (7,))
    assert (everybody.san, everybody.customer_ids) == ("DNS:ops.example.org", None)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"san": "spiffe://example.org/shop"}, "san: must be one whole name as `openssl"),
        ({"san": "DNS:*.example.org"}, "san: must be one whole name as `openssl"),
        ({"san": "DNS:a.example.org, DNS:b.example.org"}, "san: must be one whole name as `openssl"),
        ({"san": "email:a@example.org"}, "san: must be one whole name as `openssl"),
        ({"san": "URI:"}, "san: must be one whole name as `openssl"),
        ({"san": "URI:spiffe://example.org/é"}, "san: must be one whole name as `openssl"),
        ({"role": "owner"}, "role: must be 'admin', 'publisher' or 'viewer'"),
        ({"role": None}, "role: must be 'admin', 'publisher' or 'viewer'"),
        ({"customer_ids": []}, "customer_ids: must have at least 1 entry"),
        ({"customer_ids": [0]}, "customer_ids, entry 1: must be more than 0"),
        ({"customer_id": 7}, "customer_id: is not a known field"),
        ({"name": ""}, "name: must have at least 1 character"),
    ],
)
def test_a_bad_name_in_certificates_is_refused_by_its_place(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, object], problem: str
) -> None:
    assert problem_with(monkeypatch, **MTLS, client_sans=tokens({**SHOP, **change})).startswith(
        f"WEBHOOK_CLIENT_SANS, entry 1, {problem}"
    )


def test_a_name_in_certificates_stands_for_one_caller_and_needs_mtls(monkeypatch: pytest.MonkeyPatch) -> None:
    twice = tokens({**SHOP, "san": "DNS:a.example"}, {**SHOP, "san": "DNS:A.example", "role": "admin"})
    assert problem_with(monkeypatch, **MTLS, client_sans=twice) == (
        "WEBHOOK_CLIENT_SANS: must have each name once: DNS:a.example"
    )
    monkeypatch.undo()
    assert problem_with(monkeypatch, **TLS, client_sans=tokens(SHOP)).startswith(
        "WEBHOOK_CLIENT_SANS needs WEBHOOK_GRPC_CLIENT_CA_FILE or WEBHOOK_HTTP_CLIENT_CA_FILE"
    )
    monkeypatch.undo()
    problem = problem_with(monkeypatch, **MTLS, client_sans=tokens(SHOP), allow_anonymous="true")
    assert problem == "WEBHOOK_ALLOW_ANONYMOUS=true excludes tokens and WEBHOOK_CLIENT_SANS"


# --- the tokens' own file --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "{path} cannot be read: No such file or directory"),
        ("[", "{path} must hold a JSON list: "),
        ('{"name": "x"}', "{path}: must be a list"),
        ('[{"name": "x", "sha256": "canary"}]', "{path}, entry 1, sha256: must have the form ^[0-9a-f]{{64}}$"),
        ('[{"name": "x"}]', "{path}, entry 1, sha256: is missing"),
    ],
)
def test_a_tokens_file_that_cannot_be_used_is_named_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None, problem: str
) -> None:
    path = tmp_path / "tokens.json"
    if content is not None:
        path.write_text(content)
    settings = load(monkeypatch, tokens_file=str(path))
    with pytest.raises(SettingsError) as raised:
        load_tokens(settings)
    said = str(raised.value)
    assert said.startswith("WEBHOOK_TOKENS_FILE")
    assert problem.format(path=path) in said
    assert "canary" not in said

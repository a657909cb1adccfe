"""`doctor --server` judges this environment as a start would, changes nothing and shows no secret."""

from __future__ import annotations

import base64
import json
import os
import resource
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
from webhook.v1 import service_pb2, token_pb2

from tests.cli.running import Program
from tests.support.ports import free_port
from tests.support.postgres import TestPostgres
from tests.support.receiver import Receiver
from tests.support.service import SECRET_KEY, Service, ServiceFactory
from webhook_grpc.commands.doctor import findings, judged_keys, judged_limit, judged_schema
from webhook_grpc.commands.findings import Finding
from webhook_grpc.commands.resealing import KeyUse
from webhook_grpc.domain.sealing import key_id_of, key_id_text
from webhook_grpc.domain.tokens import token_hash
from webhook_grpc.store.connection.placing import Place
from webhook_grpc.store.registry.resealing import Kind

live = pytest.mark.asyncio(loop_scope="module")
KEY, OTHER_KEY = base64.b64encode(SECRET_KEY).decode(), base64.b64encode(bytes(32)).decode()
OF_SERVER = ["hosts", "database TLS", "pooler", "locale", "session settings", "connections"]
OF_SCHEMA = ["schema", "role", "statistics", "caller", "secret keys"]
CHECKS = ["settings", "tokens", "TLS", "egress", "file limit", "database", *OF_SERVER, *OF_SCHEMA]


def found(**environment: str) -> dict[str, Finding]:
    """Returns what is found in an environment of exactly these settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WEBHOOK_")}
    with patch.dict(os.environ, {**kept, **environment}, clear=True):
        by_check = {one.check: one for one in findings()}
    assert list(by_check) == CHECKS
    return by_check


def states(by_check: dict[str, Finding]) -> dict[str, str]:
    return {check: one.state for check, one in by_check.items() if one.state != "ok"}


def use(key_id: int, position: int | None, count: int) -> KeyUse:
    return KeyUse(key_id, position, {kind: count if kind is Kind.SECRETS else 0 for kind in Kind}, 1, 1)


def test_keys_that_are_lacked_are_a_problem_unless_they_are_known_to_be_lost() -> None:
    lacked = [use(1, 1, 5), use(2, None, 3), use(3, None, 0)]
    problem = judged_keys(lacked, ())
    assert (problem.state, "webhook-grpc keys rotate" in problem.remedy) == ("problem", True)
    assert f"3 with {key_id_text(2)}" in problem.detail
    assert judged_keys(lacked, (key_id_text(2),)).state == "ok"
    assert "4 sealed with older keys" in judged_keys([use(1, 1, 5), use(2, 2, 4)], ()).detail


def test_a_schema_says_whether_an_upgrade_was_ended() -> None:
    place = Place("", "webhook_grpc")
    assert judged_schema(place) == Finding("schema", "ok", "webhook_grpc: that of this version")
    open_one = judged_schema(replace(place, left=("0018-sealing-begins.post",)))
    assert (open_one.state, open_one.detail) == (
        "warning",
        "webhook_grpc: the upgrade to this version was not ended (0018-sealing-begins.post)",
    )
    assert "migrate --after-deployment" in open_one.remedy
    newer = judged_schema(replace(place, newer=("0019-later.pre",), left=("0018-sealing-begins.post",)))
    assert (newer.state, newer.detail) == (
        "ok",
        "webhook_grpc: a newer version's, beside which this one works (0019-later.pre)",
    )


def test_wrong_settings_are_named_without_their_values() -> None:
    by_check = found(WEBHOOK_SECRET_KEYS="hunter2hunter2", WEBHOOK_POLL_SECONDS="often")
    assert states(by_check) == {"settings": "problem"} | dict.fromkeys(CHECKS[1:], "skipped")
    assert "WEBHOOK_POLL_SECONDS" in by_check["settings"].detail
    assert "hunter2" not in str(by_check)


def test_a_misspelt_setting_is_a_warning(tmp_path: Path) -> None:
    by_check = found(WEBHOOK_POL_SECONDS="1", WEBHOOK_DATA_DIR=str(tmp_path / "none"))
    assert (by_check["settings"].state, "WEBHOOK_POL_SECONDS" in by_check["settings"].detail) == ("warning", True)


def test_no_embedded_database_is_made_by_looking(tmp_path: Path) -> None:
    by_check = found(WEBHOOK_DATA_DIR=str(tmp_path / "none"))
    assert states(by_check) == dict.fromkeys(CHECKS[5:], "skipped")
    assert not (tmp_path / "none").exists()


def test_a_database_that_is_away_is_a_problem_and_its_password_is_not_shown() -> None:
    url = f"postgresql://service:hunter2@127.0.0.1:{free_port()}/webhooks"
    by_check = found(WEBHOOK_DATABASE_URL=url, WEBHOOK_SECRET_KEYS=KEY)
    assert states(by_check) == {"database": "problem"} | dict.fromkeys(CHECKS[6:], "skipped")
    assert "hunter2" not in str(by_check)


def test_a_database_without_a_schema_is_one_command_away(postgres: TestPostgres) -> None:
    url = postgres.create_database("doctor_empty")
    try:
        by_check = found(WEBHOOK_DATABASE_URL=url, WEBHOOK_SECRET_KEYS=KEY)
    finally:
        postgres.drop_database("doctor_empty")
    assert states(by_check) == {"schema": "problem"} | dict.fromkeys(OF_SCHEMA[1:], "skipped")
    assert "run `webhook-grpc migrate`" in by_check["schema"].detail


def test_a_proxy_that_is_away_is_a_problem_and_its_password_is_not_shown(tmp_path: Path) -> None:
    by_check = found(
        WEBHOOK_EGRESS_PROXY_URL=f"http://user:hunter2@127.0.0.1:{free_port()}", WEBHOOK_DATA_DIR=str(tmp_path)
    )
    assert by_check["egress"].state == "problem"
    assert "hunter2" not in str(by_check)


def test_what_requests_may_reach_is_said(tmp_path: Path) -> None:
    usual = found(WEBHOOK_DATA_DIR=str(tmp_path))["egress"]
    open_one = found(
        WEBHOOK_DATA_DIR=str(tmp_path), WEBHOOK_EGRESS_ALLOW_HTTP="true", WEBHOOK_EGRESS_ALLOW_CIDRS="10.0.0.0/8"
    )["egress"]
    assert usual.detail == "not to loopback and private networks; https only"
    assert open_one.detail == "also to 10.0.0.0/8; http and https"


def test_a_file_limit_that_is_too_low_says_what_to_set() -> None:
    assert judged_limit(3000, 3000) == Finding("file limit", "ok", "3,000 descriptors, 3,000 needed")
    low = judged_limit(1024, 3000)
    assert (low.state, low.detail, "LimitNOFILE=3000" in low.remedy) == (
        "warning",
        "1,024 descriptors, 3,000 needed",
        True,
    )
    assert judged_limit(resource.RLIM_INFINITY, 3000).state == "ok"


@live
@pytest.mark.slow(3)
async def test_the_caller_is_named_by_its_id_and_role_and_never_by_its_secret(
    services: ServiceFactory, home: Path
) -> None:
    given = [{"name": "ops", "sha256": token_hash("ops"), "permissions": ["read", "publish", "admin"]}]
    service = await services.start(tokens=json.dumps(given))
    token = token_pb2.Token(role=token_pb2.TOKEN_ROLE_PUBLISHER, customer_ids=[7], description="deploy-bot")
    request = service_pb2.CreateTokenRequest(token=token)
    made = await service.stub.CreateToken(request, metadata=[("authorization", "Bearer ops")])
    settings = {"DATABASE_URL": services.database_url, "SECRET_KEYS": KEY, "TOKENS": json.dumps(given)}
    program = Program(
        home, {"WHK_ADDRESS": service.address} | {f"WEBHOOK_{name}": text for name, text in settings.items()}
    )

    async def caller(**more: str) -> dict[str, str]:
        ran = await program.run("doctor --server -o json", **more)
        assert made.bearer_token.partition(f"_{made.token_id}_")[2] not in ran.stdout + ran.stderr
        [found] = [one for one in ran.objects if one["check"] == "caller"]
        return found

    stored = await caller(WHK_TOKEN=made.bearer_token)
    assert stored["detail"] == f"whk_{made.token_id}, customer 7, role publisher: publish"
    assert (await caller(WHK_TOKEN="ops"))["detail"] == "ops, all customers, read publish admin"
    wrong = await caller(WHK_TOKEN=f"whk_{made.token_id}_{'x' * 43}")
    assert (wrong["state"], wrong["detail"]) == ("problem", "the token is not known")
    assert (await caller())["state"] == "skipped"


@live
async def test_all_is_well_beside_a_service_that_runs_and_a_lacking_key_is_named(
    program: Program, service: Service, receiver: Receiver, postgres: TestPostgres
) -> None:
    await service.create_webhook(receiver.url())
    environment = {"WEBHOOK_DATABASE_URL": postgres.url, "WEBHOOK_SECRET_KEYS": KEY}
    ran = (await program.run("doctor --server -o json", **environment)).ok()
    by_check = {one["check"]: one for one in ran.objects}
    assert list(by_check)[-len(CHECKS) :] == CHECKS
    assert by_check["database"]["detail"].startswith("Postgres ")
    wrong = await program.run("doctor --server -o json", **{**environment, "WEBHOOK_SECRET_KEYS": OTHER_KEY})
    problem = wrong.objects[-1]
    assert (wrong.status, problem["check"], problem["state"]) == (1, "secret keys", "problem")
    assert f"1 with {key_id_text(key_id_of(SECRET_KEY))}" in problem["detail"]
    assert not any(text in ran.stdout + wrong.stdout for text in (KEY, OTHER_KEY))

"""Callers by a name in their certificates: what each may do over either door, and what the audit says."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, LiteralString, cast

import aiohttp
import grpc
import pytest
import pytest_asyncio
from webhook.v1 import service_pb2 as pb

from tests.api.asking import METHODS, OTHER_CUSTOMER, World, ask, code_of, refusal, valid_requests
from tests.api.test_auth import (
    OF_CUSTOMERS,
    PERMISSIONS,
    TAKES_A_TOKEN_FOR_ALL,
    TOKENS,
    bearer,
    furnish,
    served,
)
from tests.support.authority import Authority, MountedSecret
from tests.support.postgres import TestPostgres
from tests.support.process import ROOT, run
from tests.support.service import CUSTOMER, Service, ServiceFactory
from webhook_grpc.domain.access import PERMISSIONS_OF_ROLES, Role
from webhook_grpc.server.grpc.reflection import SERVICES as REFLECTION_SERVICES
from webhook_grpc.settings import ClientSan

Client = tuple[Path, Path]
pytestmark = pytest.mark.asyncio(loop_scope="module")


def client(name: str, role: Role, *customer_ids: int, kind: str = "URI:spiffe://example.org/") -> ClientSan:
    """A caller by a name in its certificate."""
    return ClientSan(name=name, san=f"{kind}{name}", role=role, customer_ids=customer_ids or None)


CLIENTS: Final = (
    *(client(role.value, role, CUSTOMER, kind="DNS:") for role in Role),
    *(client(f"{role.value}-for-all", role) for role in Role),
    client("other", Role.ADMIN, OTHER_CUSTOMER),
)
OF_ROLES: Final = {one.name: (one.san,) for one in CLIENTS}
STRANGERS: Final[Mapping[str, tuple[str, ...]]] = {
    "unnamed": ("DNS:client.example",),
    "a URI as DNS": ("DNS:spiffe://example.org/admin-for-all", "email:admin@example.org"),
    "a DNS name as URI": ("URI:admin",),
    "several": (*OF_ROLES["admin"], *OF_ROLES["other"]),
}


LAST_CHANGE: Final[LiteralString] = """
SELECT method, caller, caller_token_id, source_address FROM audit_entries
WHERE result = 'OK'
ORDER BY entry_id DESC LIMIT 1
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def shared_settings(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """It knows CLIENTS, and TOKENS too."""
    secret = MountedSecret(tmp_path_factory.mktemp("served") / "secret", *authority.issue())
    return {
        "tokens": TOKENS,
        "client_sans": CLIENTS,
        "http_address": "127.0.0.1:0",
        "grpc_client_ca_file": authority.file,
        "http_client_ca_file": authority.file,
        "replay_poll_seconds": 60.0,
        **secret.settings,
    }


@pytest.fixture(scope="module")
def certificates(authority: Authority) -> Mapping[str, Client]:
    """Certificates and keys, by the names of callers and strangers."""
    return {name: authority.client_named(*sans) for name, sans in {**OF_ROLES, **STRANGERS}.items()}


class Doors:
    """Connections to the service whose clients have certificates, by the names of callers."""

    def __init__(self, service: Service, authority: Authority, certificates: Mapping[str, Client]) -> None:
        self._service = service
        self._authority = authority
        self._certificates = certificates
        self._channels = dict[str, grpc.aio.Channel]()
        self.url = f"https://127.0.0.1:{service.app.http_port}"

    def channel(self, name: str) -> Any:
        """Returns the connection of a caller over gRPC."""
        if name not in self._channels:
            own: list[tuple[str, Any]] = [("grpc.use_local_subchannel_pool", 1)]
            credentials = self._authority.channel_credentials(self._certificates[name])
            self._channels[name] = grpc.aio.secure_channel(self._service.address, credentials, own)
        return self._channels[name]

    def by(self, name: str) -> Service:
        """Returns what `ask` takes, on the connection of a caller."""
        return cast("Service", _Channel(self.channel(name)))

    async def over_http(
        self, name: str, path: str, headers: Mapping[str, str] | None = None, body: Any = None
    ) -> tuple[int, Any]:
        """Returns the status and the JSON of an answer, on a connection of a caller."""
        context = self._authority.context(self._certificates[name])
        verb, url = ("GET" if body is None else "POST"), f"{self.url}{path}"
        async with (
            aiohttp.ClientSession() as session,
            session.request(verb, url, headers=headers, json=body, ssl=context) as response,
        ):
            return response.status, await response.json(content_type=None)

    async def close(self) -> None:
        """Closes all connections."""
        for channel in self._channels.values():
            await channel.close()


@dataclass(frozen=True)
class _Channel:
    channel: grpc.aio.Channel


@pytest_asyncio.fixture(loop_scope="module")
async def doors(service: Service, authority: Authority, certificates: Mapping[str, Client]) -> AsyncGenerator[Doors]:
    doors = Doors(service, authority, certificates)
    yield doors
    await doors.close()


# --- over gRPC -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
async def test_a_certificate_may_do_what_its_role_may_for_its_customer_and_nothing_else(
    doors: Doors, method: str
) -> None:
    request = valid_requests(await furnish(doors.by("unnamed")))[method]
    suffix = "-for-all" if method in TAKES_A_TOKEN_FOR_ALL else ""
    is_allowed = {role: PERMISSIONS[method] in PERMISSIONS_OF_ROLES[role] for role in Role}

    if method == "BatchPublishEvents":
        [result] = (await ask(doors.by("other"), method, request)).results
        assert result.error.reason == "CUSTOMER_NOT_ALLOWED"
    elif method in OF_CUSTOMERS:
        refused = await refusal(ask(doors.by("other"), method, request))
        assert (refused.code, refused.reason) == (grpc.StatusCode.PERMISSION_DENIED, "CUSTOMER_NOT_ALLOWED")
    for role in sorted(Role, key=lambda role: is_allowed[role]):  # first those that are refused, so that all is there
        call = ask(doors.by(f"{role.value}{suffix}"), method, request)
        if is_allowed[role]:
            assert await code_of(call) is served(method), role
        else:
            refused = await refusal(call)
            assert (refused.code, refused.reason) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_MISSING"), role


async def test_a_certificate_that_names_nobody_or_several_learns_nothing(doors: Doors) -> None:
    for method, request in valid_requests(World(1, "evt_1", "dlv_1")).items():
        for name in STRANGERS:
            for sent in (request, b"\xff"):
                refused = await refusal(ask(doors.by(name), method, sent))
                assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING"), name
                assert set(refused.details) == {"ErrorInfo"}


async def test_reflection_is_for_those_whom_a_certificate_names(doors: Doors) -> None:
    for name, code in (("viewer", grpc.StatusCode.OK), ("unnamed", grpc.StatusCode.UNAUTHENTICATED)):
        call = doors.channel(name).stream_stream(f"/{REFLECTION_SERVICES[0]}/ServerReflectionInfo")()
        await call.done_writing()
        assert await call.code() is code


# --- over HTTP, and one credential of two ----------------------------------------------------------------------------


async def test_both_doors_know_the_same_callers(doors: Doors) -> None:
    for one in CLIENTS:
        status, shown = await doors.over_http(one.name, "/api/caller")
        assert (status, shown["name"]) == (200, one.name)
        assert shown["permissions"] == sorted(PERMISSIONS_OF_ROLES[one.role])
        assert shown.get("customer_id") == (None if one.customer_ids is None else one.customer_ids[0])
    for name in STRANGERS:
        status, problem = await doors.over_http(name, "/api/caller")
        assert (status, problem["reason"]) == (401, "TOKEN_MISSING")
        assert (await doors.over_http(name, "/api/webhooks"))[0] == 401
    assert (await doors.over_http("viewer", "/api/webhooks"))[0] == 200
    status, problem = await doors.over_http("viewer", f"/api/webhooks?customer_id={OTHER_CUSTOMER}")
    assert (status, problem["reason"]) == (403, "CUSTOMER_NOT_ALLOWED")
    assert (await doors.over_http("viewer", "/metrics"))[0] == 403


async def test_a_token_that_is_sent_decides_alone(doors: Doors, postgres: TestPostgres) -> None:
    headers = {"Authorization": bearer("other")[0][1]}
    assert (await doors.over_http("admin", "/api/caller", headers))[1]["name"] == "other"
    status, problem = await doors.over_http("admin", "/api/caller", {"Authorization": bearer("nobody")[0][1]})
    assert (status, problem["reason"]) == (401, "TOKEN_INVALID"), "the certificate is no second try"
    for metadata in (bearer("nobody"), [("authorization", "")], bearer("customer") * 2):
        refused = await refusal(ask(doors.by("admin"), "ListWebhooks", b"", metadata))
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")
    world = await furnish(doors.by("admin"))
    changes = postgres.rows("SELECT DISTINCT caller FROM audit_entries WHERE result = 'OK'")  # refusals come late
    assert changes == [("everybody",)]
    resume = pb.ResumeWebhookRequest(customer_id=CUSTOMER, webhook_id=world.webhook_id)
    await ask(doors.by("admin"), "ResumeWebhook", resume)
    assert postgres.rows(LAST_CHANGE) == [("ResumeWebhook", "admin", None, "127.0.0.1")]


async def test_the_audit_and_the_event_say_whose_certificate_it_was(doors: Doors, postgres: TestPostgres) -> None:
    world = await furnish(doors.by("unnamed"))
    path = f"/api/webhooks/{world.webhook_id}:resume"
    assert (await doors.over_http("admin", path, body={"customer_id": str(CUSTOMER)}))[0] == 200
    assert postgres.rows(LAST_CHANGE) == [("ResumeWebhook", "admin", None, "127.0.0.1")]
    published = await ask(doors.by("publisher"), "PublishEvent", valid_requests(world)["PublishEvent"])
    request = pb.GetEventRequest(customer_id=CUSTOMER, event_id=published.event_id)
    assert (await ask(doors.by("admin"), "GetEvent", request)).publisher == "publisher"


# --- as the document shows it ----------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_the_commands_of_the_document_show_who_calls(
    services: ServiceFactory, authority: Authority, tmp_path: Path
) -> None:
    text = (ROOT / "docs/security.md").read_text()
    setting, command = (
        re.findall(rf"<!-- test: {name} -->\n```sh\n(.*?)```", text, re.DOTALL)[0] for name in ("sans", "as_client")
    )
    [entries] = re.findall(r"WEBHOOK_CLIENT_SANS='(.*?)'", setting, re.DOTALL)
    [shop] = [one["san"] for one in json.loads(entries) if one["name"] == "shop"]
    secret = MountedSecret(tmp_path / "secret", *authority.issue())
    service = await services.start(
        client_sans=entries, http_address="127.0.0.1:0", http_client_ca_file=authority.file, **secret.settings
    )
    for source, name in zip(authority.client_named(shop), ("client.crt", "client.key"), strict=True):
        (tmp_path / name).write_bytes(source.read_bytes())
    (tmp_path / "ca.crt").write_bytes(authority.pem)
    here = command.replace("localhost:8080", f"localhost:{service.app.http_port}")
    assert here != command
    status, stdout, stderr = await run("bash", "-ec", here, settings={}, cwd=tmp_path)
    assert status == 0, stderr
    assert shop in stdout, "openssl prints the name in the form of the setting"
    assert json.loads(stdout[stdout.index("{") :])["name"] == "shop"

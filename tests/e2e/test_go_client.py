"""The Go quickstart, built from the Go stubs, against the live service: a client in another language than ours."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.authority import Authority, MountedSecret
from tests.support.golang import build, run
from tests.support.receiver import Receiver, answer, answers
from tests.support.service import ServiceFactory

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "go"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("go"),  # one process compiles, the others need not wait for it
]


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, built once."""
    return build(EXAMPLE, tmp_path_factory.mktemp("go") / "quickstart")


async def test_the_go_client_sees_its_event_delivered_and_signed(
    quickstart: Path, services: ServiceFactory, receiver: Receiver
) -> None:
    """The receiver verifies with the secret that the service made and the program printed."""
    service = await services.start()
    url = receiver.url("/go")
    ended = await run(quickstart, "-address", service.address, "-url", url, "-customer", "7")

    assert ended.status == 0, ended
    assert ended.stderr == ""
    secret, event = re.search(r"secret (whsec_\S+)", ended.stdout), re.search(r"event (evt_\w+): ", ended.stdout)
    assert secret, ended
    assert event, ended
    assert re.search(r"^delivery dlv_\w+: SUCCEEDED after attempt 1: HTTP status 200", ended.stdout, re.MULTILINE)
    [request] = await receiver.wait_for(1, "/go")
    request.verify(secret[1])
    assert request.event_id == event[1]


async def test_the_go_client_is_served_over_mtls(
    quickstart: Path, services: ServiceFactory, receiver: Receiver, tmp_path: Path
) -> None:
    """And refuses a service whose authority it does not know."""
    authority, other = Authority(tmp_path / "authority"), Authority(tmp_path / "other")
    secret = MountedSecret(tmp_path / "secret", *authority.issue())
    service = await services.start(**secret.settings, grpc_client_ca_file=authority.file)
    certificate, key = authority.client()
    own = ("-cert", certificate, "-key", key)
    command = (quickstart, "-address", service.address, "-url", receiver.url("/go"), *own)
    ended = await run(*command, "-cacert", authority.file)
    assert ended.status == 0, ended
    refused = await run(*command, "-cacert", other.file)
    assert "certificate signed by unknown authority" in refused.stderr


async def test_the_go_client_tells_each_attempt_of_a_receiver_that_recovers(
    quickstart: Path, services: ServiceFactory, receiver: Receiver
) -> None:
    """One line for each change of the delivery."""
    service = await services.start()
    url = receiver.on("/flaky", answers(500, 200))
    ended = await run(quickstart, "-address", service.address, "-url", url)

    assert ended.status == 0, ended
    told = re.findall(r"^delivery \w+: (\w+) after attempt (\d): HTTP status (\d+)", ended.stdout, re.MULTILINE)
    assert told == [("PENDING", "1", "500"), ("SUCCEEDED", "2", "200")]


async def test_the_go_client_fails_when_its_event_is_not_delivered(
    quickstart: Path, services: ServiceFactory, receiver: Receiver
) -> None:
    """Its exit status is what a script would look at."""
    service = await services.start()
    url = receiver.on("/dead", answer(500))
    ended = await run(quickstart, "-address", service.address, "-url", url)

    assert ended.status == 1
    assert ended.stderr == "quickstart: the delivery ended as FAILED\n"


async def test_the_go_client_shows_why_a_call_was_refused(quickstart: Path, services: ServiceFactory) -> None:
    """The details of an error reach a client in Go: the reason and the field."""
    service = await services.start()
    ended = await run(quickstart, "-address", service.address, "-url", "ftp://127.0.0.1/hook")

    assert ended.status == 1
    assert ended.stderr.startswith("quickstart: create webhook: ")
    assert "\n  reason: URL_NOT_ALLOWED\n" in ended.stderr
    assert "\n  field webhook.url: " in ended.stderr

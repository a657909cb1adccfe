"""`doctor` finds what is wrong between this machine and the service, and says what to do."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import trustme

from tests.cli.running import Program
from tests.e2e.test_docs import blocks
from tests.support.service import Service, ServiceFactory
from webhook_grpc.domain.tokens import token_hash
from webhook_grpc_cli.commands.doctor import doctor
from webhook_grpc_cli.doctoring.results import Result, certificate_words, clocks, lines, summary

live = pytest.mark.asyncio(loop_scope="module")
CHECKS = ["profile", "dns", "address", "token", "clocks", "stream"]


@pytest.mark.parametrize(
    ("server", "state", "words"),
    [
        (1000.0, "ok", "differ by 0 ms"),
        (996.0, "ok", "differ by 4 s"),
        (1045.0, "warning", "41 s behind"),
        (940.0, "warning", "1 min ahead of"),
        (1400.0, "problem", "behind"),
    ],
)
def test_a_clock_is_judged_without_what_the_call_took(server: float, state: str, words: str) -> None:
    result = clocks(server, before=1000.0, after=1004.0)
    assert (result.state, words in result.detail) == (state, True), result
    assert bool(result.remedy) == (state != "ok")


def test_a_certificate_that_ends_soon_is_a_warning_and_one_that_has_ended_a_problem() -> None:
    assert certificate_words(61 * 86_400, 0) == ("ok", "certificate for 61 more days")
    assert certificate_words(3 * 86_400, 0) == ("warning", "certificate for 3 more days")
    assert certificate_words(0, 1)[0] == "problem"


def test_a_remedy_stands_beside_the_detail_where_there_is_room() -> None:
    result = Result("clocks", "warning", "41 s behind", "set up NTP")
    assert lines(result, 120) == [f"! clocks        {'41 s behind':<48}  set up NTP"]
    assert lines(result, 60) == ["! clocks        41 s behind", "                set up NTP"]
    problem = Result("stream", "problem", "")
    assert summary([result, problem, problem]) == "2 problems, 1 warning"
    assert summary([Result("stream", "ok", "")]) == "no problems"


@live
async def test_all_is_well_with_a_service_that_runs(program: Program, service: Service) -> None:
    assert blocks("docs/cli.md", "doctor").splitlines() == list(doctor.examples)
    table, programs = [(await program.run(example, terminal=True)).ok() for example in doctor.examples]
    assert table.lines[-1] == "no problems"
    assert table.stderr == programs.stderr == ""
    objects = programs.objects
    assert [one["check"] for one in objects] == CHECKS
    assert {one["state"] for one in objects} == {"ok"}
    assert objects[1]["detail"] == "127.0.0.1 is no name"
    assert f"{service.address} answers in " in objects[2]["detail"]
    port = service.address.rpartition(":")[2]
    named = (await program.run(f"doctor -a localhost:{port} -o json")).ok().objects[1]
    assert named["detail"].startswith("localhost is "), named
    assert ", looked up in " in named["detail"]


def test_where_nobody_listens_the_rest_is_not_checked(offline: Program) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        ran = offline.run_here(f"doctor -a 127.0.0.1:{unused.getsockname()[1]} -o json")
    assert ran.status == 1
    assert [one["state"] for one in ran.objects] == ["ok", "ok", "problem", "skipped", "skipped", "skipped"]
    assert ran.objects[2]["remedy"] == "start it (webhook-grpc serve), or give --address"
    assert offline.run_here("doctor -a nowhere").status == 1
    of_no_server = offline.run_here("doctor --role webhook_service")
    assert (of_no_server.status, "--server" in of_no_server.stderr) == (2, True)


def test_a_name_that_nobody_knows_is_the_problem_and_the_rest_is_not_checked(
    offline: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    ran = offline.run_here("doctor -a hooks.internal:443 -o json")
    assert ran.status == 1
    assert [one["state"] for one in ran.objects] == ["ok", "problem", *["skipped"] * 4]
    assert ran.objects[1]["detail"] == "hooks.internal: Name or service not known"
    assert "getent hosts hooks.internal" in ran.objects[1]["remedy"]


@live
async def test_a_wrong_token_is_a_problem_and_is_not_shown(services: ServiceFactory, home: Path) -> None:
    tokens = json.dumps(
        [
            {"name": "one", "sha256": token_hash("one"), "permissions": ["read"]},
            {"name": "two", "sha256": token_hash("two-of-it"), "permissions": ["publish"]},
        ]
    )
    service = await services.start(tokens=tokens)
    program = Program(home, {"WHK_ADDRESS": service.address})
    right = (await program.run("doctor -o json", WHK_TOKEN="one")).ok()
    assert right.objects[3] == {"check": "token", "state": "ok", "detail": "WHK_TOKEN, may read", "remedy": ""}
    wrong = await program.run("doctor -o json", WHK_TOKEN="whk_secret")
    assert (wrong.status, wrong.objects[3]["state"]) == (1, "problem")
    assert "whk_secret" not in wrong.stdout + wrong.stderr
    stored = await program.run("doctor -o json", WHK_TOKEN=f"whk_12_{'s' * 43}")
    assert stored.objects[3]["detail"].startswith("WHK_TOKEN, whk_12: "), "the id, and never the secret"
    assert "sss" not in stored.stdout + stored.stderr
    publishing = await program.run("doctor -o json", WHK_TOKEN="two-of-it")
    assert publishing.objects[3]["state"] == "warning"


@live
async def test_tls_is_looked_at_with_the_authority_that_is_trusted(services: ServiceFactory, home: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(str(home / "ca.pem"))
    certificate.private_key_pem.write_to_path(str(home / "key.pem"))
    for number, blob in enumerate(certificate.cert_chain_pems):
        blob.write_to_path(str(home / "cert.pem"), append=bool(number))
    service = await services.start(tls_certificate_file=home / "cert.pem", tls_key_file=home / "key.pem")
    program = Program(home, {"WHK_ADDRESS": service.address})
    ran = (await program.run(f"doctor --tls --ca {home}/ca.pem -o json")).ok()
    assert "TLSv1.3, certificate for " in ran.objects[2]["detail"]
    untrusted = await program.run("doctor --tls -o json")
    assert (untrusted.status, untrusted.objects[2]["state"]) == (1, "problem")
    assert "--ca" in untrusted.objects[2]["remedy"]

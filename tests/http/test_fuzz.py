"""Schemathesis makes up requests from the live document: no 500, and every answer is one that the document has.

It is a program in an environment of its own (`make setup`), since it takes only older versions of what we depend on.
Its output names the seed, and a curl line for each failure.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support import slowness
from tests.support.service import ServiceFactory

from .client import Http
from .contract import contract

PROGRAM: Final = Path(__file__).resolve().parents[2] / ".venv" / "fuzz" / "bin" / "schemathesis"
EXAMPLES: Final = int(os.environ.get("WEBHOOK_TEST_FUZZ_EXAMPLES", "4"))  # for each operation
SEED: Final = os.environ.get("WEBHOOK_TEST_FUZZ_SEED")
IS_LONG: Final = "WEBHOOK_TEST_FUZZ_EXAMPLES" in os.environ
CHECKS: Final = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance"),
    *("response_schema_conformance", "unsupported_method", "ignored_auth"),
)
VERBS: Final = ("DELETE", "GET", "PATCH", "POST", "PUT", "TRACE")
TOKENS: Final = json.dumps([{"name": "me", "sha256": hashlib.sha256(b"foo").hexdigest()}])


async def nowhere(*_: Any) -> None:
    raise OSError("what is made up may be the name of somebody's host")


@pytest.mark.slow(20)
@pytest.mark.timeout(3600 if IS_LONG else 300)
@pytest.mark.skipif(not PROGRAM.exists(), reason="`make setup` installs schemathesis into .venv/fuzz")
async def test_whatever_is_made_up_from_the_document_the_answer_is_in_the_document(
    services: ServiceFactory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("webhook_grpc.engine.http.resolver.GuardedResolver.resolve", nowhere)
    service = await services.start(
        http_address="127.0.0.1:0", tokens=TOKENS, default_customer_id=1, egress_deny_cidrs="0.0.0.0/0,::/0"
    )
    program = await asyncio.create_subprocess_exec(
        *(str(PROGRAM), "run", f"http://127.0.0.1:{service.app.http_port}/api/openapi.json"),
        *("--header", "Authorization: Bearer foo", "--checks", ",".join(CHECKS)),
        *("--exclude-operation-id", "WatchDeliveries"),  # its answer does not end: see test_live.py
        *("--phases", "examples,coverage,fuzzing,stateful" if IS_LONG else "examples,fuzzing"),
        *("--max-examples", str(EXAMPLES), "--continue-on-failure", "--warnings", "off", "--no-color"),
        *("--generation-database", "none", *(("--seed", SEED) if SEED else ())),
        *("--suppress-health-check", "all", "--request-timeout", str(slowness.scaled(60))),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=tmp_path,  # it writes its caches there
    )
    output, _ = await program.communicate()
    assert program.returncode == 0, output.decode()
    selected = re.search(r"Selected: (\d+)/(\d+)\s+Tested: (\d+)", output.decode())
    assert selected is not None, output.decode()
    chosen, all_of_them, tested = map(int, selected.groups())
    assert chosen == tested == all_of_them - 1 >= 40, "all operations but one"


async def test_verbs_that_a_path_does_not_have_are_405_and_name_those_that_it_has(services: ServiceFactory) -> None:
    async with Http(await services.start(http_address="127.0.0.1:0")) as http:
        for path, item in contract().described["paths"].items():
            has = {verb.upper() for verb in item}
            for verb in {*VERBS} - has:
                answer = await http.call(verb, re.sub(r"\{[^}]*\}", "1", path))
                assert (answer.status, answer.reason) == (405, "METHOD_NOT_ALLOWED"), (verb, path)
                assert has <= set(answer.headers["allow"].split(", "))


async def test_no_operation_but_those_of_the_door_itself_is_served_without_a_token(services: ServiceFactory) -> None:
    async with Http(await services.start(http_address="127.0.0.1:0", tokens=TOKENS)) as http:
        for path, item in contract().described["paths"].items():
            for verb, operation in item.items():
                answer = await http.call(verb.upper(), re.sub(r"\{[^}]*\}", "1", path))
                assert (answer.status == 401) == bool(operation["security"]), (verb, path)

"""The conformance tests of HTTP/2 that the field uses (h2spec), against the gRPC door of a service."""

from __future__ import annotations

import os
import shutil
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Final

import pytest

from tests.support import golang
from tests.support.distribution import missing
from tests.support.service import ServiceFactory

pytestmark = pytest.mark.asyncio(loop_scope="module")

BIN: Final = Path(sys.executable).parent
CASES_MIN: Final = 140
# No client of gRPC sends a content-length. h2spec sends it with a GET, which is answered before its body has come.
_LENGTH: Final = 'Sends a HEADERS frame with the "content-length" header field which does not equal the '
KNOWN: Final = frozenset(
    {
        f"{_LENGTH}DATA frame payload length",
        f"{_LENGTH}sum of the multiple DATA frames payload length",
        # Likewise: the stream has ended before its window is too large
        "Sends multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1 on a stream",
    }
)


def need_h2spec() -> str:
    """The path of h2spec. Skips the test without Go, which builds it; fails it where CI should have built it."""
    if shutil.which("go") is None:
        pytest.skip("Go is not installed, so h2spec could not be built")
    return shutil.which("h2spec", path=f"{BIN}:{os.environ['PATH']}") or missing("h2spec", "make more-tools")


async def test_the_door_passes_the_conformance_tests_of_http2(services: ServiceFactory, tmp_path: Path) -> None:
    h2spec, service, report = need_h2spec(), await services.start(), tmp_path / "report.xml"
    host, _, port = service.address.rpartition(":")

    where = ("--host", host, "--port", port)
    ended = await golang.run(h2spec, *where, "--timeout", "5", "--junit-report", str(report), seconds=120)

    cases = list(ET.parse(report).iter("testcase"))  # noqa: S314 - what h2spec has just written
    failed = {case.get("classname", "") for case in cases if case.find("failure") is not None}
    assert len(cases) >= CASES_MIN, ended.stdout
    assert failed <= KNOWN, ended.stdout

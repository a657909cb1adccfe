"""The program as tests call it: a line in, and what a person and a script get out of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.running import Program
from tests.support.service import CUSTOMER, Service
from tests.support.sharing import receiver, service, services, shared, shared_settings

__all__ = ["receiver", "service", "services", "shared", "shared_settings"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own, and an environment without settings of whoever runs the tests."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LC_ALL", "LC_CTYPE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("TERM", "xterm-256color")
    return tmp_path


@pytest.fixture
def offline(home: Path) -> Program:
    """The program, where no service is needed."""
    return Program(home, {})


@pytest.fixture
def program(home: Path, service: Service) -> Program:
    """The program with the shared service, for the customer of the tests."""
    return Program(home, {"WHK_ADDRESS": service.address, "WHK_CUSTOMER_ID": str(CUSTOMER)})

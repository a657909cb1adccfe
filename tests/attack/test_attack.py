"""Every attack in its short form: nobody else gets an error, and the service drains while one goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attack.__main__ import ATTACKS, QUICK, run


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_no_attack_gives_another_client_an_error(database_url: str, tmp_path: Path) -> None:
    lines = list[str]()
    settings = {"WEBHOOK_DATABASE_URL": database_url, "WEBHOOK_LOG_LEVEL": "debug"}

    assert await run(list(ATTACKS), QUICK, tmp_path / "log", lines.append, **settings) == [], lines

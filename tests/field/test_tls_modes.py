"""Each sslmode of libpq, on a server that has TLS: what it does, and how safe the doctor calls it."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import LiteralString

import pytest
from psycopg.conninfo import make_conninfo

from tests.field.conftest import new_field
from tests.support.authority import Authority
from tests.support.distribution import DistributionPostgres
from tests.support.postgres import query, until
from tests.support.store import options
from webhook_grpc.commands.postgres import judged_tls
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.store.connection.failures import cause_of
from webhook_grpc.store.connection.opening import DatabaseUnreachable
from webhook_grpc.store.connection.server_facts import look
from webhook_grpc.store.db import LoopConnection, connect
from webhook_grpc.store.schema.migrate import check_schema

SECRET = "database-password"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def url(distribution: DistributionPostgres, authority: Authority) -> Generator[str]:
    """A migrated database at a name, on a server that speaks TLS for as long as these tests run."""
    for name, content in zip(("server.crt", "server.key"), authority.issue("localhost"), strict=True):
        path = distribution.data / name
        path.write_bytes(content)
        path.chmod(0o600)
        owner = distribution.data.stat()
        shutil.chown(path, owner.st_uid, owner.st_gid)
    turn(distribution, "ALTER SYSTEM SET ssl = on", "SELECT current_setting('ssl') = 'on'")
    yield make_conninfo(new_field(distribution).url, host="localhost", sslrootcert=str(authority.file))
    turn(distribution, "ALTER SYSTEM RESET ssl", "SELECT current_setting('ssl') = 'off'")


def turn(server: DistributionPostgres, change: LiteralString, is_done: LiteralString) -> None:
    query(server.url, change)
    query(server.url, "SELECT pg_reload_conf()")
    until(server.url, is_done)


@pytest.mark.parametrize(
    ("mode", "has_tls", "state", "words"),
    [
        ("disable", False, "warning", "none: others on the way can read along"),
        ("allow", False, "warning", "none: others on the way can read along"),
        ("prefer", True, "warning", "the server is not verified"),
        ("require", True, "warning", "the server is not verified"),
        ("verify-ca", True, "ok", "its authority is"),
        ("verify-full", True, "ok", "the server's certificate and name are verified"),
    ],
)
async def test_each_mode_is_used_as_it_says(
    url: str, mode: str, has_tls: bool, state: str, words: str, tmp_path: Path
) -> None:
    nobody = {} if mode.startswith("verify") else {"sslrootcert": str(tmp_path / "none")}
    url = make_conninfo(url, sslmode=mode, **nobody)
    assert check_schema(url).schema == "webhook_grpc"
    async with await connect(options(url), "settle") as connection:
        cursor = await connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        assert await cursor.fetchall() == [(has_tls,)]
    found = judged_tls(replace(look(url).route, host="db.internal"))  # on another machine
    assert (found.state, words in found.detail) == (state, True), found


async def test_the_file_of_authorities_is_read_for_each_new_connection(
    url: str, authority: Authority, tmp_path: Path
) -> None:
    """A wrong new one ends no connection that is there, and once it is right no restart is needed."""
    file, other = tmp_path / "ca.crt", Authority(tmp_path / "other")
    file.write_bytes(authority.pem)
    url = make_conninfo(url, sslmode="verify-full", sslrootcert=str(file))
    first, second = (LoopConnection(options(url), name) for name in ("settle", "backlog"))
    try:
        await first.rows("SELECT 1")
        file.write_bytes(other.pem)
        with pytest.raises(Unavailable) as refused:
            await second.rows("SELECT 1")
        assert "certificate verify failed" in cause_of(refused.value).text
        assert await first.rows("SELECT 2") == [(2,)]
        file.write_bytes(authority.pem)
        assert await second.rows("SELECT 3") == [(3,)]
    finally:
        await first.close()
        await second.close()


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_an_authority_that_is_not_ours_is_one_sentence(url: str, mode: str, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    with pytest.raises(DatabaseUnreachable, match="certificate verify failed") as refused:
        check_schema(make_conninfo(url, sslmode=mode, sslrootcert=str(other.file), password=SECRET))
    assert "\n" not in str(refused.value)
    assert SECRET not in str(refused.value)


def test_another_name_than_that_of_the_certificate_is_one_sentence(url: str) -> None:
    address = make_conninfo(url, host="127.0.0.1")
    check_schema(make_conninfo(address, sslmode="verify-ca"))
    with pytest.raises(DatabaseUnreachable, match=r'"localhost" does not match host name "127\.0\.0\.1"') as refused:
        check_schema(make_conninfo(address, sslmode="verify-full"))
    assert "\n" not in str(refused.value)

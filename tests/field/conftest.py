"""Fixtures: one cluster of the distribution's Postgres for each test process, with stock settings (JIT is on)."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.support.distribution import DistributionPostgres
from tests.support.postgres import query
from tests.support.service import ServiceFactory
from webhook_grpc.store.schema.migrate import migrate

_NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Field:
    """A migrated database on the distribution's server, owned by a role of its own."""

    server: DistributionPostgres
    admin_url: str  # as superuser
    url: str  # as the role
    role: str

    def alter(self, **settings: str) -> None:
        """Gives the role settings, which hold for connections from now on."""
        for name, value in settings.items():
            statement = sql.SQL("ALTER ROLE {} SET {} = {}")
            composed = statement.format(sql.Identifier(self.role), sql.Identifier(name), sql.Literal(value))
            query(self.admin_url, composed)


@pytest.fixture(scope="session")
def distribution() -> Generator[DistributionPostgres]:
    server = DistributionPostgres()
    yield server
    server.remove()


@pytest.fixture
def field(distribution: DistributionPostgres) -> Field:
    return new_field(distribution)


def new_field(server: DistributionPostgres, locale: LiteralString = "") -> Field:
    """A database of its own on a server; `locale` in words of CREATE DATABASE."""
    number = next(_NUMBERS)
    name, role = f"webhook_field_{number}", f"webhook_role_{number}"
    admin_url = server.new_database(name, locale=locale)
    query(admin_url, sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
    give = sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(name), sql.Identifier(role))
    query(admin_url, give)
    url = make_conninfo(admin_url, user=role)
    migrate(url)
    return Field(server, admin_url, url, role)


@pytest.fixture
async def services_on(tmp_path: Path) -> AsyncGenerator[Callable[[str], ServiceFactory]]:
    """Starts processes of the service inside this one, on whichever database, and stops them."""
    factories: list[ServiceFactory] = []

    def on(url: str) -> ServiceFactory:
        factories.append(ServiceFactory(url, tmp_path))
        return factories[-1]

    yield on
    for factory in factories:
        await factory.stop()

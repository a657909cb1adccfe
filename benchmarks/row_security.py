"""`python -m benchmarks.row_security`: what row-level security would cost calls of the API, in µs of CPU.

On the distribution's Postgres: the statements of the calls as they are, as the owner of the tables; and as a role with
policies that compare each row's customer with a setting of the transaction, as poolers need. Both take turns; medians
of all turns. Bounded: about a minute. See docs/decisions/0080-row-security.md.
"""

from __future__ import annotations

import asyncio
import secrets
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, LiteralString, cast

import psutil
import psycopg
from psycopg.conninfo import make_conninfo
from tests.support.distribution import DistributionPostgres
from tests.support.store import ALL_SHARDS, CUSTOMER, new_event, new_webhook, options

from webhook_grpc.domain.filters import DeliveryFilter
from webhook_grpc.store.db import Database, LoopConnection
from webhook_grpc.store.lists import deliveries
from webhook_grpc.store.lists.pages import PageBounds
from webhook_grpc.store.outbox import publishing
from webhook_grpc.store.registry import webhooks
from webhook_grpc.store.schema.migrate import migrate
from webhook_grpc.store.schema.partitions import ensure_partitions

TURNS: Final = 8
CALLS: Final = 300
TABLES: Final = ("webhooks", "deliveries", "attempts", "events", "idempotency_keys", "replays", "commands")
# Our sessions have `row_security = off`: a policy that hides rows is an error in them (store/connection/session.py).
SET: Final = "SELECT set_config('webhook.customer', %s, true), set_config('row_security', 'on', true)"
BACKENDS: Final = """
SELECT pid, usename FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
POLICY: Final = """
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_customer ON {table} USING (
    customer_id = (SELECT nullif(current_setting('webhook.customer', true), '')::bigint)
);
"""


class Limited(Database):
    """Runs each statement in a transaction that says for which customer it is: two messages more, in one round trip."""

    async def rows(self, statement: LiteralString, params: Any = None, **_: Any) -> list[Any]:
        """Returns the rows of a statement."""
        async with self.connection() as connection, connection.pipeline(), connection.transaction():
            await connection.execute(SET, [str(CUSTOMER)])
            cursor = await connection.execute(statement, params)
            return await cursor.fetchall()


@dataclass
class Cost:
    """µs of CPU of one call."""

    ours: list[float]
    servers: list[float]

    @property
    def shown(self) -> str:
        """Both medians, and their sum."""
        ours, servers = statistics.median(self.ours), statistics.median(self.servers)
        return f"{ours:.0f} + {servers:.0f} = {ours + servers:.0f}"


async def counted(call: Callable[[], Awaitable[Any]], user: str, cost: Cost, backends: Mapping[int, str]) -> None:
    """Makes some calls and notes what each cost this process, and the backends of a role."""
    own = [psutil.Process(pid) for pid, name in backends.items() if name == user]
    before, begun = sum(sum(one.cpu_times()[:2]) for one in own), time.process_time()
    for _ in range(CALLS):
        await call()
    cost.ours.append((time.process_time() - begun) / CALLS * 1e6)
    cost.servers.append((sum(sum(one.cpu_times()[:2]) for one in own) - before) / CALLS * 1e6)


def backends_of(url: str) -> dict[int, str]:
    """Returns the backends of the database and their roles."""
    with psycopg.connect(url) as connection:
        return dict(connection.execute(BACKENDS).fetchall())


async def fill(database: Database, loop: LoopConnection) -> int:
    """Makes webhooks of many customers, and deliveries that wait; returns a webhook of CUSTOMER."""
    await ensure_partitions(database)
    own = 0
    for customer_id in range(1, 101):
        for _ in range(3):
            webhook_id = await new_webhook(database, customer_id=customer_id)
            own = webhook_id if customer_id == CUSTOMER else own
        for _ in range(3):
            await publishing.publish(loop, [new_event(customer_id=customer_id) for _ in range(10)], ALL_SHARDS)
    return own


async def main() -> None:
    """Measures and prints."""
    server = DistributionPostgres()
    try:
        await measure(server)
    finally:
        server.remove()


async def measure(server: DistributionPostgres) -> None:
    """Compares the calls with and without policies."""
    url = server.new_database("price")
    migrate(url)
    role = f"limited_{secrets.token_hex(4)}"
    admin = psycopg.connect(url, autocommit=True)
    given = options(url)
    loop = LoopConnection(given, "publish")
    plain = Database(given)
    await plain.open()
    webhook_id = await fill(plain, loop)
    rights = f"CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA webhook_grpc TO {role};"
    rights += f"GRANT ALL ON ALL TABLES IN SCHEMA webhook_grpc TO {role};"
    rights += f"GRANT ALL ON ALL SEQUENCES IN SCHEMA webhook_grpc TO {role};"
    policies = "".join(POLICY.format(table=table) for table in TABLES)
    admin.execute(cast("LiteralString", rights + policies + "ANALYZE;"))
    limited = Limited(options(make_conninfo(url, user=role)))
    await limited.open()
    wanted = DeliveryFilter(CUSTOMER)
    bounds = PageBounds(20, 1_000_000)
    calls: dict[str, Callable[[Database], Awaitable[Any]]] = {
        "GetWebhook": lambda database: webhooks.get(database, CUSTOMER, webhook_id),
        "ListDeliveries": lambda database: deliveries.list_deliveries(
            database, wanted, deliveries.DELIVERIES_START, bounds
        ),
        "PublishEvent": lambda database: publishing.publish(
            loop if database is plain else cast("Any", database), [new_event()], ALL_SHARDS
        ),
    }
    print("| call | as it is | with policies |\n|---|---|---|")
    for name, call in calls.items():
        costs = {database: Cost([], []) for database in (plain, limited)}
        for database in costs:
            for _ in range(10):
                await call(database)  # so that it is prepared
        backends = backends_of(url)
        for turn in range(TURNS):
            for database in list(costs)[:: 1 if turn % 2 == 0 else -1]:
                user = role if database is limited else admin.info.user
                await counted(lambda: call(database), user, costs[database], backends)  # noqa: B023 - awaited here
        print(f"| {name} | {costs[plain].shown} | {costs[limited].shown} |", flush=True)
    for one in (plain, limited):
        await one.close()
    admin.close()


if __name__ == "__main__":
    asyncio.run(main())

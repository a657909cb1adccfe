"""Makes the parent from the settings: the addresses, what the children have in common, the connection."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final

import structlog

from webhook_grpc.domain.restarts import RestartPolicy
from webhook_grpc.process.banner import Ports
from webhook_grpc.process.credentials import load_tokens
from webhook_grpc.process.service_manager import ServiceManager
from webhook_grpc.process.stopping import Reload, Stop
from webhook_grpc.settings import Settings
from webhook_grpc.store.db import DatabaseOptions, LoopConnection, Pooling

from .addresses import AddressTaken, HeldAddress
from .parent import Parent, Plan

log = structlog.get_logger(__name__)

# For a child to end after SIGTERM, beside the delays that are set: calls, results and spans have their bounds.
STOP_SECONDS: Final = 60.0


async def run_parent(
    settings: Settings,
    count: int,
    conninfo: str,
    secret_keys: Iterable[bytes],
    stop: Stop,
    reload: Reload,
    manager: ServiceManager,
    announce: Callable[[Ports], None],
) -> int:
    """Runs so many children until the service ends; returns the exit status. Raises AddressTaken, SettingsError."""
    with contextlib.ExitStack() as held:
        plan = Plan(
            count,
            {
                **_addresses(settings, held),
                **_credentials(settings, secret_keys),
                "database_url": conninfo,
                "processes": 1,
            },
            RestartPolicy(
                settings.process_restart_seconds_min, settings.process_restart_seconds_max, settings.process_starts_max
            ),
            settings.shutdown_delay_seconds + settings.drain_seconds + STOP_SECONDS,
        )
        options = DatabaseOptions(
            conninfo,
            pool_size=1,
            pool_timeout_seconds=settings.database_timeout_seconds,
            pool_waiting_max=1,
            statement_timeout_seconds=settings.database_timeout_seconds,
            pooling=Pooling(settings.database_pooler),
            schema=settings.database_schema,
        )
        return await Parent(
            plan,
            lambda schema: LoopConnection(replace(options, schema=schema), "parent"),
            stop,
            reload,
            manager,
            lambda grpc, http: announce(Ports(grpc, http)),
        ).run()


def _addresses(settings: Settings, held: contextlib.ExitStack) -> dict[str, str]:
    """Holds the addresses; port 0 is decided here, once for all. Without its default address, HTTP is left out."""
    addresses = {"grpc_address": _held(settings.grpc_address, "grpc_address", held), "http_address": ""}
    if settings.metrics_address is not None:
        addresses["metrics_address"] = _held(settings.metrics_address, "metrics_address", held)
    if settings.http_address:
        try:
            addresses["http_address"] = _held(settings.http_address, "http_address", held)
        except AddressTaken as error:
            if settings.is_http_address_chosen:
                raise
            log.warning("no HTTP", problem=str(error))
    return addresses


def _held(address: str, setting: str, held: contextlib.ExitStack) -> str:
    found = HeldAddress(address, f"WEBHOOK_{setting.upper()}")
    held.callback(found.close)
    return found.address


def _credentials(settings: Settings, secret_keys: Iterable[bytes]) -> dict[str, Any]:
    """Reads the files once, so that a child that is restarted later knows the same tokens and keys as the others."""
    credentials: dict[str, Any] = {
        "secret_keys": [base64.b64encode(key).decode() for key in secret_keys],
        "secret_keys_file": None,
    }
    tokens = load_tokens(settings)
    if tokens:  # with a file that names nobody, nobody may call: that it is set says so
        credentials |= {"tokens": [token.model_dump(mode="json") for token in tokens], "tokens_file": None}
    return credentials

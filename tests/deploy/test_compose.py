"""compose.yaml is what the image, the settings and the commands are: every word of it that they decide is compared."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from base64 import b64encode
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import pytest
import yaml
from scripts import dist

from tests.support.distribution import bin_path, missing
from tests.support.service import SECRET_KEY
from webhook_grpc import app
from webhook_grpc.cli import main
from webhook_grpc.commands.examples import HELP_NAMES
from webhook_grpc.domain.tokens import token_hash
from webhook_grpc.engine import engine
from webhook_grpc.settings import Settings, load_settings, unknown_variables
from webhook_grpc.store.connection.conninfo import checked
from webhook_grpc.store.connection.server_checks import SERVER_VERSION_MIN

FILE: dict[str, Any] = yaml.safe_load((dist.ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
OURS = ("migrate", "service")
DOCKERFILE = (dist.ROOT / "Dockerfile").read_text()
VARIABLE = re.compile(r"\$\{(\w+)(?::([?-])([^}]*))?\}")
# The keys of compose's own schema that are used here: a misspelt one would be ignored by some of its versions.
KEYS = {
    "build", "cap_drop", "command", "depends_on", "environment", "healthcheck", "image", "init", "ports", "read_only",
    "restart", "security_opt", "shm_size", "stop_grace_period", "ulimits", "volumes",
}  # fmt: skip
SECRETS = {
    "POSTGRES_PASSWORD": "any",
    "WEBHOOK_SECRET_KEYS": b64encode(SECRET_KEY).decode(),
    "WEBHOOK_TOKENS": f'[{{"name":"me","sha256":"{token_hash("any")}"}}]',
}


def environment(service: str) -> dict[str, str]:
    """What compose sets there, with a .env that has what the file needs."""

    def value(found: re.Match[str]) -> str:
        given = SECRETS.get(found[1])
        return given if given is not None else found[3]

    return {name: VARIABLE.sub(value, text) for name, text in SERVICES[service]["environment"].items()}


def settings(service: str) -> Settings:
    with patch.dict(os.environ, environment(service), clear=True):
        return load_settings()


def seconds(text: str) -> int:
    units = {"s": 1, "m": 60}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([sm])", text))


def port_of(address: str) -> str:
    return address.rpartition(":")[2]


def take(line: list[str]) -> None:
    """Reads a line as the program does, and runs nothing. Raises what the program would print."""
    place: click.Command = main
    words = list(line)
    while isinstance(place, click.Group):
        place = place.commands[words.pop(0)]
    # A command remembers from its first context how it is asked for help.
    place.make_context("line", words, parent=click.Context(main, help_option_names=HELP_NAMES["help_option_names"]))


def test_it_has_the_database_the_migration_and_the_service_in_that_order() -> None:
    assert list(SERVICES) == ["database", *OURS]
    assert set(FILE) == {"services", "volumes", "x-service"}
    for name, one in SERVICES.items():
        assert set(one) <= KEYS, name
        assert {place.partition(":")[0] for place in one.get("volumes", ())} <= set(FILE["volumes"])
    waits = {name: {of: how["condition"] for of, how in SERVICES[name]["depends_on"].items()} for name in OURS}
    assert waits == {
        "migrate": {"database": "service_healthy"},
        "service": {"database": "service_healthy", "migrate": "service_completed_successfully"},
    }


def test_its_images_are_the_one_that_is_built_here_and_a_postgres_that_will_do() -> None:
    assert {(SERVICES[name]["image"], SERVICES[name]["build"]) for name in OURS} == {("webhook-grpc", ".")}
    assert f"docker build -t {SERVICES['service']['image']} ." in DOCKERFILE
    major = re.fullmatch(r"postgres:(\d+)", SERVICES["database"]["image"])
    assert major
    assert f"| {major[1]}." in (dist.ROOT / "docs/operations.md").read_text(), "is in the table of what was tried"
    assert int(major[1]) * 10_000 >= SERVER_VERSION_MIN


@pytest.mark.parametrize("name", OURS)
def test_its_variables_are_settings_that_a_start_takes(name: str) -> None:
    given = environment(name)
    assert unknown_variables(given) == []
    assert {one for one in given if not one.startswith("WEBHOOK_")} == {"PGPASSWORD"}
    found = settings(name)
    assert found.database_url is not None
    parts = dict(part.split("=") for part in checked(found.database_url.get_secret_value()).split())
    database = SERVICES["database"]["environment"]
    assert parts == {"host": "database", "user": database["POSTGRES_USER"], "dbname": database["POSTGRES_DB"]}
    assert given["PGPASSWORD"] == SECRETS["POSTGRES_PASSWORD"]


def test_its_ports_are_those_of_the_settings_and_of_the_image_and_published_to_this_machine_only() -> None:
    published = [port.rsplit(":", 2) for port in SERVICES["service"]["ports"]]
    assert {host for host, _, _ in published} == {"127.0.0.1"}
    assert all(outside == inside for _, outside, inside in published)
    inside = {port for _, _, port in published}
    found = settings("service")
    assert inside == {port_of(found.grpc_address), port_of(found.http_address)}
    exposed = re.search(r"^EXPOSE (.*)$", DOCKERFILE, re.MULTILINE)
    assert exposed
    assert inside == set(exposed[1].split())
    of_image = re.findall(r"(WEBHOOK_(?:GRPC|HTTP)_ADDRESS)=(\S+)", DOCKERFILE)
    assert dict(of_image) == {name: environment("service")[name] for name, _ in of_image}


def test_what_it_says_to_run_are_lines_that_the_program_takes() -> None:
    take(SERVICES["migrate"]["command"])
    text = (dist.ROOT / "compose.yaml").read_text()
    lines = re.findall(r"docker (?:run --rm webhook-grpc|compose run --rm migrate) ((?:(?!  )[^}`\n])+)", text)
    assert len(lines) == 5
    for line in lines:
        take(shlex.split(line))
    asked = {name for name, mark, _ in VARIABLE.findall(text) if mark == "?"}
    assert asked == set(SECRETS)
    head = text.partition("x-service")[0]
    assert asked <= set(re.findall(r"^#   ([A-Z_]+) ", head, re.MULTILINE)), "what has to be given is said at the top"


def test_its_health_checks_ask_what_is_there(tmp_path: Path) -> None:
    """The service's is the image's, which tests/e2e/test_cli.py runs; that of the database is a program of Postgres."""
    assert SERVICES["migrate"]["healthcheck"] == {"disable": True}
    assert "healthcheck" not in SERVICES["service"]
    assert "\nHEALTHCHECK " in DOCKERFILE
    command: list[str] = SERVICES["database"]["healthcheck"]["test"]
    kind, program, *arguments = command
    database = SERVICES["database"]["environment"]
    assert (kind, program) == ("CMD", "pg_isready")
    said = dict(word.removeprefix("--").split("=") for word in arguments)
    assert (said["username"], said["dbname"]) == (database["POSTGRES_USER"], database["POSTGRES_DB"])
    found = shutil.which(program, path=os.pathsep.join([os.environ["PATH"], str(bin_path() or "")]))
    if found is None:
        missing(program, ".ci/packages")
    nobody = f"--host={tmp_path}"  # a folder without a socket: 3 would be arguments that it does not take
    done = subprocess.run([found, *arguments, nobody], check=False, capture_output=True, timeout=60)
    assert done.returncode == 2, done


def test_it_may_drain_before_it_is_killed() -> None:
    found = settings("service")
    needed = [
        found.shutdown_delay_seconds,
        app._CALL_GRACE_SECONDS,  # pyright: ignore[reportPrivateUsage] - nobody else needs it
        found.drain_seconds,
        engine._SETTLE_SECONDS_AT_STOP,  # pyright: ignore[reportPrivateUsage] - the same
    ]
    assert seconds(SERVICES["service"]["stop_grace_period"]) >= sum(needed)

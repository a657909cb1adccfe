"""Connection strings: what is wrong with one is said without a part of it, for it may hold a password."""

from __future__ import annotations

import traceback

import pytest
from click.testing import CliRunner

from webhook_grpc.cli import main
from webhook_grpc.store.connection.conninfo import BadConninfo, checked
from webhook_grpc.store.connection.opening import DatabaseUnreachable
from webhook_grpc.store.schema.migrate import check_schema

PLACE = "127.0.0.1:1/db"
HALVES = ("hunter2", "kumquat9")
# What stands in passwords that nobody has encoded, between two halves.
BETWEEN = (
    "@", "/", "?", "#", ":", "%", "%zz", "%00", "%ff", "&", "=", "+", " ", "'", '"', "\\", "[", "]", ",", "@@", "/@",
    "é",
)  # fmt: skip

FORMS = (
    *(f"postgresql://user:{between.join(HALVES)}@{PLACE}" for between in BETWEEN),
    *(f"host=127.0.0.1 port=1 user=user password={between.join(HALVES)}" for between in BETWEEN),
    *(
        form.replace("PASSWORD", "hunter2kumquat9")
        for form in (
            f"postgresql+psycopg://user:PASSWORD@{PLACE}",
            f"postgresql+asyncpg://user:PASSWORD@{PLACE}",
            f"mysql://user:PASSWORD@{PLACE}",
            f"jdbc:postgresql://user:PASSWORD@{PLACE}",
            f"Postgresql://user:PASSWORD@{PLACE}",
            f"postgresql:/user:PASSWORD@{PLACE}",
            f"postgresql:user:PASSWORD@{PLACE}",
            f"user:PASSWORD@{PLACE}",
            f'"postgresql://user:PASSWORD@{PLACE}"',
            f"'postgresql://user:PASSWORD@{PLACE}'",
            f" postgresql://user:PASSWORD@{PLACE}",
            f"postgresql://user:PASSWORD@{PLACE}\n",
            f"DATABASE_URL=postgresql://user:PASSWORD@{PLACE}",
            f"postgresql://user:PASSWORD@{PLACE}?sslmode",
            f"postgresql://user:PASSWORD@{PLACE}?nonsense=1",
            f"postgresql://user:PASSWORD@{PLACE}?sslmode=nonsense",
            "postgresql://user@127.0.0.1:PASSWORD/db",
            "postgresql://user:PASSWORD@127.0.0.1:port/db",
            "postgresql://user:PASSWORD@[127.0.0.1:1/db",
            "postgresql://PASSWORD:hunter2@",
            "host=127.0.0.1 port=1 passwrd=PASSWORD",
            "host=127.0.0.1 port=PASSWORD",
            "host=127.0.0.1 port=1 password = 'PASSWORD",
            "host=127.0.0.1,port=1,password=PASSWORD",
            "host:127.0.0.1 password:PASSWORD",
            '{"host": "127.0.0.1", "password": "PASSWORD"}',
            "PASSWORD",
        )
    ),
)


def leaks(text: str) -> list[str]:
    """The parts of the password that a text shows."""
    return [half for half in HALVES if half in text or half[:5] in text]


def test_there_are_as_many_forms_as_were_tried() -> None:
    assert len(set(FORMS)) >= 36


@pytest.mark.parametrize("form", FORMS)
def test_no_error_shows_a_part_of_the_password(form: str) -> None:
    with pytest.raises((BadConninfo, DatabaseUnreachable)) as caught:
        check_schema(form)
    assert not leaks("".join(traceback.format_exception(caught.value))), str(caught.value)
    assert not leaks(str(caught.value))
    environment = {"WEBHOOK_DATABASE_URL": form, "WEBHOOK_SECRET_KEYS": None}
    said = CliRunner().invoke(main, ["migrate"], env=environment)
    assert said.exit_code == 1
    assert said.output.startswith("webhook-grpc: ")
    assert said.output.count("\n") == 1
    assert not leaks(said.output)
    assert "Traceback" not in said.output


@pytest.mark.parametrize(
    ("form", "problem"),
    [
        ("postgresql+psycopg://user:hunter2@host/db", "without the name of a driver"),
        ("mysql://user:hunter2@host/db", "must begin with postgresql://"),
        ("'postgresql://user:hunter2@host/db'", "stands in quotes"),
        ("postgresql://user:hun ter2@host/db", "write %20"),
        ("postgresql://user:hun%ter2@host/db", "write %25"),
        ("postgresql://user:hun@ter2@host/db", "@ as %40"),
        ("postgresql://user:hun/ter2@host/db", "/ as %2F"),
        ("postgresql://user:hun?ter2@host/db", "? as %3F"),
        ("host=host password=hun ter2", "in single quotes"),
        ("host=host port=many", "a port that is no number"),
    ],
)
def test_what_is_wrong_is_said(form: str, problem: str) -> None:
    with pytest.raises(BadConninfo, match="WEBHOOK_DATABASE_URL") as caught:
        checked(form)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    "form",
    [
        "postgresql://webhook@db.internal/webhook",
        "postgres://user:pa%40ss@host:5432/db?sslmode=require",
        "postgresql://user:pa:ss@host/db",
        "postgresql:///db?host=/var/run/postgresql",
        "postgresql://user@h1:5432,h2:5433,[::1]:5434/db?target_session_attrs=read-write",
        "postgresql://[fe80::1%25eth0]:5432/db",
        "postgresql://%2Fvar%2Frun/db",
        "postgresql://host/db?user=me@server&options=-c%20search_path%3Dcell",
        "postgresql:///?service=mine",
        "postgresql://",
        "host=/tmp user=postgres dbname=db",
        "dbname='my db' user=x password='a b@c/d'",
        "host=a,b port=1,2",
        "",
    ],
)
def test_what_libpq_takes_is_taken(form: str) -> None:
    assert checked(f"  {form}\n") == form

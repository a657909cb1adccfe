"""`doctor`: checks what lies between this machine and the service."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Final

import click

from webhook_grpc_cli.doctoring.results import Result, lines, summary
from webhook_grpc_cli.failures import FAILED, UsageFailure
from webhook_grpc_cli.flags import Command
from webhook_grpc_cli.output.kind import Column, Kind
from webhook_grpc_cli.session import Session, with_session

_VALUES: Final = ("check", "state", "detail", "remedy")
_RESULT: Final = Kind("check", [Column(name, name) for name in _VALUES], more=dict.fromkeys(_VALUES, ""))


@click.command("doctor", cls=Command, examples=["webhook-grpc doctor", "webhook-grpc doctor -o json"])
@click.option("--server", "is_server", is_flag=True, help="Also the settings of this environment, and the database.")
@click.option("--role", metavar="NAME", help="Judge this role's rights in the database, not those of who connects.")
@with_session
def doctor(session: Session, is_server: bool, role: str | None) -> int:
    """Check what lies between this machine and the service: each line is fine, or says what to do.

    Nothing is changed, no webhook is called, no token is shown. Exit status 1 if there is a problem.
    """
    if is_server and find_spec("webhook_grpc") is None:
        raise UsageFailure("--server looks at the server, the package webhook-grpc, which is not installed here")
    if role is not None and not is_server:
        raise UsageFailure("--role is of --server, which looks at the database")
    found: list[Result] = []

    def noted() -> Iterator[Result]:
        for result in _results(session, role, is_server=is_server):
            found.append(result)
            yield result

    if session.printer.has_own_lines:
        for result in noted():
            for line in lines(result, session.look.width):
                session.printer.sentence(line)
        session.printer.sentence(summary(found))
    else:
        session.printer.several(_RESULT, ({name: getattr(one, name) for name in _VALUES} for one in noted()))
    return FAILED if any(result.state == "problem" for result in found) else 0


def _results(session: Session, role: str | None, *, is_server: bool) -> Iterator[Result]:
    from webhook_grpc_cli.doctoring.checks import results, token_of

    yield from results(session)
    if is_server:
        for one in import_module("webhook_grpc.commands.doctor").findings(token_of(session), role):
            yield Result(one.check, one.state, one.detail, one.remedy)

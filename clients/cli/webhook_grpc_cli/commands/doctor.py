"""`doctor`: checks what lies between this machine and the service."""

from __future__ import annotations

import click

from webhook_grpc_cli.doctoring.results import Result, lines, summary
from webhook_grpc_cli.failures import FAILED
from webhook_grpc_cli.flags import Command
from webhook_grpc_cli.output.printing import text_of, write_line
from webhook_grpc_cli.session import Session, with_session
from webhook_grpc_cli.values import json_text


@click.command("doctor", cls=Command, examples=["webhook-grpc doctor", "webhook-grpc doctor -o json"])
@with_session
def doctor(session: Session) -> int:
    """Check what lies between this machine and the service: each line is fine, or says what to do.

    Nothing is changed, no webhook is called, no token is shown. Exit status 1 if there is a problem.
    """
    from webhook_grpc_cli.doctoring.checks import results

    found: list[Result] = []
    for result in results(session):
        found.append(result)
        values = (result.check, result.state, result.detail, result.remedy)
        if session.form == "table":
            for line in lines(result, session.look.width):
                session.printer.sentence(line)
        elif session.form == "json":
            write_line(json_text(dict(zip(("check", "state", "detail", "remedy"), values, strict=True))))
        else:
            write_line("\t".join(map(text_of, values)))
    if session.form == "table":
        session.printer.sentence(summary(found))
    return FAILED if any(result.state == "problem" for result in found) else 0

"""`open`: starts the page for browsers, at an id."""

from __future__ import annotations

import re
import webbrowser
from typing import Final

import click

from webhook_grpc_cli.failures import UsageFailure
from webhook_grpc_cli.flags import Command
from webhook_grpc_cli.output.printing import write_line
from webhook_grpc_cli.session import Session, with_session

_NUMBER: Final = r"[1-9]\d{0,18}"
_PAGES: Final = {  # as the page names its addresses
    "webhooks": re.compile(_NUMBER),
    "deliveries": re.compile(rf"dlv_[0-9a-z]{{26}}_{_NUMBER}"),
    "events": re.compile(r"evt_[0-9a-z]{26}"),
}


@click.command("open", cls=Command, examples=["webhook-grpc open", "webhook-grpc open DELIVERY_ID"])
@click.argument("one", metavar="[ID]", default="")
@click.option("--page", "page_url", metavar="URL", help="Where the page is; WHK_PAGE, http://127.0.0.1:8080.")
@with_session
def open_page(session: Session, one: str, page_url: str | None) -> None:
    """Start the page for browsers, at a webhook, an event or a delivery. Where no browser is, print its address."""
    address = f"{(page_url or session.place.page).rstrip('/')}/{_path(one)}"
    if not address.startswith(("https://", "http://")):
        raise UsageFailure(f"`{address}` is no address of a page", remedy="--page https://HOST")
    if session.place.customer_id:
        address += f"?customer_id={session.place.customer_id}"
    if not (session.look.is_terminal and webbrowser.open(address)):
        write_line(address)


def _path(one: str) -> str:
    """Returns where the page shows an id. Raises UsageFailure."""
    for page, form in _PAGES.items():
        if form.fullmatch(one):
            return f"{page}/{one}"
    if one:
        raise UsageFailure(f"`{one}` is the id of no webhook, event or delivery")
    return ""

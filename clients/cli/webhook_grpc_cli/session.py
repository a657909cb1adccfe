"""What a command works with: the service, the printer, and the person in front of the terminal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

import click

from .failures import UsageFailure
from .given import given
from .output.escaping import escaped, escaped_lines
from .output.look import Look, is_terminal, look_of
from .places import Place
from .signals import looked_for

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from webhook.v1.service_pb2_grpc import WebhookServiceStub

    from webhook_grpc_client import Client

    from .meaning import Meant
    from .output.kind import Kind
    from .output.printing import Printer
    from .output.progress import Progress

TIMEOUT_SECONDS: Final = 30.0
PAGE_SIZE_MAX: Final = 500
FORMATS: Final = ("table", "tsv", "json", "id")
_SESSION: Final = "webhook_grpc_cli.session"

Request = TypeVar("Request")
Response = TypeVar("Response")
Answer = TypeVar("Answer")
Request_contra = TypeVar("Request_contra", contravariant=True)
Response_co = TypeVar("Response_co", covariant=True)


class Method(Protocol[Request_contra, Response_co]):
    """A method of the stub that has one answer."""

    def with_call(self, request: Request_contra, /, *, timeout: float, metadata: Any) -> tuple[Response_co, Any]:
        """Calls it, and returns the answer and the call."""
        ...


class Session:
    """One run of a command."""

    def __init__(self, flags: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        self._flags = flags
        self.place = Place(flags, environment)
        self.timeout_seconds: float = flags.get("timeout", TIMEOUT_SECONDS)
        self.is_quiet = bool(flags.get("quiet"))
        self.is_verbose = bool(flags.get("verbose"))
        self.is_yes = bool(flags.get("yes"))
        self._environment = environment
        self._is_confirmed = False

    # --- output ------------------------------------------------------------------------------------------------------

    @cached_property
    def look(self) -> Look:
        """Returns how stdout is written."""
        return self._look(sys.stdout)

    @cached_property
    def talk(self) -> Look:
        """Returns how stderr is written."""
        return self._look(sys.stderr)

    def _look(self, stream: Any) -> Look:
        colour = self._flags.get("color", "auto")
        return look_of(stream, colour, self._environment, is_utc=bool(self._flags.get("utc")))

    @property
    def form(self) -> Any:
        """Returns the form of the answer: table on a terminal, else tsv, unless one is chosen. Raises UsageFailure."""
        found = self.place.look_up("output", "table" if self.look.is_terminal else "tsv")
        if found.value not in FORMATS:
            raise UsageFailure(f"{found.source}: `{found.value}` is none of {', '.join(FORMATS)}")
        return found.value

    @cached_property
    def printer(self) -> Printer:
        """Returns what prints the answer."""
        from .output.printing import Printer

        return Printer(self.form, self.look, self.fields, self.say)

    @property
    def fields(self) -> list[str]:
        """Returns the names that --fields gives; none for all."""
        return [name.strip() for name in self._flags.get("fields", "").split(",") if name.strip()]

    def say(self, text: str) -> None:
        """Says something about the answer, on stderr, unless --quiet. Names that others chose drive no terminal."""
        if not self.is_quiet:
            click.echo(escaped_lines(self.talk.mark(text)), err=True)

    @contextmanager
    def busy(self, text: str) -> Generator[None]:
        """Begins a line on a terminal while something takes a while; what is said next goes on behind it."""
        is_shown = self.talk.is_terminal and not (self.is_quiet or self.is_verbose)
        if is_shown:
            click.echo(self.talk.mark(text), nl=False, err=True)
        try:
            yield
        except BaseException:
            if is_shown:
                click.echo(err=True)
            raise

    def progress(self, total: int | None) -> Progress:
        """Returns what shows how far something is; `total` is None where nobody knows it."""
        from .output.progress import Progress

        return Progress(self.talk, self.say, total, is_quiet=self.is_quiet)

    # --- questions ---------------------------------------------------------------------------------------------------

    def confirm(self, question: str) -> None:
        """Asks before something is changed for good. Returns if the answer is yes. Raises UsageFailure, Abort.

        Without a terminal nobody can answer, so --yes has to stand in the line. A profile with `confirm = "always"`
        has its name typed.
        """
        name = self.place.profile_name
        if self.is_yes or self._is_confirmed:
            return
        if not is_terminal(sys.stdin) or not self.talk.is_terminal:
            raise UsageFailure(f"{question} Nobody can answer here.", remedy="add --yes")
        words = escaped(f"{name}: {question}" if name else question)
        if name and self.place.profile.get("confirm") == "always":
            if answered(lambda: click.prompt(f"{words} Type the name of the profile", err=True)) != name:
                raise click.Abort
            self._is_confirmed = True  # for all that this line does
        elif not answered(lambda: click.confirm(words, err=True)):
            raise click.Abort

    def confirm_change(self, what: str) -> None:
        """Asks before anything is changed, where the profile has `confirm = "always"`. Raises UsageFailure, Abort."""
        if self.place.profile.get("confirm") == "always":
            self.confirm(f"{what}?")

    # --- the service -------------------------------------------------------------------------------------------------

    @cached_property
    def client(self) -> Client:
        """Returns the client, which connects when it is first used. Raises UsageFailure."""
        from webhook_grpc_client import Client
        from webhook_grpc_client.calls import Patience

        text, file = self._token
        patience = Patience(try_seconds=self.timeout_seconds, seconds=self.timeout_seconds)
        try:
            return Client(self.place.address, token=text, token_file=file, tls=self.place.tls(), patience=patience)
        except OSError as error:
            raise UsageFailure(f"a file for TLS cannot be read: {error}") from error
        except ValueError as error:
            raise UsageFailure(str(error)) from error

    @cached_property
    def _token(self) -> tuple[str | None, Path | None]:
        return self.place.token()

    @property
    def token_text(self) -> str:
        """Returns the token that calls have, empty for none. Raises UsageFailure, Unauthorized."""
        from webhook_grpc_client.connecting import Token

        metadata = Token(*self._token).metadata()
        return metadata[0][1].removeprefix("Bearer ") if metadata else ""

    @property
    def stub(self) -> WebhookServiceStub:
        """Returns the stub, for `call`."""
        return self.client.stub

    def call(
        self,
        method: Method[Request, Response],
        request: Request,
        *,
        may_repeat: bool = False,
        is_confirmed: bool = False,
    ) -> Response:
        """Calls a method for the customer in question. Raises WebhookError.

        `may_repeat`: the call is made again while the service is away, up to --timeout; for reads, and for requests
        with a `request_id`. `is_confirmed`: somebody has agreed to the change already.
        """
        from .calling import Traced, change_of

        self.fill_customer(cast("Message", request))
        if (change := change_of(request)) and not is_confirmed:
            self.printer.check_answer(cast("Message", request))  # before anything is changed
            self.confirm_change(change)
        from webhook_grpc_client import Refused, Unavailable

        how = {"is_verbose": self.is_verbose, "may_repeat": may_repeat}
        traced = Traced(method, self.timeout_seconds, self.place.address, self.say, **how)
        while True:
            try:
                return self.client.call(traced, request, may_repeat=may_repeat)
            except Refused as error:
                raise self.meant.with_hint(error) from None
            except Unavailable as error:  # a call that was too much has done nothing, so it is made again
                pause = traced.pause_if_too_much(error.code, error.problem.retry_seconds)
                if may_repeat or pause is None:  # the client has waited already, or it is of no use
                    raise
            time.sleep(pause)  # what the service asks for; no signal says when it has room

    @cached_property
    def meant(self) -> Meant:
        """Returns what knows which event type was meant."""
        from .meaning import Meant

        return Meant(self._event_types)

    def _event_types(self) -> list[str]:
        from webhook.v1 import service_pb2

        from .meaning import TYPES_MAX

        request = service_pb2.ListEventTypesRequest(page_size=TYPES_MAX)
        found: Any = self.call(self.stub.ListEventTypes, request)
        return [one.event_type for one in found.event_types]

    def stream(self, method: Any, request: Any) -> Iterator[Any]:
        """Yields the messages of a method that has many, until the stream ends. Raises WebhookError."""
        import grpc

        from webhook_grpc_client.connecting import Token
        from webhook_grpc_client.errors import error_of

        self.fill_customer(request)
        try:
            yield from method(request, metadata=Token(*self._token).metadata())
        except grpc.RpcError as error:
            raise error_of(error) from None

    def fill_customer(self, message: Message) -> None:
        """Writes the customer into a request that names none."""
        request = cast("Any", message)
        if "customer_id" in message.DESCRIPTOR.fields_by_name and not request.customer_id:
            request.customer_id = self.place.customer_id

    def listed(self, method: Any, request: Any, field: str) -> Iterator[Any]:
        """Returns the items of all pages, each page when it is needed."""
        request.page_size = PAGE_SIZE_MAX
        while True:
            page = self.call(method, request, may_repeat=True)
            yield from getattr(page, field)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def print_list(self, kind: Kind, items: Iterable[Any], limit: int | None) -> None:
        """Prints at most so many items (None: all), and says so if there are more."""
        more = False

        def bounded() -> Iterator[Any]:
            nonlocal more
            for number, item in enumerate(items):
                if number == limit:
                    more = True
                    return
                yield item

        count = self.printer.several(kind, bounded())
        if more:
            sys.stdout.flush()
            self.say(f"{count} shown, there are more: -n N or --all")
        elif not count:
            self.say("nothing found")

    def close(self) -> None:
        """Closes the connection, if there is one."""
        if "client" in self.__dict__:
            self.client.close()


def answered(ask: Callable[[], Answer]) -> Answer:
    """Returns what a person types. Ctrl-C ends the line of the question, too. Raises Abort."""
    try:
        with looked_for():
            return ask()
    except click.Abort:
        click.echo(err=True)
        raise


def session_of(context: click.Context) -> Session:
    """Returns the session of a line; it is closed at the end of the line."""
    found = context.meta.get(_SESSION)
    if found is None:
        context.meta[_SESSION] = found = Session(given(context), os.environ)
        context.find_root().call_on_close(found.close)
    return found


def with_session(function: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command its session as the first argument."""

    def command(**arguments: Any) -> Any:
        return function(session_of(click.get_current_context()), **arguments)

    return update_wrapper(command, function)

"""`listen`: a receiver on this machine that verifies and prints what comes in, and passes it on."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import click

from webhook_grpc_cli.failures import INTERRUPTED, Failure, UsageFailure
from webhook_grpc_cli.flags import Command
from webhook_grpc_cli.kinds import FILE, SECONDS
from webhook_grpc_cli.listening.arrivals import ARRIVAL, INDENT, Handled, Tally, as_json, judged, lines
from webhook_grpc_cli.listening.forwarding import Forwarder
from webhook_grpc_cli.listening.receiver import Answer, Arrival, LocalReceiver
from webhook_grpc_cli.output.escaping import escaped
from webhook_grpc_cli.output.look import is_terminal, latency_text
from webhook_grpc_cli.output.printing import write_line
from webhook_grpc_cli.session import Session, answered, with_session
from webhook_grpc_cli.signals import Interruption

from .options import filters
from .verify import secret_in

if TYPE_CHECKING:
    from webhook_grpc_cli.listening.pulling import Puller

_TICK_SECONDS: Final = 1.0
_READY_SECONDS_MAX: Final = 5.0  # after the service has said that its test was answered
_DELAY_SECONDS_MAX: Final = 60.0


@click.command(
    "listen",
    cls=Command,
    examples=[
        "webhook-grpc listen --create -c 42 -t 'job.*' --forward http://localhost:3000/hook -n 1",
        "webhook-grpc listen --pull -c 42 --forward http://localhost:3000/hook -n 1",
    ],
)
@click.option("-f", "--forward", metavar="URL", help="Pass requests on to a program, and its answers back.")
@click.option("-l", "--listen", "place", default="127.0.0.1:8787", metavar="HOST:PORT", help="Where to listen.")
@click.option("--create", is_flag=True, help="Create a webhook that leads here, and delete it at the end.")
@click.option("--url", metavar="URL", help="With --create: an address that leads here, such as a tunnel's.")
@click.option("--pull", is_flag=True, help="Nothing comes in: read new events, sign them here, pass them on.")
@filters("event_types")
@click.option(
    "--secret-file", type=FILE, metavar="F", help="The secret to verify with; with --create or --pull, to sign with."
)
@click.option("--answer", type=click.IntRange(200, 599), default=200, metavar="200", help="Without --forward.")
@click.option("--delay", type=SECONDS, default=0.0, metavar="D", help="Wait so long before the answer.")
@click.option("-n", "count", type=click.IntRange(1), metavar="N", help="End after so many requests.")
@with_session
def listen(session: Session, **options: Any) -> int:
    """Receive on this machine: verify, print and pass on what the service sends.

    The service must be able to call this machine: it runs here, or --url leads here. Else take --pull. Says Ready only
    after a request of its own has come in. Takes 1 MiB and 50 connections at once. Ctrl-C ends it.
    """
    if options["pull"] and (options["create"] or options["url"] or not options["forward"]):
        raise UsageFailure("--pull needs --forward, and neither --create nor --url")
    if options["url"] and not options["create"]:
        raise UsageFailure("--url needs --create")
    if options["delay"] > _DELAY_SECONDS_MAX:
        raise UsageFailure("--delay is at most 60s")
    session.printer.check(ARRIVAL)
    listening = _Listening(session, options)
    with listening.interruption.heard():
        (listening.pull if options["pull"] else listening.receive)()
    session.say(f"{listening.tally.text()}.")
    return 0 if options["count"] and listening.tally.requests >= options["count"] else INTERRUPTED


class _Listening:
    """One run."""

    def __init__(self, session: Session, options: dict[str, Any]) -> None:
        self.session = session
        self.tally = Tally()
        self.ended = threading.Event()
        self.interruption = Interruption()
        self._options = options
        self._secrets = [secret_in(options["secret_file"])] if options["secret_file"] else []
        self._forward = Forwarder(options["forward"]) if options["forward"] else None
        self._printing = threading.Lock()
        self._is_ready = not options["create"]
        self._tested_at: float | None = None
        self._tested = threading.Event()

    # --- requests ----------------------------------------------------------------------------------------------------

    def take(self, arrival: Arrival) -> Answer:
        """Answers and prints a request. Called on the threads of connections."""
        if not self._is_ready and arrival.headers.get("x-webhook-event") == "webhook.test":
            self._tested_at = time.monotonic()
            self._tested.set()
            return Answer(204)
        started = time.monotonic()
        answer = self._answer(arrival)
        handled = Handled(arrival, judged(arrival, self._secrets), answer, time.monotonic() - started)
        was_seen = self.tally.add(arrival.headers.get("webhook-id", ""), is_failure=handled.is_failure)
        self._print(Handled(arrival, handled.signatures, answer, handled.seconds, was_seen))
        if self._options["count"] and self.tally.requests >= self._options["count"]:
            self.ended.set()
        return answer

    def _answer(self, arrival: Arrival) -> Answer:
        self._pause()
        return self._forward(arrival) if self._forward else Answer(self._options["answer"])

    def _pause(self) -> None:
        """Waits for --delay. A signal breaks that off: with --pull by an exception, elsewhere by `ended`."""
        is_pull = threading.current_thread() is threading.main_thread()
        with self.interruption.breaks_off() if is_pull else contextlib.nullcontext():
            self.ended.wait(self._options["delay"])

    def _print(self, handled: Handled) -> None:
        printer = self.session.printer
        if printer.has_own_lines:
            self._write(lines(handled, self.session.look))
        else:
            with self._printing:
                text = printer.streamed(ARRIVAL, as_json(handled))
            self._write([text])

    def _write(self, texts: Sequence[str]) -> None:
        try:
            with self._printing:
                for text in texts:
                    write_line(text)
                sys.stdout.flush()
        except BrokenPipeError:  # nobody reads any more: `| head`
            self.ended.set()

    def say(self, text: str) -> None:
        """Prints what the service does next, for people."""
        if self.session.printer.has_own_lines:
            self._write([INDENT + self.session.look.mark(text)])

    # --- the two ways ------------------------------------------------------------------------------------------------

    def receive(self) -> None:
        """Listens until the end."""
        host, port = _host_and_port(self._options["place"])
        try:
            receiver = LocalReceiver(host, port, self.take)
        except OSError as error:
            raise Failure(f"{self._options['place']}: {error.strerror}", remedy="another --listen HOST:PORT") from error
        with contextlib.closing(receiver):
            url = f"http://{f'[{host}]' if ':' in host else host}:{receiver.port}/"
            if self._options["create"]:
                self._receive_as_webhook(self._options["url"] or url, f"listen@{host}:{receiver.port}")
            else:
                self.session.say(
                    f"Listening on {url}. Nothing has come in yet; --create makes a webhook that leads here."
                )
                self._until_end(lambda: None)

    def _receive_as_webhook(self, url: str, name: str) -> None:
        from webhook_grpc_cli.listening import temporary
        from webhook_grpc_cli.listening.following import Follower

        session = self.session
        with self.interruption.breaks_off():
            self._offer_to_delete(temporary.left_behind(session))
            session.confirm_change("create a webhook")
        secret = self._secrets[0] if self._secrets else ""
        webhook = temporary.created(session, url, name, self._options["event_types"], secret)
        try:
            self._secrets = [webhook.secret or secret]
            started = time.monotonic()
            with self.interruption.breaks_off():
                temporary.tested(session, webhook)
                self._tested.wait(_READY_SECONDS_MAX)
            if self._tested_at is None:
                raise Failure(f"the test of webhook {webhook.webhook_id} was answered, but not by this receiver")
            self._is_ready = True
            took = latency_text(max(0.0, self._tested_at - started))
            with contextlib.closing(Follower(session, webhook, self.say)) as follower:
                which = f'Webhook {webhook.webhook_id} "{name}" (deleted at the end)'
                self._say_ready(f"Ready. {which}, a test of it came in after {took}.")
                self._until_end(follower.check)
        finally:
            self._delete(webhook)

    def _delete(self, webhook: Any) -> None:
        from webhook_grpc_cli.listening import temporary

        number = webhook.webhook_id
        try:
            temporary.delete(self.session, webhook)
        except BaseException:  # the service is away, or Ctrl-C has come once more
            self.session.say(f"webhook {number} is left behind: webhook-grpc webhooks delete {number}")
            raise
        self.session.say(f"Deleted webhook {number}.")

    def _say_ready(self, text: str) -> None:
        self.session.say(text)
        if self.session.talk.is_terminal:
            self.session.say(f"For your program:  export HOOK_SECRET={self._secrets[0]}")

    def _offer_to_delete(self, webhooks: Sequence[Any]) -> None:
        from webhook_grpc_cli.listening import temporary

        for webhook in webhooks:
            words = escaped(f'webhook {webhook.webhook_id} "{webhook.name}" was left behind by an earlier listen')
            if not (self.session.is_yes or (is_terminal(sys.stdin) and self.session.talk.is_terminal)):
                self.session.say(f"{words}: webhook-grpc webhooks delete {webhook.webhook_id}")
            elif self.session.is_yes or answered(partial(click.confirm, f"{words}. Delete it?", err=True)):
                temporary.delete(self.session, webhook)

    def _until_end(self, check: Callable[[], None]) -> None:
        with contextlib.suppress(KeyboardInterrupt):  # it is asked to end
            while not self.ended.is_set():
                with self.interruption.breaks_off():
                    self.ended.wait(_TICK_SECONDS)
                check()
        self.ended.set()  # what waits for --delay is answered

    def pull(self) -> None:
        """Reads events, and passes them on, until the end."""
        from webhook_grpc_cli.listening.pulling import Puller
        from webhook_grpc_cli.listening.signing import check, kept_secret

        if self._secrets:
            check(self._secrets[0], self._options["secret_file"])
        self._secrets = self._secrets or [kept_secret(os.environ)]
        puller = Puller(self.session, self._options["event_types"])
        with self.interruption.breaks_off():
            puller.begin()
        self._say_ready("Ready. The events could be read; new ones are passed on from here.")
        with contextlib.suppress(KeyboardInterrupt):  # it is asked to end
            self._pass_on(puller)

    def _pass_on(self, puller: Puller) -> None:
        """Passes new events on. A service that is away is said to be, and waited for. Raises KeyboardInterrupt."""
        from webhook_grpc_cli.listening.signing import request_of
        from webhook_grpc_client import Unavailable

        while not self.ended.is_set():
            try:
                with self.interruption.breaks_off():
                    self.ended.wait(_TICK_SECONDS)
                    events = puller.look()
            except Unavailable:
                self.session.say("── the service does not answer: nothing is read until it is back ──")
                continue
            for event in events:
                if not (self.interruption.is_noted or self.ended.is_set()):
                    self.take(request_of(event, self._secrets[0], time.time()))


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise UsageFailure(f"--listen: {address} is no HOST:PORT")
    return host.strip("[]"), int(port)

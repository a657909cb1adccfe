"""What time does to a connection and to the answers in it: pure policy. `now` is in monotonic seconds.

A client that is silent is asked whether it is there, and dropped if it does not answer. So is one that begins a frame
or a header block and does not end it: nothing else may come in between, so it cannot answer. A connection that is idle
or old is drained: the client hears that it should begin no more streams here, a moment later none is taken, and when
the grace is over its streams are ended, and then the connection is closed. One that is ended gets a moment to close,
then it is cut.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from webhook_grpc.domain.record import record

SETTINGS_SECONDS_MAX: Final = 10.0  # from the connection to its settings
SILENT_SECONDS_MAX: Final = 30.0  # then the client is asked whether it is still there
PING_SECONDS_MAX: Final = 10.0  # for the client to send a whole frame after that
CLOGGED_SECONDS_MAX: Final = 30.0  # that a client may take to empty a full send buffer, down to its low mark
UNTAKEN_SECONDS_MAX: Final = 10.0  # that an answer may wait without TAKEN_BYTES_MIN of it being taken
AGE_SECONDS_MAX: Final = 30 * 60.0
AGE_GRACE_SECONDS: Final = 60.0  # for the streams of a connection that is drained
CLOSE_SECONDS_MAX: Final = 5.0  # for the client to take the last bytes, or to hear that it should begin no streams


class Step(Enum):
    """What is to be done with a connection."""

    ASK = auto()  # send a ping, which the client has to answer
    DRAIN = auto()  # let the client know that it should begin no more streams
    REFUSE = auto()  # take no more streams: the client has had time to hear of it
    LEAVE = auto()  # end its streams, each with a status: of one that breaks off proxies make INTERNAL
    CLOSE = auto()  # end it, and all streams in it
    DROP = auto()  # cut it, without a word


@record
class Due:
    """A step that is due; `problem` says to the log why a connection is dropped."""

    step: Step
    problem: str = ""


class Lifetime:
    """How old a connection is, when its client was heard, and how far its end has come."""

    __slots__ = (
        "_age_seconds_max",
        "_asked_at",
        "_began_at",
        "_clogged_at",
        "_drain_at",
        "_idle_seconds_max",
        "_idle_since",
        "_whole_at",
        "ended_at",
        "has_settings",
        "heard_at",
        "is_drained",
    )

    def __init__(self, now: float, idle_seconds_max: float, age_seconds_max: float) -> None:
        """Begins with the connection. `idle_seconds_max`: without a stream."""
        self._idle_seconds_max = idle_seconds_max
        self._age_seconds_max = age_seconds_max
        self._began_at = self._idle_since = now
        self._asked_at: float | None = None
        self._clogged_at: float | None = None
        self._drain_at: float | None = None
        self.heard_at = now
        """When something of the client came last: the time of whatever it brings."""
        self._whole_at = now  # when a frame was whole last, and a header block if it was of one
        self.has_settings = False
        """Whether the client has sent its settings, which come first. Set by the connection."""
        self.is_drained = False
        """Whether no more streams are taken."""
        self.ended_at: float | None = None
        """When the connection was ended; None while it goes on."""

    def begin(self, now: float) -> None:
        """Notes that the transport is there: from now on the client's time counts."""
        self._began_at = self._idle_since = self._whole_at = self.heard_at = now

    # --- what happens ----------------------------------------------------------------------------------------------

    def hear(self, now: float) -> None:
        """Notes that something of the client came, perhaps a part of a frame."""
        self.heard_at = now

    def hear_whole(self) -> None:
        """Notes that a frame is whole with what has come, and that no header block waits for its rest."""
        self._whole_at = self.heard_at

    def clog(self, now: float) -> None:
        """Notes that the send buffer is full: the client takes less than is sent."""
        self._clogged_at = now

    def unclog(self) -> None:
        """Notes that the client takes what is sent again."""
        self._clogged_at = None

    def become_idle(self, now: float) -> None:
        """Notes that the last stream has ended."""
        self._idle_since = now

    def drain(self, now: float) -> bool:
        """Notes that no new streams are wanted. Returns whether that is new, so that the client has to hear of it."""
        if self._drain_at is not None or self.ended_at is not None:
            return False
        self._drain_at = now
        return True

    def refuse(self) -> bool:
        """Notes that no more streams are taken. Returns whether that is new; only a connection that is drained does."""
        if self._drain_at is None or self.is_drained:
            return False
        self.is_drained = True
        return True

    def end(self, now: float) -> None:
        """Notes that the connection is ended; the first time counts."""
        if self.ended_at is None:
            self.ended_at = now

    # --- what is to be done ----------------------------------------------------------------------------------------

    def due(self, now: float, *, has_streams: bool) -> list[Due]:
        """Returns what has become due, in order; asking counts as done."""
        if self.ended_at is not None:
            is_late = now - self.ended_at > CLOSE_SECONDS_MAX
            return [Due(Step.DROP, "the client has not closed an ended connection")] if is_late else []
        of_client = self._due_of_client(now)
        if of_client is not None and of_client.step is Step.DROP:
            return [of_client]
        of_age = self._due_of_age(now, has_streams=has_streams)
        return [due for due in (of_client, of_age) if due is not None]

    def _due_of_client(self, now: float) -> Due | None:
        if not self.has_settings:
            return Due(Step.DROP, "no settings came") if now - self._began_at > SETTINGS_SECONDS_MAX else None
        if self._clogged_at is not None and now - self._clogged_at > CLOGGED_SECONDS_MAX:
            return Due(Step.DROP, "a client takes nothing")
        if self._asked_at is not None and self._whole_at < self._asked_at:
            is_late = now - self._asked_at > PING_SECONDS_MAX
            return Due(Step.DROP, "a client is not there any more") if is_late else None
        if now - self._whole_at > SILENT_SECONDS_MAX:
            self._asked_at = now
            return Due(Step.ASK)
        return None

    def _due_of_age(self, now: float, *, has_streams: bool) -> Due | None:
        if self._drain_at is None:
            is_idle = not has_streams and now - self._idle_since > self._idle_seconds_max
            return Due(Step.DRAIN) if is_idle or now - self._began_at > self._age_seconds_max else None
        drained_seconds = now - self._drain_at
        if drained_seconds > AGE_GRACE_SECONDS:
            return Due(Step.LEAVE if drained_seconds <= AGE_GRACE_SECONDS + UNTAKEN_SECONDS_MAX else Step.CLOSE)
        is_over = drained_seconds > CLOSE_SECONDS_MAX
        return Due(Step.REFUSE) if is_over and not self.is_drained else None


def is_given_up(now: float, taken_at: float, sent_at: float, *, may_send: bool) -> bool:
    """Returns whether an answer has waited too long to be taken.

    `taken_at`: when something of it was taken last; `sent_at`: when something of any stream was sent. An answer that
    may be sent only waits for its turn while the client takes those of others.
    """
    is_in_turn = may_send and now - sent_at <= UNTAKEN_SECONDS_MAX
    return now - taken_at > UNTAKEN_SECONDS_MAX and not is_in_turn

"""Which work of this process stands still, for how long, and what the log says of it. Pure: the time is given.

Each loop has a `Work` of its own and reports to it what comes of every try. A process that was stopped, or a machine
that is busy, is no stall: only time in which the process was seen to run counts (`Progress.advance`).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from .record import record

STALLED_SECONDS: Final = 10.0
_STEP_SECONDS_MAX: Final = 1.0  # what one look counts for at most: what lies beyond it, the process did not run
# After so long without a try nobody knows whether it would still fail. Longer than any loop waits before its next try.
_TRIES_KEPT_SECONDS_MIN: Final = 30.0
_BOUNDS_KEPT: Final = 3
# After so long without a try the log says that nobody tries any more. Longer than housekeeping waits after a failure.
UNTRIED_SECONDS_MIN: Final = 300.0
UNTRIED: Final = "what failed is no longer tried"
# A spell has ended when nothing has failed for so long; twice as long after each that follows within a minute.
_QUIET_SECONDS_MIN: Final = 1.0
_QUIET_SECONDS_MAX: Final = 60.0
_KINDS_MAX: Final = 8  # of causes that are said in one spell
_STATEMENT_SQLSTATE_CLASS: Final = "42"  # a statement may not be run, or its tables are not there


class Service(StrEnum):
    """What health checks know by name."""

    WEBHOOKS = "webhook.v1.WebhookService"  # the calls
    DELIVERY = "webhook.v1.Delivery"  # what is due is sent, and what came of it is stored


@record
class Cause:
    """Why something failed, in words for the log; with the SQLSTATE if Postgres gave one."""

    text: str
    sqlstate: str | None = None
    kind: str = ""  # what two causes of one kind share, where the text varies

    @property
    def key(self) -> str:
        """Causes with the same key are said once in a spell."""
        return self.sqlstate or self.kind or self.text

    @property
    def line(self) -> str:
        """Causes with the same one are said in one line. What a statement may not use, or lacks, is in its text."""
        return f"{self.key} {self.text}" if self.key.startswith(_STATEMENT_SQLSTATE_CLASS) else self.key


NO_ANSWER: Final = Cause("no answer in time", kind="no answer")


@record
class Words:
    """The messages at the beginning and at the end of a spell."""

    fails: str
    recovers: str


DATABASE: Final = Words("the database fails", "the database answers again")
LEASE: Final = Words("lease not renewed", "lease renewed again")
SHARDS: Final = Words("shards have no owner", "every shard has an owner again")
DELIVERIES: Final = Words("deliveries stand still", "deliveries move again")
PAUSED: Final = Words("attempts paused: a fault of this process", "attempts go on")
HOUSEKEEPING: Final = Words("housekeeping fails", "housekeeping works again")


@record
class News:
    """Something that the log has to say: that work fails, and why, or that this is over."""

    work: str
    words: Words
    cause: Cause | None  # None: it is over
    seconds: float  # since its last success; at the end: for how long it failed
    is_untried: bool = False  # it is over because nobody tries any more: whether it would succeed is not known

    @property
    def message(self) -> str:
        """The message of the line."""
        if self.is_untried:
            return UNTRIED
        return self.words.recovers if self.cause is None else self.words.fails


class WatchedTime:
    """How long the process was seen to run, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self._looked_at: float | None = None

    def advance(self, now: float) -> None:
        """Takes in that the process runs at this moment, in monotonic seconds."""
        if self._looked_at is not None:
            self.now += min(now - self._looked_at, _STEP_SECONDS_MAX)
        self._looked_at = now


class Work:
    """One thing that has to go on, and how it went lately."""

    def __init__(
        self,
        time: WatchedTime,
        name: str,
        services: Sequence[Service],
        words: Words,
        patience_seconds: float,
        tries_kept_seconds: float,
        *,
        is_said_at_once: bool,
    ) -> None:
        self.name = name
        self.services = frozenset(services)
        self.cause: Cause | None = None  # of the last failure
        self._time = time
        self._patience_seconds = patience_seconds
        self._tries_kept_seconds = tries_kept_seconds
        self._is_said_at_once = is_said_at_once
        self._begun_at: float | None = None
        self._failing_since: float | None = None
        self._failed_at = 0.0
        self._succeeded_at = time.now
        self._spell = _Spell(words)

    # --- what the loop reports -------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A try begins, or has come a step further: what takes longer than the bound counts as failed."""
        self._begun_at = self._time.now

    def leave(self) -> None:
        """The try was broken off; nothing is known."""
        self._begun_at = None

    def succeed(self) -> None:
        """It went well."""
        self._begun_at = self._failing_since = None
        self._succeeded_at = self._time.now

    def fail(self, cause: Cause) -> None:
        """It failed."""
        self._failed(cause)
        self._begun_at = None

    @property
    def cause_now(self) -> Cause | None:
        """Why it fails; None if its last try went well, however long ago, or none has failed yet."""
        return self.cause if self._failing_since is not None else None

    # --- what is to be said of it ----------------------------------------------------------------------------------

    @property
    def is_stalled(self) -> bool:
        """Whether it was seen to fail for as long as is borne, and was tried lately.

        A single failure that nobody has repeated is no stall: what is seldom tried may work again since.
        """
        seen_until = self._time.now if self._begun_at is not None else self._failed_at
        if self._failing_since is None or seen_until - self._failing_since < self._patience_seconds:
            return False
        return self._begun_at is not None or self._time.now - self._failed_at < self._tries_kept_seconds

    def look(self) -> News | None:
        """Returns what has become worth a line since the last look."""
        now = self._time.now
        if self._begun_at is not None and now - self._begun_at >= self._patience_seconds:
            self._failed(NO_ANSWER)
        if self.cause is not None and self._spell.is_fresh and (self._is_said_at_once or self.is_stalled):
            return self._spell.say(self.name, self.cause, now, now - self._succeeded_at)
        if self._failing_since is None:
            return self._spell.end(self.name, now) if now - self._failed_at >= self._spell.quiet_seconds else None
        return self._spell.end(self.name, self._failed_at, is_untried=True) if self._is_untried else None

    @property
    def _is_untried(self) -> bool:
        """Whether nobody has tried for so long that its line in the log has to be closed.

        Its shards are another process's by now, say, or nobody publishes any more.
        """
        bound = max(UNTRIED_SECONDS_MIN, self._tries_kept_seconds)
        return self._begun_at is None and self._time.now - self._failed_at >= bound

    def _failed(self, cause: Cause) -> None:
        now = self._time.now
        if self._failing_since is None:
            self._failing_since = now if self._begun_at is None else self._begun_at
        self._failed_at, self.cause = now, cause
        self._spell.is_fresh = True


class _Spell:
    """What the log has said of a time in which work failed now and then."""

    def __init__(self, words: Words) -> None:
        self.quiet_seconds = _QUIET_SECONDS_MIN
        self.is_fresh = False  # something failed since the last look
        self._words = words
        self._said: set[str] = set()
        self._began_at: float | None = None
        self._ended_at = -_QUIET_SECONDS_MAX

    def say(self, name: str, cause: Cause, now: float, seconds: float) -> News | None:
        """Says each kind of cause once."""
        self.is_fresh = False
        if cause.key in self._said or len(self._said) >= _KINDS_MAX:
            return None
        if self._began_at is None:
            self._begin(now)
        self._said.add(cause.key)
        return News(name, self._words, cause, seconds)

    def end(self, name: str, now: float, *, is_untried: bool = False) -> News | None:
        """Says that it is over, if its beginning was said. Each line of a failure has one that closes it."""
        self.is_fresh = False
        if self._began_at is None:
            return None
        seconds, self._began_at, self._ended_at = now - self._began_at, None, now
        self._said.clear()
        return News(name, self._words, None, seconds, is_untried)

    def _begin(self, now: float) -> None:
        is_again = now - self._ended_at < _QUIET_SECONDS_MAX
        self.quiet_seconds = min(2 * self.quiet_seconds, _QUIET_SECONDS_MAX) if is_again else _QUIET_SECONDS_MIN
        self._began_at = now


class Progress:
    """Everything that has to go on in this process."""

    def __init__(self, stalled_seconds: float = STALLED_SECONDS) -> None:
        """`stalled_seconds`: for how long work may stand still or fail before a service counts as not serving."""
        self.stalled_seconds = stalled_seconds
        self._time = WatchedTime()
        self._works: list[Work] = []

    @property
    def now(self) -> float:
        """For how many seconds the process was seen to run."""
        return self._time.now

    def work(
        self,
        name: str,
        *services: Service,
        words: Words = DATABASE,
        patience_seconds: float | None = None,
        is_said_at_once: bool = True,
    ) -> Work:
        """Returns a new entry, for something that the named services can't do without.

        `is_said_at_once`: whether the log says of the first failure, or only of a stall.
        """
        bound = self.stalled_seconds if patience_seconds is None else patience_seconds
        kept = max(_TRIES_KEPT_SECONDS_MIN, _BOUNDS_KEPT * self.stalled_seconds)
        work = Work(self._time, name, services, words, bound, kept, is_said_at_once=is_said_at_once)
        self._works.append(work)
        return work

    def advance(self, now: float) -> list[News]:
        """Counts the time up to now, in monotonic seconds, and returns what the log has to say."""
        self._time.advance(now)
        return [news for work in self._works if (news := work.look()) is not None]

    def stalled(self, service: Service) -> list[Work]:
        """Returns the work of a service that stands still."""
        return [work for work in self._works if service in work.services and work.is_stalled]

"""The question before an act of `top`, in the bottom line, key by key. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from webhook_grpc_cli.output.escaping import escaped

Row = Mapping[str, Any]
COPY: Final = "y"
# The key of each act: what it is called, and what follows from it, in the page's words. What changes nothing has no
# consequence, and asks nothing.
ACTS: Final[Mapping[str, tuple[str, str]]] = {
    "t": ("Send test", "One real request goes out now."),
    "r": ("Retry last", "Its last delivery that failed is restarted: one attempt, not repeated if it fails."),
    "P": ("Pause", "New deliveries are kept as pending."),
    "R": ("Resume", "What is pending is delivered; if it was disabled, with one request at a time at first."),
    "e": ("Explain", ""),
    COPY: ("Copy id", ""),
}
TYPED_MAX: Final = 100  # characters of an answer


@dataclass(frozen=True, slots=True)
class Wanted:
    """An act that is to be carried out."""

    key: str
    row: Row

    @property
    def verb(self) -> str:
        """Returns what the act is called."""
        return ACTS[self.key][0]

    @property
    def title(self) -> str:
        """Returns the act and its webhook: `Pause: billing-eu #12`."""
        return f"{self.verb}: {escaped(str(self.row['name']))} #{self.row['webhook_id']}"


@dataclass(slots=True)
class Asking:
    """What is asked, and how far the answer is."""

    profile: str = ""
    """The name of the profile in use, which the question begins with."""
    is_name_typed: bool = False
    """Whether the profile wants its name typed: `confirm = "always"`."""
    is_yes: bool = False
    """Whether nothing is asked: --yes."""
    _asked: Wanted | None = field(default=None, init=False)
    _typed: str = field(default="", init=False)

    @property
    def is_open(self) -> bool:
        """Returns whether keys are an answer."""
        return self._asked is not None

    def ask(self, wanted: Wanted) -> Wanted | None:
        """Returns the act if nobody has to be asked; else the next keys are the answer."""
        if self.is_yes or not ACTS[wanted.key][1]:
            return wanted
        self._asked, self._typed = wanted, ""
        return None

    def press(self, key: str) -> Wanted | None:
        """Takes a key of the answer. Returns the act if that is yes; another answer ends the question."""
        asked = self._asked
        if self.is_name_typed and key not in {"\r", "\n", "\x1b"}:
            self._type(key)
            return None
        self._asked = None
        is_agreed = self._typed == self.profile if self.is_name_typed else key in {"y", "Y"}
        return asked if is_agreed and key != "\x1b" else None

    def _type(self, key: str) -> None:
        if key in {"\x7f", "\b"}:
            self._typed = self._typed[:-1]
        elif len(key) == 1 and key.isprintable() and len(self._typed) < TYPED_MAX:
            self._typed += key

    def line(self) -> str:
        """Returns the question, with what is typed of the answer."""
        if self._asked is None:
            return ""
        words = f"{self._asked.title}? {ACTS[self._asked.key][1]}"
        if self.profile:
            words = f"{escaped(self.profile)}: {words}"
        return f"{words} Type the name of the profile: {self._typed}_" if self.is_name_typed else f"{words} [y/N]"

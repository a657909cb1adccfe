"""How much of an error an answer carries. Each place that sends errors has bounds of its own."""

from __future__ import annotations

from .errors import InvalidArgument, Violation, WebhookError, sentence_of
from .record import record


@record
class ErrorBounds:
    """The bounds of one place, in bytes of UTF-8. What is cut ends with an ellipsis."""

    violations_bytes_max: int  # of all violations of an error; the first one is there in any case
    part_bytes_max: int  # of a violation's field, and of its description
    message_bytes_max: int  # as it is sent
    escaped_bytes: int  # what a byte of the message that is not printable ASCII takes as it is sent

    def violations(self, error: WebhookError) -> tuple[Violation, ...]:
        """Returns the first violations of an error, and the number of the others as the last one."""
        if not isinstance(error, InvalidArgument):
            return ()
        kept: list[Violation] = []
        room = self.violations_bytes_max
        for violation in error.violations:
            short = self._shortened(violation)
            room -= _size_bytes(short.field) + _size_bytes(short.description)
            if kept and room < 0:
                return (*kept, Violation("", f"and {len(error.violations) - len(kept)} more"))
            kept.append(short)
        return tuple(kept)

    def message(self, error: WebhookError) -> str:
        """Returns the error's message; of an InvalidArgument, the sentence of the violations that are kept."""
        text = sentence_of(self.violations(error)) if isinstance(error, InvalidArgument) else error.message
        return _cut(text, self.message_bytes_max, self.escaped_bytes)

    def _shortened(self, violation: Violation) -> Violation:
        return Violation(
            _cut(violation.field, self.part_bytes_max),
            _cut(violation.description, self.part_bytes_max),
        )


def _cut(text: str, bytes_max: int, escaped_bytes: int = 1) -> str:
    if _size_bytes(text, escaped_bytes) <= bytes_max:
        return text
    room, end = bytes_max - _size_bytes("…", escaped_bytes), 0
    while (room := room - _size_bytes(text[end], escaped_bytes)) >= 0:
        end += 1
    return text[:end] + "…"


def _size_bytes(text: str, escaped_bytes: int = 1) -> int:
    """Returns the bytes that a text takes where each byte that is not printable ASCII takes `escaped_bytes`."""
    if text.isascii() and text.isprintable():
        return len(text)
    encoded = text.encode("utf-8", "replace")
    return len(encoded) + (escaped_bytes - 1) * sum(not 0x20 <= byte < 0x7F for byte in encoded)

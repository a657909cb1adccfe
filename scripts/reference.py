"""Writes docs/errors.md and docs/settings.md from the source. Run by `make reference`; a test compares.

`pages()` is what should stand there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from webhook_grpc.api.codes import CODES, Code
from webhook_grpc.commands.settings import Described, described
from webhook_grpc.domain.reasons import REASONS, Reason
from webhook_grpc.server.http.problem import OWN_REASONS, status_of

ROOT: Final = Path(__file__).resolve().parent.parent
_ERRORS: Final = """\
# Errors

Each error has a *reason*, for programs: in gRPC's details (`google.rpc.ErrorInfo`), in the problem document of HTTP
([http.md](http.md#answers)), in results of BatchPublishEvents, as `reason` of the clients' errors
([clients.md](clients.md)), and in the line `rpc` of the log. Reasons may be added; those that there are keep their
meaning. The message beside it says more, and details name the field, the limit or the time.

The same call may succeed later with UNAVAILABLE, DEADLINE_EXCEEDED, and RESOURCE_EXHAUSTED but for quotas: after
`retry_seconds` where the error has it, and with the same `request_id`. Which calls the clients repeat by themselves:
[clients.md](clients.md). What is not in the table comes from gRPC itself: UNIMPLEMENTED for a method that there is not,
CANCELLED for a call that its caller ended.

Why a *receiver* did not get an event is no error of a call: [tasks.md](tasks.md#why-did-a-webhook-not-get-an-event).

| reason | code | HTTP | what to do |
|---|---|---|---|
"""
_SETTINGS: Final = """\
# Settings

Environment variables, read once at the start. All errors of single settings are reported at once, then those of
combinations; a misspelt name is warned of. An empty variable counts as not set (but for `WEBHOOK_HTTP_ADDRESS`, where
it means none). What a process may have holds for each of several ([processes](operations.md#processes)).

`webhook-grpc settings` prints this list with the values that they have where it runs, and whether those are defaults;
`webhook-grpc doctor --server` judges whether a start would take them.

<!-- test: settings -->
```sh
webhook-grpc settings
webhook-grpc settings -o json
```

A list is separated by commas. No default means that it is not set.
"""
_MORE: Final = {
    "where the database is": "[operations.md](operations.md#deploy)",
    "where it is served": "[operations.md](operations.md#tls), [http.md](http.md)",
    "processes": "[operations.md](operations.md#processes)",
    "who may call": "[security.md](security.md), [operations.md](operations.md#what-to-do-when) (keys)",
    "where deliveries may go": "[security.md](security.md#internal-receivers)",
    "delivery policy": "[delivery.md](delivery.md)",
    "what is kept for how long": "[operations.md](operations.md#growth)",
    "calls": "[clients.md](clients.md), [security.md](security.md)",
    "database": "[operations.md](operations.md#connections)",
    "logs": "[operations.md](operations.md#logs)",
    "traces": "[operations.md](operations.md#traces)",
}


def main() -> None:
    """Writes the pages."""
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))


def pages() -> dict[Path, str]:
    """Returns the text of each page that is written from the source."""
    return {ROOT / "docs/errors.md": errors_page(), ROOT / "docs/settings.md": settings_page()}


def errors_page() -> str:
    """Returns the table of reasons, by their codes in the order of google.rpc.Code."""
    rows = sorted((*_code_and_status(name, reason), name, reason.remedy) for name, reason in REASONS.items())
    lines = [f"| `{name}` | {Code(code).name} | {status} | {remedy} |" for code, status, name, remedy in rows]
    return _ERRORS + "\n".join(lines) + "\n"


def _code_and_status(name: str, reason: Reason) -> tuple[Code, int]:
    if reason.kind is None:
        status, code = OWN_REASONS[name]
        return code, status
    return CODES[reason.kind], status_of(CODES[reason.kind], name)


def settings_page() -> str:
    """Returns a table of settings for each group."""
    return _SETTINGS + "".join(_settings_lines())


def _settings_lines() -> Iterator[str]:
    group = ""
    for setting in described():
        if setting.group != group:
            group = setting.group
            yield f"\n## {group[0].upper()}{group[1:]}\n\n"
            if group in _MORE:
                yield f"More: {_MORE[group]}.\n\n"
            yield "| variable | default | may be | meaning |\n|---|---|---|---|\n"
        yield _settings_row(setting)


def _settings_row(setting: Described) -> str:
    default = f"`{setting.default}`" if setting.default else ""
    meaning = setting.meaning.replace("|", r"\|")
    return f"| `{setting.variable}` | {default} | {setting.form} | {meaning} |\n"


if __name__ == "__main__":
    main()

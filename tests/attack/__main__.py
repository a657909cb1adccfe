"""`make attack`: attacks a service of its own, one attack after the other, and prints what its other clients felt.

`--quick` makes a twentieth of each attack; names run only those. It ends by itself, with status 1 if the service broke,
if another client got an error, or if the service did not drain while an attack went on.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from tests.support.authority import Authority, MountedSecret

from .floods import FLOODS, HELD, zero_window
from .frames import FRAMES
from .handshakes import HANDSHAKES
from .inputs import INPUTS, Attack, Broken
from .others import Felt, Others
from .requests import HELD_REQUESTS, REQUESTS
from .target import HONEST, Target

ATTACK_SECONDS_MAX: Final = 120.0
CALLS_IN_PEACE: Final = 200
CALLS_FELT: Final = 100  # by others while an attack goes on
CALLS_FELT_MIN: Final = 8
QUICK: Final = 0.05
PLAIN: Final[dict[str, Attack]] = {attack.__name__: attack for attack in (*FLOODS, *FRAMES, *REQUESTS, *INPUTS)}
ENCRYPTED: Final[dict[str, Attack]] = {attack.__name__: attack for attack in HANDSHAKES}
ATTACKS: Final = PLAIN | ENCRYPTED


@dataclass(frozen=True)
class Row:
    """What came of one attack."""

    name: str
    outcome: str
    is_broken: bool
    felt: Felt
    cpu_seconds: float
    megabytes: float

    def __str__(self) -> str:
        felt = self.felt
        errors = ", ".join(f"{count} {what}" for what, count in felt.errors.items()) or "0"
        return (
            f"{self.name:22} {felt.calls:6} {errors:>14} {felt.p50_ms:8.1f} {felt.p99_ms:8.1f} "
            f"{felt.deliveries:9} {felt.delivered_p99_ms:8.1f} "
            f"{self.cpu_seconds:7.1f} {self.megabytes:7.0f}  {self.outcome}"
        )


async def run(names: Sequence[str], scale: float, log: Path, say: Callable[[str], None], **settings: str) -> list[str]:
    """Runs attacks and says each line of the table; returns what is wrong. Those on TLS have one of their own."""
    columns = f"{'calls':>6} {'errors':>14} {'p50 ms':>8} {'p99 ms':>8} "
    columns += f"{'delivered':>9} {'p99 ms':>8} {'CPU s':>7} {'MB':>7}"
    say(f"{'attack':22} {columns}  came of it")
    problems = list[str]()
    if plain := [name for name in names if name in PLAIN]:
        problems += await _run(plain, scale, log, say, "", settings)
    if encrypted := [name for name in names if name in ENCRYPTED]:
        authority = Authority(log.with_name("authority"))
        secret = MountedSecret(log.with_name("secret"), *authority.issue())
        files = {f"WEBHOOK_{name.upper()}": str(path) for name, path in secret.settings.items()}
        problems += await _run(encrypted, scale, log, say, str(authority.file), settings | files)
    return problems


async def _run(
    names: Sequence[str], scale: float, log: Path, say: Callable[[str], None], ca_file: str, settings: Mapping[str, str]
) -> list[str]:
    target = await Target.start(log, **settings)
    others = await Others.start(target.process.address, target.process.http_url, HONEST, ca_file)
    problems = list[str]()
    try:
        began = time.time()
        await others.called(max(20, round(CALLS_IN_PEACE * scale)))
        say(str(Row("(none, over TLS)" if ca_file else "(none)", "", False, others.felt(began), *target.figures())))
        for name in names:
            row = await _attack(name, scale, target, others)
            say(str(row))
            if row.is_broken:
                problems.append(f"{name}: {row.outcome}")
            if row.felt.errors:
                problems.append(f"{name}: others got {row.felt.errors}")
        if not ca_file:
            await zero_window(target, scale)
        await others.called(8)  # by then the watches are there
        await others.stop()
        status = await target.process.terminate()
        say(f"drained{'' if ca_file else ' while health watches took no bytes'}: status {status}")
        if status:
            problems.append(f"did not drain: status {status}")
    finally:
        target.webhooks.clear()  # the service is gone
        await target.close()
        await others.stop()
        await target.process.end()
    return problems


async def _attack(name: str, scale: float, target: Target, others: Others) -> Row:
    began, (cpu, _) = time.time(), target.figures()
    is_broken, bound = False, asyncio.timeout(ATTACK_SECONDS_MAX)
    try:
        async with bound:
            outcome = await _while_they_call(ATTACKS[name], scale, target, others)
    except Broken as error:
        outcome, is_broken = str(error), True
    except TimeoutError:
        outcome = f"took more than {ATTACK_SECONDS_MAX:g} s" if bound.expired() else "what it waited for did not come"
        is_broken = True
    except grpc.aio.AioRpcError as error:  # the attacker's own; the others go on
        outcome, is_broken = f"{error.code().name}: {error.details()}", True
    after, megabytes = target.figures()
    felt = others.felt(began)
    await target.close()
    return Row(name, outcome, is_broken, felt, after - cpu, megabytes)


async def _while_they_call(attack: Attack, scale: float, target: Target, others: Others) -> str:
    """Attacks until the others have made enough calls meanwhile.

    What lies in connections that stay open goes on by itself; all else is done again and again, in full.
    """
    wanted = others.calls + max(CALLS_FELT_MIN, round(CALLS_FELT * scale))
    outcome, times = await attack(target, scale), 1
    while scale >= 1 and others.calls < wanted and attack not in HELD | HELD_REQUESTS:
        await target.close()
        outcome, times = await attack(target, scale), times + 1
    await others.called(max(CALLS_FELT_MIN, wanted - others.calls))
    return outcome if times == 1 else f"{outcome} ({times} times)"


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - this is a command


def main() -> int:
    """Runs from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument("names", nargs="*", help=", ".join(ATTACKS))
    parser.add_argument("--quick", action="store_true", help="a twentieth of each attack")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        Path(folder).chmod(0o755)  # the embedded Postgres runs as another user
        settings = {"WEBHOOK_DATA_DIR": f"{folder}/data", "WEBHOOK_LOG_LEVEL": "debug"}
        names = options.names or list(ATTACKS)
        scale = QUICK if options.quick else 1.0
        problems = asyncio.run(run(names, scale, Path(folder, "log"), _say, **settings))
    for problem in problems:
        _say(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    os.environ.pop("WEBHOOK_DATABASE_URL", None)
    sys.exit(main())

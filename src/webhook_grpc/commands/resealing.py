"""Seals again, with the newest key, what is sealed with older ones, beside processes that serve.

Every row is replaced by itself, and only if it is still as it was read. So it can be interrupted anywhere, repeated,
and run twice at once. See docs/decisions/0063-rotating-keys.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from webhook_grpc.domain.record import record
from webhook_grpc.domain.sealing import (
    ENTROPY_BYTES,
    HEAD_BYTES,
    Sealer,
    UnsealError,
    head_of,
    key_id_text,
    sealed_with,
)
from webhook_grpc.store.db import Database
from webhook_grpc.store.registry import resealing as store
from webhook_grpc.store.registry import secret_keys
from webhook_grpc.store.registry.resealing import Kind
from webhook_grpc.store.registry.secret_keys import SealedSecret

_PASSES_MAX: Final = 3  # a second one finds what calls have written during the first
_UNOPENED_SHOWN_MAX: Final = 20


class KeysFailed(Exception):
    """Nothing was done; the message says why, and what to do."""


@record
class KeyUse:
    """What one key is needed for. `position` in WEBHOOK_SECRET_KEYS here: the one at 1 seals; None: it is not there."""

    key_id: int
    position: int | None
    counts: Mapping[Kind, int]
    process_count: int  # processes that run and have it
    sealing_process_count: int  # those of them that seal with it

    @property
    def left(self) -> int:
        """Returns how much is sealed with it."""
        return sum(self.counts.values())


async def uses_of_keys(database: Database, sealer: Sealer) -> list[KeyUse]:
    """Returns the keys that are given here, in their order, then others that are in use. Raises Unavailable."""
    processes = [key_ids or () for key_ids in await store.keys_of_processes(database)]
    sealed = [sealed_with(secret.sealed) for secret in await secret_keys.in_use(database)]
    others = {key_id for key_id in (*sealed, *sum(map(tuple, processes), ())) if key_id is not None}
    key_ids = dict.fromkeys((*sealer.key_ids, *sorted(others)))
    return [
        KeyUse(
            key_id=key_id,
            position=sealer.key_ids.index(key_id) + 1 if key_id in sealer.key_ids else None,
            counts=await store.count(database, head_of(key_id)),
            process_count=sum(key_id in theirs for theirs in processes),
            sealing_process_count=sum(key_id in theirs[:1] for theirs in processes),
        )
        for key_id in key_ids
    ]


class Resealing:
    """Seals with the first of the keys. `say` gets lines for whoever waits."""

    def __init__(self, database: Database, sealer: Sealer, say: Callable[[str], None]) -> None:
        self._database = database
        self._sealer = sealer
        self._say = say
        self._count = 0
        self._unopened: set[tuple[Kind, int]] = set()

    async def run(self) -> int:
        """Returns how much was sealed again.

        Raises KeysFailed if a process that runs lacks the key, before anything is changed, and Unavailable.
        """
        for _ in range(_PASSES_MAX):
            before = self._count
            await self._pass()
            if self._count == before:
                break
        return self._count

    async def _pass(self) -> None:
        _refuse_beside_lacking(await store.keys_of_processes(self._database), self._sealer.key_ids[0])
        heads = {secret.sealed[:HEAD_BYTES] for secret in await secret_keys.in_use(self._database)}
        for head in sorted(heads - {head_of(self._sealer.key_ids[0])}):
            key_id = sealed_with(head)
            if key_id is None or key_id in self._sealer.key_ids:
                for kind in Kind:
                    await self._all_of(kind, head)

    async def _all_of(self, kind: Kind, head: bytes) -> None:
        after = 0
        while batch := await store.sealed_with_key(self._database, kind, head, after):
            for secret in batch:
                self._count += await self._one(kind, secret)
            after = batch[-1].bound_id
            if len(batch) == store.SECRETS_PER_BATCH:
                self._say(f"{self._count} sealed again so far")

    async def _one(self, kind: Kind, secret: SealedSecret) -> bool:
        whose = (secret.customer_id, secret.bound_id)
        try:
            text = self._sealer.open(secret.sealed, *whose, secret.purpose)
        except UnsealError as error:
            self._note_unopened(kind, secret, error)
            return False
        sealed = self._sealer.seal(text, *whose, os.urandom(ENTROPY_BYTES), secret.purpose)
        return await store.replace(self._database, kind, secret, sealed)

    def _note_unopened(self, kind: Kind, secret: SealedSecret, error: UnsealError) -> None:
        """Says what stays as it is, once; how much there is more of it, the counts at the end say."""
        if (kind, secret.bound_id) not in self._unopened and len(self._unopened) < _UNOPENED_SHOWN_MAX:
            self._unopened.add((kind, secret.bound_id))
            of_customer = kind is Kind.SIGNING_KEYS
            whose = f"customer {secret.customer_id}" if of_customer else f"webhook {secret.bound_id}"
            self._say(f"the {kind.value} of {whose} stay as they are: {error}")


def _refuse_beside_lacking(processes: Sequence[Sequence[int] | None], key_id: int) -> None:
    """Raises KeysFailed if a process could not open what is sealed with the key: its deliveries would wait."""
    count = sum(key_id not in (key_ids or ()) for key_ids in processes)
    if count:
        raise KeysFailed(
            f"{count} of {len(processes)} running processes lack the key {key_id_text(key_id)}, which is to seal: add "
            "it to WEBHOOK_SECRET_KEYS of each, behind the first, restart them, and run this again"
        )

"""Gathers what became of runs and writes it in batches, as soon as the batch before is written.

A lone settlement is written at once; under load they gather while the store
answers. Nothing is decided here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from muskox.core.errors import StoreError
from muskox.core.job import Lease
from muskox.core.life import Settlement
from muskox.runtime.tell import Teller
from muskox.store.protocol import Store

__all__ = ["Settler"]

log = logging.getLogger("muskox.worker")

MOST = 1000

Settled = Callable[[Sequence[Settlement], set[int]], None]
"""Told of each batch that is written, with the tokens of the leases that were lost."""


class Settler:
    """A duty: each turn writes notes and settlements that have come in."""

    def __init__(self, store: Store, teller: Teller, settled: Settled) -> None:
        self._store = store
        self._teller = teller
        self._settled = settled
        self._pending: list[Settlement] = []
        self._writing = 0

    @property
    def idle(self) -> bool:
        """Whether everything that was given has been written."""
        return not self._pending and not self._writing

    def put(self, settlement: Settlement) -> None:
        """Have a settlement written with the next batch."""
        self._pending.append(settlement)

    async def turn(self) -> float | None:
        notes, batch = self._teller.take(), self._pending[:MOST]
        if not notes and not batch:
            return None
        # Taken out only for as long as they are being written: a store that gives no answer gets them again,
        # which is safe because settling twice under one token is settling once.
        self._pending = self._pending[MOST:]
        self._writing += len(batch)
        try:
            if notes:
                # Before the settlements, since the last words of a run come before its end.
                self._drop(await self._store.annotate(notes))
                notes = []
            lost = await self._store.settle(batch) if batch else []
        except StoreError:
            self._teller.put_back(notes)
            self._pending[:0] = batch
            raise
        finally:
            self._writing -= len(batch)
        self._settled(batch, {lease.token for lease in lost})
        return 0.0

    def _drop(self, lost: Sequence[Lease]) -> None:
        for lease in lost:
            log.debug("job %s took no more notes from a run that lost it", lease.job_id)

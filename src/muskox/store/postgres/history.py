"""The verbs for figures of the past; cells are put together by functions of the database."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from muskox.core.history import KEPT, SAMPLED_EACH, Cell, History, Sample, Sums, window
from muskox.store.postgres import rows
from muskox.store.postgres.connections import Connection
from muskox.store.postgres.verbs import Verbs

__all__ = ["Past"]

_figures = msgspec.json.Decoder(dict[str, int])


class Past(Verbs):
    """The verbs of `HistoryVerbs`, a part of the store."""

    async def record(self, sums: Sequence[Sums], samples: Sequence[Sample] = ()) -> bool:
        cells = [{"queue": one.queue, "name": one.name, "sums": one.figures, "peaks": {}} for one in sums]
        stood = [{"queue": one.queue, "sums": one.sums, "peaks": one.peaks, "added": one.added} for one in samples]
        values = (
            self._now(), self._levels.claim, rows.ints(KEPT), rows.ints(KEPT.values()), int(SAMPLED_EACH * 1_000_000),
            _text(cells), _text(stood),
        )  # fmt: skip
        (taken,) = await self._one("record", values)
        return bool(taken)

    async def history(self, step: int, *, seconds: float, queue: str | None = None, names: bool = False) -> History:
        before = int((window(step, seconds) + step) * 1_000_000)
        asked = {"now": self._now(), "step": step, "before": before, "queue": queue, "names": names}
        return await self._connections.run(partial(self._read_history, step, asked))

    async def _read_history(self, step: int, asked: dict[str, Any], db: Connection) -> History:
        (_, _, now, _, _), *found = await (await db.execute(self._schema["history"], asked)).fetchall()
        return History(
            now,
            step,
            [Cell(its, name, at, step, _figures.decode(a), _figures.decode(b)) for its, name, at, a, b in found],
        )


def _text(value: Any) -> str:
    return rows.pure(msgspec.json.encode(value).decode())

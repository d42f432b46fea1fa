"""The verbs for figures of the past as steps; how cells are kept is in `lua/record.lua`."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from muskox.core.history import KEPT, SAMPLED_EACH, Cell, History, Sample, Sums, window
from muskox.store.redis.steps import Steps

__all__ = ["HistorySteps"]

_cell = msgspec.msgpack.Decoder(tuple[dict[str, int] | list[tuple[str, int]], dict[str, int] | list[tuple[str, int]]])


class HistorySteps(Steps):
    """The verbs of `HistoryVerbs`."""

    async def record(self, sums: Sequence[Sums], samples: Sequence[Sample] = ()) -> bool:
        asked = (
            [(one.queue, one.name, one.figures) for one in sums],
            [(one.queue, one.sums, one.peaks, one.added) for one in samples],
            list(KEPT.items()),
            int(SAMPLED_EACH * 1_000_000),
        )
        return bool(await self._step("record", asked))

    async def history(self, step: int, *, seconds: float, queue: str | None = None, names: bool = False) -> History:
        now, *found = await self._step("history", (step, window(step, seconds), queue or False, names))
        cells = []
        for at, field, text in zip(found[::3], found[1::3], found[2::3], strict=True):
            its, _, name = field.decode().partition(":")
            sums, peaks = _cell.decode(text)
            # Lua's empty table is read as an empty list.
            cells.append(Cell(its, name, int(at) * 1_000_000, step, dict(sums or {}), dict(peaks or {})))
        cells.sort(key=lambda cell: (cell.begin_us, cell.queue, cell.name))
        return History(now, step, cells)

"""The steps for figures of the past: add to cells, take samples, forget what is old, and read.

Cells are put together here and not in SQL: the transaction holds the lock that all writers need.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

import msgspec

from muskox.core.history import KEPT, SAMPLED_EACH, Cell, History, Sample, Sums, window
from muskox.store.sqlite.line import Line
from muskox.store.sqlite.tx import Tx

__all__ = ["Past", "history", "record"]

_figures = msgspec.json.Decoder(dict[str, int])
_SECOND = 1_000_000


class Past:
    """The verbs of `HistoryVerbs`, a part of the store."""

    _writer: Line
    _reader: Line

    async def record(self, sums: Sequence[Sums], samples: Sequence[Sample] = ()) -> bool:
        return await self._writer.run(partial(record, sums=sums, samples=samples))

    async def history(self, step: int, *, seconds: float, queue: str | None = None, names: bool = False) -> History:
        back = window(step, seconds)
        return await self._reader.run(partial(history, step=step, seconds=back, queue=queue, names=names))


def record(tx: Tx, sums: Sequence[Sums], samples: Sequence[Sample]) -> bool:
    """Add to the cells of now, and the samples if it is time for some."""
    for one in sums:
        _add(tx, one.queue, one.name, one.figures, {})
    [at, text] = tx.one("read_sampled") or (0, "{}")
    # A clock that was set back far must not keep samples away for as long.
    if not samples or -60 * _SECOND < tx.now - at < SAMPLED_EACH * _SECOND:
        return False
    known = _figures.decode(text)
    for sample in samples:
        added = {"added": max(0, sample.added - known.get(sample.queue, 0))}
        _add(tx, sample.queue, "", sample.sums | added, sample.peaks)
        known[sample.queue] = sample.added
    tx.execute("write_sampled", {"now": tx.now, "added": msgspec.json.encode(known).decode()})
    for step, kept in KEPT.items():
        tx.execute("forget_cells", {"step": step, "before": tx.now - (kept + step) * _SECOND})
    return True


def _add(tx: Tx, queue: str, name: str, sums: Mapping[str, int], peaks: Mapping[str, int]) -> None:
    for step in KEPT:
        cell = {"step": step, "at": tx.now // (step * _SECOND) * step * _SECOND, "queue": queue, "name": name}
        all_sums, all_peaks = Counter(sums), dict(peaks)
        found = tx.one("read_cell", cell)
        if found is not None:
            all_sums.update(_figures.decode(found[0]))
            for which, value in _figures.decode(found[1]).items():
                all_peaks[which] = max(value, all_peaks.get(which, 0))
        texts = {"sums": msgspec.json.encode(all_sums).decode(), "peaks": msgspec.json.encode(all_peaks).decode()}
        tx.execute("write_cell", cell | texts)


def history(tx: Tx, step: int, seconds: float, queue: str | None, names: bool) -> History:
    """The cells that cover the last `seconds`."""
    asked = {"step": step, "after": tx.now - int((seconds + step) * _SECOND), "queue": queue, "names": names}
    return History(
        tx.now,
        step,
        [
            Cell(its, name, at, step, _figures.decode(sums), _figures.decode(peaks))
            for its, name, at, sums, peaks in tx.all("read_history", asked)
        ],
    )

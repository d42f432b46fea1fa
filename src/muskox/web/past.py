"""Puts figures of the past into series for charts: one value for each step, whether anything was counted or not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from muskox import Cell, History
from muskox.web.shapes import PastShape, PastTotals

__all__ = ["SPANS", "Span", "panorama"]

Span = Literal["1h", "24h", "7d", "30d"]

SPANS: dict[str, tuple[int, int]] = {
    "1h": (3600, 60),
    "24h": (86_400, 600),
    "7d": (7 * 86_400, 3600),
    "30d": (30 * 86_400, 3600),
}
"""Seconds of a span, and of a step in it."""

_COUNTS = ("added", "completed", "failed", "retried", "stalled")
_SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def panorama(history: History, span: str, totals: History | None = None) -> PastShape:
    """The series of a span, of all queues of the history together, and totals by queue, or by name."""
    length, step = SPANS[span]
    end = history.now_us // 1_000_000 // step * step + step
    begin = end - length
    at: dict[int, list[Cell]] = {}
    for cell in history.cells:
        at.setdefault(cell.begin_us // 1_000_000, []).append(cell)
    series: dict[str, list[float | None]] = {}
    for moment in range(begin, end, step):
        for name, value in _values(at.get(moment, [])).items():
            series.setdefault(name, []).append(value)
    return PastShape(
        begin=begin, step=step, series=series, totals=_totals([c for c in (totals or history).cells if _in(c, begin)])
    )


def _in(cell: Cell, begin: int) -> bool:
    return cell.begin_us >= begin * 1_000_000


def _values(cells: list[Cell]) -> dict[str, float | None]:
    """What is shown of one moment, of all queues together."""
    one = _together(cells)
    found: dict[str, float | None] = {name: getattr(one, name) for name in _COUNTS}
    waiting = [cell.waiting for cell in cells if cell.waiting is not None]
    found["waiting"] = round(sum(waiting), 2) if waiting else None
    found["oldest"] = max((cell.oldest for cell in cells), default=None)
    return found | _times(one)


def _times(cell: Cell) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for what, times in (("wait", cell.waits), ("run", cell.runs)):
        for label, share in _SHARES.items():
            quantile = times.quantile(share)
            found[f"{what}_{label}"] = None if quantile is None else float(f"{quantile:.3g}")
    return found


def _totals(cells: Iterable[Cell]) -> list[PastTotals]:
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.queue, cell.name), []).append(cell)
    found = []
    for (queue, name), its in sorted(groups.items()):
        one = _together(its)
        counts = {what: getattr(one, what) for what in _COUNTS}
        times = _times(one)
        found.append(PastTotals(queue=queue, name=name, oldest=one.oldest, times=times, **counts))
    return found


def _together(cells: list[Cell]) -> Cell:
    alike = [Cell("", "", cell.begin_us, cell.step, cell.sums, cell.peaks) for cell in cells]
    return History(0, 0, alike).by_queue().get("", Cell("", "", 0, 0, {}))

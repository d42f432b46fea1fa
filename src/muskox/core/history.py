"""What happened in the past, by the minute: figures that add up, and durations of which percentiles can be told.

A cell holds what a queue, or one name in it, did in a stretch of time. Cells of
several workers, names or stretches can be put together in any order. Nothing
here reads a clock or a store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from math import frexp, ldexp

import msgspec

from muskox.core.errors import OptionError
from muskox.core.job import moment

__all__ = ["KEPT", "SAMPLED_EACH", "Cell", "Durations", "History", "Sample", "Sums", "bucket_of", "merged", "window"]

KEPT = {60: 86_400, 600: 7 * 86_400, 3600: 30 * 86_400}
"""For how many seconds cells of so many seconds are kept: minutes a day, ten minutes a week, hours a month."""

SAMPLED_EACH = 10.0
"""Seconds that pass at least between two samples of a store, however many workers take them."""

MEASURED = 4
"""About so many jobs of a claim are measured, each `size // MEASURED + 1`-th from the first; of fewer, all."""

RUN, WAIT = "r", "w"
"""How the buckets of durations begin among the sums: r241 counts runs in bucket 241."""

RUN_US, WAIT_US = "run_us", "wait_us"
"""Sums of all durations, in microseconds."""


class Sums(msgspec.Struct, frozen=True):
    """What a worker counted lately for a name of a queue, "" for the whole queue."""

    queue: str
    name: str
    figures: dict[str, int]


class Sample(msgspec.Struct, frozen=True):
    """How a queue stood at a moment. `oldest` is the age in seconds of what has waited longest, `added` counts all
    jobs that were ever added.
    """

    queue: str
    waiting: int
    delayed: int
    blocked: int
    active: int
    added: int
    oldest: float = 0.0

    @property
    def sums(self) -> dict[str, int]:
        """What adds up; by `samples` means can be told."""
        states = {"waiting": self.waiting, "delayed": self.delayed, "blocked": self.blocked, "active": self.active}
        return {"samples": 1} | {state: number for state, number in states.items() if number}

    @property
    def peaks(self) -> dict[str, int]:
        """What only the highest is kept of."""
        return {"waiting": self.waiting, "oldest_us": int(self.oldest * 1e6)} if self.waiting else {}


class Durations(msgspec.Struct, frozen=True):
    """How long things took, by buckets of which the upper bound is at most a quarter above the lower."""

    counts: dict[int, int]
    total: float = 0.0
    """Seconds of all together."""

    @property
    def number(self) -> int:
        """How many there were."""
        return sum(self.counts.values())

    def quantile(self, share: float) -> float | None:
        """The seconds that so large a share did not exceed, 13 % too much or too little at most; None where there
        were none.
        """
        left = share * self.number
        for bucket, count in sorted(self.counts.items()):
            if count >= left:
                low, high = _bounds(bucket)
                return low + (high - low) * left / count
            left -= count
        return None

    def upto(self, bounds: Sequence[float]) -> list[int]:
        """How many were not longer than each of the bounds, as near as the buckets tell."""
        found = [0] * len(bounds)
        for bucket, count in self.counts.items():
            middle = sum(_bounds(bucket)) / 2
            for at, bound in enumerate(bounds):
                found[at] += count * (middle <= bound)
        return found


class Cell(msgspec.Struct, frozen=True):
    """What a queue did, or a name in it ("": all names), from a moment on for `step` seconds.

    `added` counts jobs that came, `completed`, `failed` (for good), `retried`, `stalled` and `released` how attempts
    ended. Of names only the latter are known. Figures of a queue's state are means over its samples.
    """

    queue: str
    name: str
    begin_us: int
    step: int
    sums: dict[str, int]
    peaks: dict[str, int] = {}

    @property
    def begin(self) -> datetime:
        return moment(self.begin_us)

    @property
    def added(self) -> int:
        return self.sums.get("added", 0)

    @property
    def completed(self) -> int:
        return self.sums.get("completed", 0)

    @property
    def failed(self) -> int:
        return self.sums.get("failed", 0)

    @property
    def retried(self) -> int:
        return self.sums.get("retried", 0)

    @property
    def stalled(self) -> int:
        return self.sums.get("stalled", 0)

    @property
    def released(self) -> int:
        return self.sums.get("released", 0)

    @property
    def waiting(self) -> float | None:
        """How many jobs waited, as a mean; None where nobody looked."""
        samples = self.sums.get("samples", 0)
        return self.sums.get("waiting", 0) / samples if samples else None

    @property
    def most_waiting(self) -> int:
        return self.peaks.get("waiting", 0)

    @property
    def oldest(self) -> float:
        """Seconds that a job had waited at the worst, as far as samples saw it."""
        return self.peaks.get("oldest_us", 0) / 1e6

    @property
    def waits(self) -> Durations:
        """How long jobs waited before they started; counted from some of many, for all."""
        return _durations(self.sums, WAIT, WAIT_US)

    @property
    def runs(self) -> Durations:
        """How long runs took; counted from some of many, for all."""
        return _durations(self.sums, RUN, RUN_US)


class History(msgspec.Struct, frozen=True):
    """Cells in the order of their beginnings, as they were at `now_us` by the store's clock."""

    now_us: int
    step: int
    cells: list[Cell]

    def by_queue(self) -> dict[str, Cell]:
        """All moments put together; of a history of names, these too."""
        return merged(self.cells)


def window(step: int, seconds: float) -> float:
    """For how many seconds back there are cells of a step to be read, where so many are asked for."""
    if step not in KEPT:
        raise OptionError(f"step must be one of {', '.join(map(str, KEPT))} seconds, not {step!r}")
    return min(max(0.0, seconds), float(KEPT[step]))


def merged(cells: Iterable[Cell]) -> dict[str, Cell]:
    """Put cells together by queue."""
    found: dict[str, Cell] = {}
    for cell in cells:
        found[cell.queue] = _joined(found[cell.queue], cell) if cell.queue in found else cell
    return found


def _joined(one: Cell, other: Cell) -> Cell:
    sums, peaks = Counter(one.sums), dict(one.peaks)
    sums.update(other.sums)
    for name, value in other.peaks.items():
        peaks[name] = max(value, peaks.get(name, 0))
    return Cell(one.queue, one.name, min(one.begin_us, other.begin_us), one.step, dict(sums), peaks)


# --- durations ---------------------------------------------------------------------------

_LEAST = -40
"""Durations below 2 to the power of it, in seconds, are in the lowest bucket."""


def bucket_of(seconds: float) -> int:
    """The bucket of a duration: four to each doubling, numbered from 0."""
    fraction, power = frexp(seconds)
    if seconds <= 0 or power < _LEAST:
        return 0
    return 4 * (power - _LEAST) + int(8 * fraction) - 4


def _bounds(bucket: int) -> tuple[float, float]:
    low, high = (ldexp((4 + each % 4) / 8, each // 4 + _LEAST) for each in (bucket, bucket + 1))
    return low, high


def _durations(sums: Mapping[str, int], first: str, total: str) -> Durations:
    counts = {int(key[1:]): number for key, number in sums.items() if key[0] == first and key[1:].isdigit()}
    return Durations(counts, sums.get(total, 0) / 1e6)

"""Counts what a worker does, to be added to the store's figures of the past every few seconds.

In memory between two beats: a worker that is killed takes at most that with it,
and no job depends on it. All that ends is counted, batch by batch; how long
jobs waited and ran is measured of some of many, each of which stands for
others, since a look at the clock for each would cost more than all the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from muskox.core.figures import QueueCounts
from muskox.core.history import MEASURED, RUN, RUN_US, WAIT, WAIT_US, Sample, Sums, bucket_of
from muskox.core.job import JobState
from muskox.core.life import Fail, Release, Retry, Settlement, Stall
from muskox.runtime.registry import Declaration
from muskox.runtime.run import Run
from muskox.store.protocol import Recovered

__all__ = ["Figures", "sample_of"]

_ENDS: dict[type[Settlement], str] = {Fail: "failed", Retry: "retried", Stall: "stalled", Release: "released"}


class Figures:
    """What was counted since it was last taken. `find` gives the processor of a queue and name."""

    def __init__(self, find: Callable[[str, str], Declaration | None]) -> None:
        self._find = find
        self._counts: dict[tuple[str, str], Counter[str]] = {}
        self._turn = 0

    def arrived(self, runs: Sequence[Run]) -> None:
        """Count how long claimed jobs have waited, and mark those runs that are to be measured."""
        # Not always the first: claims may come in a pattern of names.
        self._turn += 1
        apart = len(runs) // MEASURED + 1
        for run in runs[self._turn % apart :: apart]:
            run.weight = apart
        for run in runs if apart == 1 else runs[::apart]:
            if (waited := run.job.waited) is not None:
                self._took(run.declaration, WAIT, WAIT_US, waited, apart)

    def ran(self, run: Run, seconds: float) -> None:
        """Count how long a measured run took."""
        self._took(run.declaration, RUN, RUN_US, seconds, run.weight)

    def completed(self, declaration: Declaration | None, number: int) -> None:
        """Count jobs of a processor that were completed."""
        if declaration is not None:
            self._of(declaration)["completed"] += number

    def ended(self, declaration: Declaration, settlement: Settlement) -> None:
        """Count what became of a run that did not complete its job."""
        self._of(declaration)[_ENDS[type(settlement)]] += 1

    def recovered(self, found: Sequence[Recovered]) -> None:
        """Count jobs whose lease had run out."""
        for one in found:
            declaration = self._find(one.job.queue, one.job.name)
            name = "" if declaration is None else declaration.name or ""
            counts = self._counts.setdefault((one.job.queue, name), Counter())
            counts["failed" if one.job.state is JobState.FAILED else "stalled"] += 1

    def take(self) -> list[Sums]:
        """Give what was counted since the last time: by queue, and by name where that has a processor of its own."""
        taken, self._counts = self._counts, {}
        queues: dict[str, Counter[str]] = {}
        for (queue, _), counts in taken.items():
            queues.setdefault(queue, Counter()).update(counts)
        named = [Sums(queue, name, dict(counts)) for (queue, name), counts in taken.items() if name]
        return [*(Sums(queue, "", dict(counts)) for queue, counts in queues.items()), *named]

    def _of(self, declaration: Declaration) -> Counter[str]:
        # Names without a processor of their own may be made up by users, and are counted with their queue only.
        key = declaration.queue, declaration.name or ""
        found = self._counts.get(key)
        if found is None:
            found = self._counts[key] = Counter()
        return found

    def _took(self, declaration: Declaration, first: str, total: str, seconds: float, weight: int) -> None:
        counts = self._of(declaration)
        counts[f"{first}{bucket_of(seconds)}"] += weight
        counts[total] += int(seconds * 1e6) * weight


def sample_of(counts: QueueCounts) -> Sample:
    """How a queue stands, by its figures."""
    return Sample(
        counts.queue, counts.waiting, counts.delayed, counts.states[JobState.BLOCKED], counts.active, counts.added,
        counts.oldest_waiting or 0.0,
    )  # fmt: skip

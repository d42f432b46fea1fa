"""Gathers claimed jobs into batches for processors that take many at once.

A batch takes one slot and is stopped as one; every job in it keeps its own
lease, its own rules and its own settlement. Calling is done in `attempt.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from muskox.core.life import Interrupted, Outcome
from muskox.core.seam import World
from muskox.runtime.registry import Declaration
from muskox.runtime.run import Run, Stop

__all__ = ["Batch", "Gathering", "batch_of"]


class Batch(Run, gc=False, eq=False):
    """Several runs of one processor on their way together; `runs` are they, and the fields of a run are the batch's.

    `job` and `lease` are those of the first and speak for nobody. `outcomes` are those that single jobs have for
    themselves, None for what became of all. `left` is called when the batch no longer waits for a slot.
    """

    runs: list[Run] = msgspec.field(default_factory=list)
    outcomes: list[Outcome | None] = msgspec.field(default_factory=list)
    left: Callable[[], None] | None = None

    def leave(self) -> None:
        """Tell that the batch no longer waits for a slot; further calls do nothing."""
        left, self.left = self.left, None
        if left is not None:
            left()

    def ended(self, outcome: Outcome) -> list[tuple[Run, Outcome]]:
        """What became of each of its runs, where `outcome` became of the call."""
        return [
            (run, run.done or its or (Interrupted() if run.stop is Stop.LOST else outcome))
            for run, its in zip(self.runs, self.outcomes, strict=True)
        ]

    def end(self, stop: Stop) -> None:
        """Tell the batch to stop, and each of its runs."""
        for run in self.runs:
            run.end(stop)
        Run.end(self, stop)


def batch_of(runs: Sequence[Run], since: float, left: Callable[[], None] | None = None) -> Batch:
    """Put runs of one processor together. The batch's timeout is the shortest of theirs."""
    first = runs[0]
    timeouts = [run.rules.timeout for run in runs if run.rules.timeout is not None]
    rules = msgspec.structs.replace(first.rules, timeout=min(timeouts, default=None))
    return Batch(
        first.job, first.lease, first.declaration, rules, since, first.until, runs=list(runs),
        outcomes=[None] * len(runs), left=left, weight=len(runs),
    )  # fmt: skip


class Gathering:
    """A duty: the jobs of one processor that wait until there are enough of them, or for long enough."""

    def __init__(
        self,
        declaration: Declaration,
        world: World,
        *,
        give: Callable[[list[Run]], None],
        wake: Callable[[], None],
        room: Callable[[], None],
    ) -> None:
        self.declaration = declaration
        self._world = world
        self._give = give
        self._wake = wake
        self._room = room
        self._runs: list[Run] = []
        self._since = 0.0
        self._ready = 0

    def load(self) -> int:
        """How many jobs are held here, or in a batch that no slot has begun with."""
        return len(self._runs) + self.declaration.batch * self._ready

    def arrived(self, runs: Sequence[Run]) -> None:
        """Take claimed jobs; as many as fill a batch go on at once."""
        if not self._runs:
            self._since = self._world.monotonic()
        self._runs += runs
        while len(self._runs) >= self.declaration.batch:
            self._hand_over()
        if self._runs:
            self._wake()

    def take_back(self) -> list[Run]:
        """Take out what is being gathered."""
        runs, self._runs = self._runs, []
        return runs

    async def turn(self) -> float | None:
        if not self._runs:
            return None
        left = self._since + self.declaration.wait - self._world.monotonic()
        if left > 0:
            return left
        self._hand_over()
        return None

    def _hand_over(self) -> None:
        now, size = self._world.monotonic(), self.declaration.batch
        runs, self._runs = self._runs[:size], self._runs[size:]
        self._since = now
        # Lost meanwhile: there is nothing to be done with them any more, and nothing to be written.
        self._give([run for run in runs if run.told_to_stop()])
        held = [run for run in runs if not run.told_to_stop()]
        if held:
            self._ready += 1
            self._give([batch_of(held, now, self._left)])

    def _left(self) -> None:
        """A batch is under way, or was given back."""
        self._ready -= 1
        self._room()

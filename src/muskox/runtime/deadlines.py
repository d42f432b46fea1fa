"""The one wheel on which the timeouts of all runs hang, instead of a timer for each.

A run that does not stop when told to is told again, and then given up.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count

from muskox.core.seam import World
from muskox.runtime.run import Run, Stop

__all__ = ["Deadlines"]

INSISTENCE = (0.1, 1.0, 3.0)
"""Seconds between the times at which a run is told to stop."""


FEW = 1000
"""So many runs on the wheel are not worth a look at whether they have ended."""


class Deadlines:
    """A duty: each turn ends the runs whose time is over. `abandon` is called with those that won't end."""

    def __init__(self, world: World, abandon: Callable[[Run], None], wake: Callable[[], None]) -> None:
        self._world = world
        self._abandon = abandon
        self._wake = wake
        self._wheel: list[tuple[float, int, Run, int]] = []
        self._order = count()
        self._most = FEW

    def watch(self, run: Run) -> None:
        """Have a run that begins now stopped at its timeout, unless it has ended."""
        assert run.rules.timeout is not None, "only runs with a timeout are watched"
        if len(self._wheel) >= self._most:
            self._sweep()
        self._push(self._world.monotonic() + run.rules.timeout, run, 0)
        if self._wheel[0][2] is run:
            self._wake()

    def _sweep(self) -> None:
        """Drop the runs that have ended, most of which end long before their timeout."""
        self._wheel = [spoke for spoke in self._wheel if spoke[2].halt is not None]
        heapify(self._wheel)
        self._most = max(FEW, 2 * len(self._wheel))

    def insist(self, run: Run) -> None:
        """See to it that a run that was told to stop does."""
        self._push(self._world.monotonic() + INSISTENCE[0], run, 1)
        self._wake()

    async def turn(self) -> float | None:
        now = self._world.monotonic()
        while self._wheel and self._wheel[0][0] <= now:
            _, _, run, told = heappop(self._wheel)
            if run.halt is not None:
                self._press(run, told, now)
        return self._wheel[0][0] - now if self._wheel else None

    def _press(self, run: Run, told: int, now: float) -> None:
        if told == 0:
            run.end(Stop.TIMEOUT)
        elif run.halt is not None:
            run.halt()
        if told < len(INSISTENCE):
            self._push(now + INSISTENCE[told], run, told + 1)
        else:
            self._abandon(run)

    def _push(self, when: float, run: Run, told: int) -> None:
        heappush(self._wheel, (when, next(self._order), run, told))

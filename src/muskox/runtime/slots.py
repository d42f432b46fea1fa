"""The slots of a worker: long-lived coroutines that take runs from a common buffer.

No task is made per job, and a slot that finds work wakes at most one other, so
that a hundred idle slots cost nothing. What a run does is in `run.py`, what
becomes of it is given to whoever made the slots.
"""

from __future__ import annotations

import asyncio
import types
from collections import deque
from collections.abc import Callable, Generator
from math import inf
from typing import Any

from muskox.core.life import Interrupted, Outcome
from muskox.core.seam import World
from muskox.runtime.attempt import Attempt
from muskox.runtime.run import Run, stopped

__all__ = ["Slots"]


class Slots:
    """`size` runs at once.

    In the loop, `begun` is called with each run that has a timeout, `took` with each that is measured and its
    seconds, and `ended` with each run and its outcome.
    """

    def __init__(
        self,
        world: World,
        size: int,
        attempt: Attempt,
        *,
        begun: Callable[[Run], None],
        ended: Callable[[Run, Outcome], None],
        took: Callable[[Run, float], None],
    ) -> None:
        self.size = size
        self.waiting: deque[Run] = deque()
        self.running = 0
        self.closed = False
        self.attempt = attempt
        self.begun = begun
        self.ended = ended
        self.took = took
        self.clock = world.monotonic
        self._world = world
        self._resting: deque[asyncio.Future[None]] = deque()
        self.waking = False
        self._slots: set[_Slot] = set()

    def open(self) -> None:
        """Start the slots."""
        for _ in range(self.size):
            self._start()

    def _start(self) -> None:
        slot = _Slot(self)
        self._slots.add(slot)
        slot.task = self._world.spawn(slot.serve(), name="muskox-slot")

    async def close(self) -> None:
        """End the slots; whatever still runs in them is cancelled."""
        self.closed = True
        tasks = [slot.task for slot in self._slots if slot.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def give(self, runs: list[Run]) -> None:
        """Put runs into the buffer."""
        self.waiting.extend(runs)
        self.wake_one()

    def take_back(self, before: float = inf) -> list[Run]:
        """Take what was not begun out of the buffer: all that was asked for before a moment of the monotonic clock."""
        runs = [run for run in self.waiting if run.since < before]
        for run in runs:
            self.waiting.remove(run)
        return runs

    def wake_one(self) -> None:
        """Let one resting slot look into the buffer, unless one is just waking up."""
        while self._resting and not self.waking:
            bell = self._resting.popleft()
            if not bell.done():
                bell.set_result(None)
                self.waking = True

    async def rest(self) -> None:
        """Sleep until `wake_one`."""
        bell: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._resting.append(bell)
        await bell
        self.waking = False

    def abandon(self, run: Run) -> bool:
        """Give up on a run that does not stop when told to: its slot is replaced and its outcome dropped.

        Returns whether it was still running.
        """
        for slot in self._slots:
            if slot.run is run:
                slot.abandoned = True
                self._slots.discard(slot)
                self.running -= 1
                self._start()
                return True
        return False


class _Slot:
    __slots__ = ("_slots", "abandoned", "run", "task")

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self.task: asyncio.Task[None] | None = None
        self.run: Run | None = None
        self.abandoned = False

    async def serve(self) -> None:
        slots = self._slots
        waiting = slots.waiting
        while not (self.abandoned or slots.closed):
            if not waiting:
                await slots.rest()
                continue
            run = waiting.popleft()
            if waiting and not slots.waking:
                slots.wake_one()
            self.run = run
            slots.running += 1
            self._hand_over(run, await (self._measure(run) if run.weight else self._perform(run)))

    def _hand_over(self, run: Run, outcome: Outcome) -> None:
        if not self.abandoned:
            self.run = None
            self._slots.running -= 1
            self._slots.ended(run, outcome)

    async def _measure(self, run: Run) -> Outcome:
        begun = self._slots.clock()
        outcome = await self._perform(run)
        if not isinstance(outcome, Interrupted):
            self._slots.took(run, self._slots.clock() - begun)
        return outcome

    async def _perform(self, run: Run) -> Outcome:
        if run.told_to_stop():
            return stopped(run)
        run.halt = self._halt
        if run.rules.timeout is not None:
            self._slots.begun(run)
        try:
            outcome = await self._slots.attempt.make(run)
        except asyncio.CancelledError:
            if not run.told_to_stop():
                raise  # not the run but the slot itself is to end
            outcome = stopped(run)
        finally:
            run.halt = None
        if run.stop is not None:
            await self._settle_down()
        return outcome

    def _halt(self) -> None:
        if self.task is not None:
            self.task.cancel()

    async def _settle_down(self) -> None:
        """Take in a cancellation that was meant for the run and may arrive only now."""
        assert self.task is not None
        while self.task.cancelling():
            self.task.uncancel()
            try:
                await _breath()
            except asyncio.CancelledError:
                continue


@types.coroutine
def _breath() -> Generator[Any, Any, None]:
    yield

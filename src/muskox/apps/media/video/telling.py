"""Tells how far the making of a video is: true, never backwards, and not so often that it is a burden.

The percentages are worked out in `report.py`; here they reach the job.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from muskox import ActiveJob, World
from muskox.apps.media.video.report import Meter, Report, share

__all__ = ["PROBED", "VERIFYING", "Telling"]

PROBED, VERIFYING = 2, 97
WINDOW = 10.0
"""Seconds of the past by which the time that is left is guessed."""


class Telling:
    """The progress of one run, whose parts have weights by what they are expected to cost."""

    def __init__(self, job: ActiveJob, world: World) -> None:
        self._job = job
        self._world = world
        self._meter = Meter()
        self._total = 1.0
        self._before = 0.0
        self._weight = 0.0
        self._step = "probe"
        self._duration: float | None = None
        self._blind = float("-inf")
        self._past: deque[tuple[float, float]] = deque()

    async def probed(self, weights: float) -> None:
        """Tell that the file was looked at; what comes now weighs `weights` in all."""
        self._total = max(weights, 1e-9)
        await self._mark(PROBED, always=True)

    async def verifying(self) -> None:
        """Tell that all is made and the last of it is looked at; nothing while there is more to make."""
        if self._before < self._total * 0.999:
            return
        self._step = "verify"
        await self._mark(VERIFYING, always=False)

    async def begin(self, step: str, weight: float, duration: float | None) -> None:
        """Begin a part whose output will last `duration` seconds; None where nobody knows.

        0 is for a part in whose midst there is nothing to tell.
        """
        self._step, self._weight, self._duration = step, weight, duration
        await self._move(0.0, None)

    async def heard(self, report: Report) -> None:
        """Take what the encoder says of the part that it is at."""
        done = share(report.out_time, self._duration)
        if done is not None:
            await self._move(done, report)
        elif self._duration is None and report.out_time is not None:
            await self._tell_blindly(report)

    async def end(self) -> None:
        """The part is done, whatever was heard of it."""
        self._before += self._weight
        self._weight = 0.0
        await self._move(0.0, None)

    async def _move(self, done: float, report: Report | None) -> None:
        now = self._world.monotonic()
        overall = min((self._before + self._weight * done) / self._total, 1.0)
        self._past.append((now, overall))
        while self._past[0][0] < now - WINDOW:
            self._past.popleft()
        percent = self._meter.move(overall, now)
        if percent is not None:
            await self._tell(percent, report, self._left(overall))

    async def _tell_blindly(self, report: Report) -> None:
        """Where nobody knows how long it will be: how much there is, and no percentage."""
        now = self._world.monotonic()
        if now >= self._blind:
            self._blind = now + 0.5
            await self._job.progress({"percent": None, "step": self._step, "out_time_s": report.out_time})

    def _left(self, overall: float) -> float | None:
        (then, before), (now, _) = self._past[0], self._past[-1]
        if overall <= before or now <= then:
            return None
        return (1.0 - overall) * (now - then) / (overall - before)

    async def _mark(self, percent: int, *, always: bool) -> None:
        told = self._meter.mark(percent, self._world.monotonic(), always=always)
        if told is not None:
            await self._tell(told, None, None)

    async def _tell(self, percent: int, report: Report | None, left: float | None) -> None:
        said: dict[str, Any] = {"percent": percent, "step": self._step}
        if report is not None:
            said |= {"speed": report.speed, "fps": report.fps}
        if left is not None:
            said["eta_s"] = round(left, 1)
        await self._job.progress(said)

"""Helpers for tests of programs that use Muskox: a world whose clock you move.

Nothing here is needed to run jobs, and nothing here waits for real time.
"""

from __future__ import annotations

import asyncio
import random
import threading
import uuid
from collections.abc import Coroutine
from typing import Any

__all__ = ["FakeWorld"]

_START = 1_767_225_600.0
"""1 January 2026, 00:00 UTC."""


class FakeWorld:
    """A `World` in which time stands still until `advance` moves it.

    The same `seed` gives the same ids and the same dice; without one they are
    different each time, so that two worlds on one store do not make the same
    ids. May be asked from any thread.
    """

    def __init__(self, start: float = _START, *, seed: int | None = None) -> None:
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self._now = start
        self._monotonic = 0.0
        self._made = 0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass: moves both clocks and wakes whoever has slept long enough."""
        if not seconds >= 0:
            raise ValueError(f"time passes forwards, not by {seconds} seconds; see jump() for a clock that is set")
        with self._lock:
            self._now += seconds
            self._monotonic += seconds
            over = [sleeper for sleeper in self._sleepers if sleeper[0] <= self._monotonic]
            self._sleepers = [sleeper for sleeper in self._sleepers if sleeper[0] > self._monotonic]
        for _, awake in sorted(over, key=lambda sleeper: sleeper[0]):
            _wake(awake)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forwards or back, as a person or a time server would; nobody's sleep ends by that."""
        with self._lock:
            self._now += seconds

    def now(self) -> float:
        with self._lock:
            return self._now

    def monotonic(self) -> float:
        with self._lock:
            return self._monotonic

    def chance(self) -> float:
        with self._lock:
            return self._random.random()

    def secret(self, size: int) -> bytes:
        """`size` bytes from the seed: good for tests and for nothing else."""
        with self._lock:
            return self._random.randbytes(size)

    def new_id(self) -> str:
        """Make a UUIDv7 from this world's clock; a counter keeps ids of one moment in order."""
        with self._lock:
            self._made += 1
            milliseconds = int(self._now * 1000) & 0xFFFF_FFFF_FFFF
            order = self._made << 32 | self._random.getrandbits(32)
        high, low = order >> 62 & 0xFFF, order & 0x3FFF_FFFF_FFFF_FFFF
        return str(uuid.UUID(int=milliseconds << 80 | 7 << 76 | high << 64 | 2 << 62 | low))

    async def sleep(self, seconds: float) -> None:
        """Return once the clock has been advanced by so many seconds."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        awake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            sleeper = (self._monotonic + seconds, awake)
            self._sleepers.append(sleeper)
        try:
            await awake
        finally:
            with self._lock:
                if sleeper in self._sleepers:
                    self._sleepers.remove(sleeper)

    def spawn(self, work: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
        return asyncio.get_running_loop().create_task(work, name=name)


def _wake(awake: asyncio.Future[None]) -> None:
    # The sleeper may live in another thread's loop, which may have ended since.
    loop = awake.get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(lambda: None if awake.done() else awake.set_result(None))

"""The real world: clock, dice, ids, sleep and tasks of this machine.

The only module that may ask for them; everything else is handed a `World`
(`core/seam.py`). It keeps no state but the last id, so that ids never repeat.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import threading
import time
from collections.abc import Coroutine
from typing import Any

__all__ = ["RealWorld"]


class RealWorld:
    """The `World` that programs get unless they hand in another."""

    simulated = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def chance(self) -> float:
        return random.random()

    def secret(self, size: int) -> bytes:
        return secrets.token_bytes(size)

    def new_id(self) -> str:
        """Make a UUIDv7: 48 bits of milliseconds, 12 bits of their fraction, 62 of chance.

        The fraction keeps ids of one process in the order in which they were
        made (RFC 9562, section 6.2, method 3).
        """
        milliseconds, rest = divmod(time.time_ns(), 1_000_000)
        ticks = milliseconds << 12 | rest * 4096 // 1_000_000
        with self._lock:
            if ticks <= self._last:
                ticks = self._last + 1
            self._last = ticks
        chance = random.getrandbits(62)
        # By hand, since uuid.UUID takes four times as long to do the same; 7 is the version, 8 the variant.
        return "%08x-%04x-7%03x-%04x-%012x" % (  # noqa: UP031 - half the time of an f-string
            ticks >> 28, ticks >> 12 & 0xFFFF, ticks & 0xFFF, 0x8000 | chance >> 48, chance & 0xFFFF_FFFF_FFFF,
        )  # fmt: skip

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def spawn(self, work: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
        return asyncio.get_running_loop().create_task(work, name=name)

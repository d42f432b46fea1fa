"""Wakes those who wait for a message or the inbox to change, within one process.

A hint only: whoever waits also looks again from time to time, since the change
may have come from another process.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Bell", "Ear"]


class Ear:
    """One waiting reader; made by `Bell.listen`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Return when the bell has rung since the last call, at the latest after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        except TimeoutError:
            pass
        self._rung.clear()

    def ring(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._rung.set)
        except RuntimeError:  # its loop is closed: nobody waits there any more
            pass


class Bell:
    """Rings per topic: the id of a message, or any other word. May be rung from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ears: dict[str, set[Ear]] = {}
        self.silent = False

    def ring(self, topic: str) -> None:
        """Wake all who listen to `topic`."""
        with self._lock:
            ears = list(self._ears.get(topic, ()))
        for ear in ears:
            ear.ring()

    def close(self) -> None:
        """Wake everybody for the last time; `silent` tells them to go."""
        self.silent = True
        with self._lock:
            ears = [ear for group in self._ears.values() for ear in group]
        for ear in ears:
            ear.ring()

    @contextmanager
    def listen(self, topic: str) -> Iterator[Ear]:
        """Hear `topic` while the block runs."""
        ear = Ear()
        with self._lock:
            self._ears.setdefault(topic, set()).add(ear)
        try:
            yield ear
        finally:
            with self._lock:
                self._ears[topic].discard(ear)
                if not self._ears[topic]:
                    del self._ears[topic]

"""Asks for the figures once a second for all pages that are open, and hands each the latest.

A page that is slow gets the newest figures and not all that it missed. Nobody
watches, nothing is asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from muskox import MuskoxError, World

__all__ = ["Ticker"]

log = logging.getLogger("muskox.web")

Tick = tuple[str, str]
"""The kind of a message and its text."""


class Ticker:
    """Calls `look` each second while somebody watches."""

    def __init__(self, world: World, look: Callable[[], Awaitable[str]], every: float = 1.0) -> None:
        self._world = world
        self._look = look
        self._every = every
        self.watching = 0
        """How many pages are open."""
        self._turning: Any = None
        self._latest: Tick | None = None
        self._number = 0
        self._turned = asyncio.Event()
        self._over = False

    @contextmanager
    def watch(self) -> Iterator[AsyncGenerator[Tick, None]]:
        """Give the figures, the latest at once where somebody watches already, until the end."""
        self.watching += 1
        if self._turning is None or self._turning.done():
            self._latest = None
            self._turning = self._world.spawn(self._turn(), name="muskox dashboard figures")
        try:
            yield self._stream()
        finally:
            self.watching -= 1

    def end(self) -> None:
        """Let all streams end."""
        self._over = True
        self._wake()

    async def stop(self) -> None:
        """Ask no more."""
        self.end()
        turning, self._turning = self._turning, None
        if turning is not None:
            turning.cancel()
            await asyncio.gather(turning, return_exceptions=True)

    async def _stream(self) -> AsyncGenerator[Tick, None]:
        seen = -1
        while not self._over:
            turned = self._turned
            if self._latest is not None and self._number != seen:
                seen = self._number
                yield self._latest
            else:
                await turned.wait()

    async def _turn(self) -> None:
        while self.watching and not self._over:
            try:
                self._latest = ("overview", await self._look())
            except MuskoxError as error:
                log.warning("the figures cannot be read: %s", error)
                self._latest = ("away", "{}")
            self._number += 1
            self._wake()
            await self._world.sleep(self._every)

    def _wake(self) -> None:
        turned, self._turned = self._turned, asyncio.Event()
        turned.set()

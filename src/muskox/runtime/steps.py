"""The durable steps of one run: read when the first is asked for, written under the lease as each is done.

It calls no step; that is done where the processor runs, which may be a thread or another process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from muskox.core.steps import Steps

__all__ = ["StepKeeper"]


class StepKeeper:
    """For the loop's own thread. A job that has no steps costs nothing: nothing is read before `begin`."""

    def __init__(
        self, read: Callable[[], Awaitable[str | None]], write: Callable[[str], Awaitable[None]], limit: int
    ) -> None:
        self._read = read
        self._write = write
        self._limit = limit
        self._steps: Steps | None = None
        self._turn = asyncio.Lock()

    async def begin(self, name: str) -> str | None:
        """The kept result of a step, None when it has to be done.

        Raises `OptionError` for a name that cannot be or was used before, `LeaseLost`, and the store's errors.
        """
        async with self._turn:
            if self._steps is None:
                self._steps = Steps(await self._read())
        return self._steps.begin(name)

    async def keep(self, name: str, result: str) -> None:
        """Write the result of a step; raises `DataError`, `LeaseLost` and the store's errors."""
        assert self._steps is not None, "a step begins before it ends"
        # One at a time: each writes all of them.
        async with self._turn:
            text = self._steps.keep(name, result, limit=self._limit)
            await self._write(text)

    def undo(self, name: str) -> None:
        """A step has failed: its name may be used again."""
        if self._steps is not None:
            self._steps.undo(name)

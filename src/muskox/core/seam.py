"""The type of the one seam to clock, dice, ids, sleep and tasks.

`runtime/world.py` holds the real one; tests and simulations hand in their own.
Nothing else in Muskox asks the machine for any of these.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from typing import Any, Protocol

__all__ = ["Spawned", "World"]


class Spawned(Protocol):
    """A running task: what `World.spawn` returns."""

    def cancel(self, msg: Any | None = None) -> bool: ...
    def done(self) -> bool: ...
    def __await__(self) -> Any: ...


class World(Protocol):
    """Where time, chance and identity come from."""

    simulated: bool
    """Whether its time is not the machine's: a store with a clock of its own then goes by the world's instead."""

    def now(self) -> float:
        """Seconds since 1970 in UTC; may jump when somebody sets the clock."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...

    def chance(self) -> float:
        """A number in [0, 1)."""
        ...

    def new_id(self) -> str:
        """A new UUIDv7 (RFC 9562) as text: ids made later sort later."""
        ...

    def secret(self, size: int) -> bytes:
        """`size` unguessable bytes, fit for keys and tokens."""
        ...

    def sleep(self, seconds: float) -> Awaitable[None]:
        """Return after so many seconds of this world's time."""
        ...

    def spawn(self, work: Coroutine[Any, Any, Any], *, name: str) -> Any:
        """Run a coroutine beside the caller; returns the `asyncio.Task` (or its equal)."""
        ...

"""Asks Muskox's world for the time, as a moment."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Protocol

from muskox import World

__all__ = ["Spawned", "World", "moment_now"]


class Spawned(Protocol):
    """A task that a world runs."""

    def cancel(self, msg: Any | None = None) -> bool: ...
    def done(self) -> bool: ...


def moment_now(world: World) -> datetime:
    """Now, in UTC."""
    return datetime.fromtimestamp(world.now(), UTC)

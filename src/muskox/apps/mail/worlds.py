"""Asks Muskox's world for the time, as a moment."""

from __future__ import annotations

from datetime import UTC, datetime

from muskox import World

__all__ = ["World", "moment_now"]


def moment_now(world: World) -> datetime:
    """Now, in UTC."""
    return datetime.fromtimestamp(world.now(), UTC)

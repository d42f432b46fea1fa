"""What the verbs of the Redis store share: the way to the server, and how a step is asked and told to last.

It knows none of the verbs.
"""

from __future__ import annotations

from typing import Any

from muskox.core.errors import StoreUnavailable
from muskox.core.seam import World
from muskox.store.redis.keys import Keys
from muskox.store.redis.link import Command, Link
from muskox.store.redis.location import Location
from muskox.store.redis.records import packed

__all__ = ["Steps"]

_MOST_EVENTS = 50_000


class Steps:
    """A store object as far as it can run steps."""

    def __init__(self, location: Location, world: World) -> None:
        self._location = location
        self._world = world
        self._keys = Keys(location.prefix)
        self._link = Link(location)

    async def _step(self, name: str, asked: Any, *more: bytes) -> Any:
        return await self._link.step(name, [self._keys.meta], self._args(asked, more))

    async def _lasting_step(self, name: str, asked: Any, *more: bytes) -> Any:
        """A step whose effect must last as the durability of the URL says when it returns."""
        then = self._confirmation()
        if then is None:
            return await self._step(name, asked, *more)
        answer, confirmed = await self._link.step_then(name, [self._keys.meta], self._args(asked, more), then)
        if (confirmed[0] if isinstance(confirmed, list) else confirmed) < 1:
            raise StoreUnavailable(
                f"the Redis server at {self._location.shown} did what was asked, but nobody confirmed in time that it "
                f"will last as durability {self._location.durability} wants; repeating it with the same ids is safe"
            )
        return answer

    def _args(self, asked: Any, more: tuple[bytes, ...]) -> list[bytes | str]:
        now = str(int(self._world.now() * 1_000_000)) if self._world.simulated else ""
        return [now, packed(asked), str(_MOST_EVENTS), *more]

    def _confirmation(self) -> Command | None:
        patience = int(self._location.timeout * 800)
        match self._location.durability:
            case "fsync":
                return b"WAITAOF", 1, 0, patience
            case "replicated":
                return b"WAIT", 1, patience
            case _:
                return None

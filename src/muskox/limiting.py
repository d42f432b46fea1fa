"""Limits of a queue as programs see them: put, change and look at them, and hold what must wait.

What they mean is in `core/limits.py`, and stores keep them. A program declares
them when it names the queue; from then on they are in the store.
"""

from __future__ import annotations

import builtins
from collections.abc import Set as AbstractSet
from datetime import timedelta
from typing import Any, Literal, TypedDict, Unpack

import msgspec

from muskox.core.errors import OptionError
from muskox.core.job import LONGEST_DELAY, check_key, seconds
from muskox.core.limits import Limits, Rate, WhenFull
from muskox.store.protocol import KeyState, QueueLimits, Store

__all__ = ["KeyOptions", "LimitOptions", "Limiting", "read_limits"]


class LimitOptions(TypedDict, total=False):
    """What may be said about the limits of a queue; None: no limit.

    `rate` and `concurrency` hold for the queue as a whole, over all workers: how many of its jobs start in some time,
    and run at once. `key_rate` and `key_concurrency` hold for the jobs of each key that has nothing of its own.
    `max_waiting` is how many jobs may wait, blocked ones included, and `when_full` what becomes of more: "reject" (the
    default), "drop-oldest", or "wait" for room.
    """

    rate: Rate | None
    concurrency: int | None
    key_rate: Rate | None
    key_concurrency: int | None
    max_waiting: int | None
    when_full: WhenFull | Literal["reject", "drop-oldest", "wait"]


class KeyOptions(TypedDict, total=False):
    """What may be said about one key; None: as the queue says, "unlimited": no limit, whatever the queue says.

    `weight` is how many turns it has for each turn of a key of weight 1.
    """

    rate: Rate | Literal["unlimited"] | None
    concurrency: int | Literal["unlimited"] | None
    weight: int


class Limiting:
    """The part of a queue that is about its limits."""

    name: str

    async def _open(self) -> Store:
        raise NotImplementedError

    async def limits(self) -> QueueLimits:
        """What holds for the queue, and how it stands: jobs that run, starts that are free, a hold."""
        return await (await self._open()).limits(self.name)

    async def set_limits(self, **changes: Unpack[LimitOptions]) -> QueueLimits:
        """Change what is named, for all workers and from now on; None takes a limit away.

        It stays so over restarts, until the program declares other limits than it did before.
        """
        store = await self._open()
        limits = read_limits(changes, (await store.limits(self.name)).limits)
        await store.limit(self.name, limits)
        return await store.limits(self.name)

    async def key(self, key: str) -> KeyState:
        """What holds for a key, and how it stands."""
        [state] = await (await self._open()).keys(self.name, [check_key(key)])
        return state

    async def keys(self, *, after: str = "", limit: int = 100) -> builtins.list[KeyState]:
        """Keys that have jobs which have come and not ended, limits of their own, or a hold, by name.

        `after` is the last key of the page before.
        """
        if not 1 <= limit <= 1000:
            raise OptionError(f"limit must be between 1 and 1000, not {limit}; go on after the last key")
        return await (await self._open()).keys(self.name, after=after, limit=limit)

    async def set_key(self, key: str, **changes: Unpack[KeyOptions]) -> KeyState:
        """Change what is named for one key; what is None is as the queue says again.

        A weight is from 1 to 100: how many turns the key has for each turn of others.
        """
        _check_names(changes.keys(), KeyOptions.__annotations__.keys(), "a key")
        store = await self._open()
        own = msgspec.structs.replace((await self.key(key)).own, **changes)
        await store.limit_key(self.name, key, own)
        return await self.key(key)

    async def hold(self, duration: float | timedelta, *, key: str | None = None) -> None:
        """Have no job of the queue start for so long, or none of one key; 0 ends a hold. Running jobs go on.

        A hold that lasts longer stays. To stop a queue until somebody says so, `pause` it.
        """
        wanted = seconds(duration, "duration")
        if not 0 <= wanted <= LONGEST_DELAY:
            raise OptionError(f"a hold must be between 0 and {LONGEST_DELAY:.0f} seconds, not {wanted!r}")
        await (await self._open()).hold(self.name, wanted, key=None if key is None else check_key(key))


def read_limits(given: LimitOptions, before: Limits | None = None) -> Limits:
    """What holds after `given` has been said of a queue that had the limits `before`."""
    _check_names(given.keys(), LimitOptions.__annotations__.keys(), "a queue")
    said: dict[str, Any] = {**given}
    if "when_full" in said:
        said["when_full"] = _when_full(said["when_full"])
    return msgspec.structs.replace(before or Limits(), **said)


def _when_full(said: Any) -> WhenFull:
    try:
        return WhenFull(said)
    except ValueError:
        raise OptionError(f"when_full must be one of {', '.join(WhenFull)}, not {said!r}") from None


def _check_names(given: AbstractSet[str], known: AbstractSet[str], whose: str) -> None:
    unknown = given - known
    if unknown:
        raise OptionError(f"there is no limit {min(unknown)!r} for {whose}; there are {', '.join(known)}")

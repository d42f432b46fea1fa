"""Hints: wakes those who wait for jobs or events, by one connection that only listens.

Whoever finds nothing sets a flag in the store, and whoever then brings
something takes the flag away and tells everybody who listens: so nothing is
said while nobody waits. Hints carry no data and may get lost; they are
asked for again once a second while somebody waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.exceptions import RedisError

from muskox.core.errors import StoreError
from muskox.core.seam import World
from muskox.store.redis.dial import Dialer, Talk
from muskox.store.redis.location import Location

__all__ = ["EVENTS", "Bell", "Hub"]

log = logging.getLogger("muskox.store")

EVENTS = "!"
"""Stands among the queues for new events."""

POLL = 1.0
"""Seconds after which hints are asked for again, while somebody waits."""

BEAT = 5.0
"""Seconds of silence after which the connection must show that it lives."""

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
"""Seconds between attempts to connect, growing."""

Arm = Callable[[Sequence[str]], Awaitable[list[str]]]
"""Sets the flags of queues; gives those whose flag was not set, so that there may have been something."""


class Bell:
    """Rings once; heard from the moment it is made."""

    def __init__(self, hub: Hub, queues: frozenset[str]) -> None:
        self.queues = queues
        self._hub = hub
        self._rung = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Return when it rings, at the latest after so many seconds; then it is used up."""
        try:
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        except TimeoutError:
            return
        finally:
            self._hub.drop(self)

    def ring(self) -> None:
        self._rung.set()


class Hub:
    """The bells of one store object, and the two tasks that ring them; they begin with the first bell."""

    def __init__(self, location: Location, world: World, dialer: Dialer, channel: bytes, arm: Arm) -> None:
        self._location = location
        self._world = world
        self._dialer = dialer
        self._channel = channel
        self._arm = arm
        self._bells: set[Bell] = set()
        self._armed: set[str] = set()
        self._moments: dict[str, float] = {}
        """When more of a queue may start, by our own clock, where that is a matter of time."""
        self._heard = 0
        self._listening = False
        self._wanted = asyncio.Event()
        self._tasks: list[Any] = []

    def bell(self, queues: Sequence[str]) -> Bell:
        """A bell for jobs that begin to wait in the queues."""
        bell = Bell(self, frozenset(queues))
        self._bells.add(bell)
        if not bell.queues <= self._armed:
            self._wanted.set()
        if not self._tasks:
            self._tasks = [
                self._world.spawn(self._listen(), name="muskox-redis-hints"),
                self._world.spawn(self._keep_armed(), name="muskox-redis-arm"),
            ]
        return bell

    def drop(self, bell: Bell) -> None:
        """Forget a bell."""
        self._bells.discard(bell)

    def mark(self) -> int:
        """To be taken before the store is asked, and handed to `armed` with what it answered."""
        return self._heard if self._listening else -1

    def armed(self, queues: Sequence[str], mark: int) -> None:
        """Take note that the flags of queues were set by a step, unless a hint may have been given since."""
        if mark == self._heard and self._listening:
            self._armed.update(queues)

    def wake_in(self, queues: Sequence[str], waits: dict[int, int]) -> None:
        """Take note in how many µs more of a queue may start, by its place from 1; of all others it is not known."""
        for place, queue in enumerate(queues, 1):
            if place in waits:
                self._moments[queue] = self._world.monotonic() + waits[place] / 1e6
            else:
                self._moments.pop(queue, None)

    async def wait(self, queues: Sequence[str], seconds: float) -> None:
        """Return when jobs of the queues may be claimed, as by a bell, or when it is known that more may start."""
        bell = self.bell(queues)
        nearest = min((queue for queue in queues if queue in self._moments), key=self._moments.__getitem__, default="")
        if not nearest:
            return await bell.wait(seconds)
        alarm = self._world.spawn(self._ring_when_more(bell, nearest), name="muskox-redis-alarm")
        try:
            await bell.wait(seconds)
        finally:
            alarm.cancel()

    async def _ring_when_more(self, bell: Bell, queue: str) -> None:
        moment = self._moments[queue]
        await self._world.sleep(max(0.0, moment - self._world.monotonic()))
        if self._moments.get(queue) == moment:
            del self._moments[queue]
        bell.ring()

    async def close(self) -> None:
        """End the tasks; those who still wait do so until their time is over."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ring(self, queues: Sequence[str] | None = None) -> None:
        for bell in [bell for bell in self._bells if queues is None or not bell.queues.isdisjoint(queues)]:
            bell.ring()

    # --- the connection that listens ---------------------------------------------

    async def _listen(self) -> None:
        pause = FIRST_PAUSE
        while True:
            talk: Talk | None = None
            try:
                async with asyncio.timeout(self._location.timeout):
                    talk = await self._dialer.dial(protocol=2)
                    await talk.ask(b"SUBSCRIBE", self._channel)
                self._begin()
                pause = FIRST_PAUSE
                await self._hear(talk)
            except (RedisError, OSError, TimeoutError) as error:
                level = logging.WARNING if self._listening else logging.DEBUG
                log.log(level, "no hints from the store until it is reached again, only looks now and then: %s", error)
            finally:
                self._listening = False
                if talk is not None:
                    talk.drop()
            # Others lose their connections at the same moment: not all shall come back at the same one.
            await _rest(pause * (0.5 + self._world.chance()))
            pause = min(LONGEST_PAUSE, 2 * pause)

    def _begin(self) -> None:
        self._listening = True
        self._heard += 1
        self._armed.clear()
        self._wanted.set()
        self._ring()

    async def _hear(self, talk: Talk) -> None:
        pinged = False
        while True:
            said = await talk.hear_within(BEAT)
            if said is None:
                if pinged:
                    raise TimeoutError("no sign of life")
                pinged = True
                talk.say(b"PING")
                continue
            pinged = False
            if said[0] == b"message":
                queue = said[2].decode()
                self._heard += 1
                self._armed.discard(queue)
                self._ring([queue])

    # --- the flags ---------------------------------------------------------------

    async def _keep_armed(self) -> None:
        while True:
            try:
                async with asyncio.timeout(POLL if self._bells else None):
                    await self._wanted.wait()
            except TimeoutError:
                self._armed.clear()
            self._wanted.clear()
            queues = sorted({queue for bell in self._bells for queue in bell.queues} - self._armed)
            if not queues or not self._listening:
                continue
            mark = self.mark()
            try:
                new = await self._arm(queues)
            except StoreError as error:
                log.debug("hints could not be asked for: %s", error)
                continue
            self.armed(queues, mark)
            if new:
                self._ring(new)


async def _rest(seconds: float) -> None:
    """Let real time pass, also in a world whose own stands still: the network knows no other."""
    try:
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()
    except TimeoutError:
        return

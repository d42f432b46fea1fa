"""The way to the server: a few connections, steps by their hashes, a deadline for everything, errors in our words.

A connection that was disturbed in the middle (no answer in time, a cancelled
caller) is dropped, so that no answer can ever reach the wrong question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.exceptions import RedisError, ResponseError

from muskox.core.errors import StoreUnavailable
from muskox.store.redis.dial import Dialer, Talk
from muskox.store.redis.location import Location
from muskox.store.redis.scripts import script
from muskox.store.redis.trouble import has_moved, translate

__all__ = ["Link"]

Command = tuple[bytes | str | int, ...]


class Link:
    """What the verbs of a store ask through; belongs to one event loop."""

    def __init__(self, location: Location) -> None:
        self.location = location
        self.dialer = Dialer(location)
        self.flags = True
        """Whether the server reads the first line of a script."""
        self._free: list[Talk] = []
        self._room = asyncio.Semaphore(location.connections)
        self._closed = False

    async def step(self, name: str, keys: Sequence[bytes], args: Sequence[bytes | str]) -> Any:
        """Run one of our scripts and give its answer."""
        return await self._use(self._run, name, keys, args)

    async def step_then(self, name: str, keys: Sequence[bytes], args: Sequence[bytes | str], then: Command) -> Any:
        """Run one of our scripts and on the same connection one more command; gives both answers."""
        return await self._use(self._run_then, name, keys, args, then)

    async def _run_then(
        self, talk: Talk, name: str, keys: Sequence[bytes], args: Sequence[bytes | str], then: Command
    ) -> Any:
        return await self._run(talk, name, keys, args), await talk.ask(*then)

    async def _run(self, talk: Talk, name: str, keys: Sequence[bytes], args: Sequence[bytes | str]) -> Any:
        found = script(name, self.flags)
        try:
            return await talk.ask(b"EVALSHA", found.sha, len(keys), *keys, *args)
        except ResponseError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
            # Flushed, or never seen by this server: it learns the step by doing it.
            return await talk.ask(b"EVAL", found.text, len(keys), *keys, *args)

    async def ask(self, *command: bytes | str | int) -> Any:
        """Send one command and give its answer."""
        return await self._use(Talk.ask, *command)

    def let_go(self) -> None:
        """Drop all connections that are not in use."""
        for talk in self._free:
            talk.drop()
        self._free.clear()

    async def close(self) -> None:
        """Let go of the connections; those in use are let go of when their step is over."""
        self._closed = True
        self.let_go()

    async def _use(self, ask: Callable[..., Awaitable[Any]], *its: Any) -> Any:
        """Ask over a connection of one's own, with a deadline; what disturbs it is told in our words."""
        try:
            async with asyncio.timeout(self.location.timeout), self._room:
                talk = self._take() or await self.dialer.dial()
                try:
                    answer = await ask(talk, *its)
                except ResponseError as error:
                    # An answer like any other; the server of before may be the wrong one from here on, though.
                    self._give_back(talk, whole=not has_moved(error))
                    raise
                except BaseException:
                    self._give_back(talk, whole=False)
                    raise
                self._give_back(talk, whole=True)
                return answer
        except (RedisError, OSError, TimeoutError) as error:
            if has_moved(error):
                self._look_again()
            raise translate(error, self.location) from error
        except RuntimeError as error:
            if "Event loop is closed" in str(error):
                raise StoreUnavailable("the event loop of this store has ended; make one store per loop") from error
            raise

    def _take(self) -> Talk | None:
        while self._free:
            talk = self._free.pop()
            if talk.usable:
                return talk
            talk.drop()
        return None

    def _give_back(self, talk: Talk, *, whole: bool) -> None:
        if whole and not self._closed:
            self._free.append(talk)
        else:
            talk.drop()

    def _look_again(self) -> None:
        self.dialer.look_again()
        self.let_go()
